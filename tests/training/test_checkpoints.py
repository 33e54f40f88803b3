"""Checkpoints: whole or not there, verified, the last few and the best."""

import errno
import io
import os
import zipfile

import keras
import numpy as np
import pytest

from keras_neokd.base import writing
from keras_neokd.data import files
from keras_neokd.training import checkpoints
from keras_neokd.training.checkpoints import CheckpointFolder
from keras_neokd.training.checkpoints import Position
from tests import arrays
from tests.training import tiny


def state_of(number):
    return {"model/00000": np.full((3, 2), number, "float32")}


@pytest.fixture
def folder(tmp_path):
    return CheckpointFolder(tmp_path / "checkpoints", num_kept=2)


def names(folder):
    return sorted(path.name for path in folder.path.iterdir())


def test_the_newest_is_found_wherever_it_was_made(folder):
    assert folder.newest() is None
    for number, position in enumerate([(0, 5), (1, 0), (1, 12)]):
        folder.write(state_of(number), Position(*position))
        found = folder.newest()
        assert found.position == position
        arrays.equal(
            found.state["model/00000"], state_of(number)["model/00000"]
        )


def test_the_last_few_are_kept(folder):
    for batch in range(5):
        folder.write(state_of(batch), Position(0, batch))
    kept = [name.split("_")[3] for name in names(folder)]
    assert kept == ["000003", "000004"]


def test_the_best_is_kept_besides(folder):
    for epoch, score in enumerate([0.25, 0.75, 0.5, None, 0.75, 0.125]):
        folder.write(state_of(epoch), Position(epoch), score)
    assert folder.best().position == (1, 0)
    assert folder.best_score() == 0.75
    arrays.equal(folder.best().state["model/00000"], state_of(1)["model/00000"])
    assert len(names(folder)) == 3


def test_the_best_survives_being_written_again(folder):
    """As after a fall-back, where an epoch is done again bit by bit.

    A third has more digits than the name of the file.
    """
    for _ in range(2):
        folder.write(state_of(1), Position(1), score=1 / 3)
        assert folder.best().position == (1, 0)
    folder.write(state_of(2), Position(2), score=0.25)
    assert folder.best().position == (1, 0)


def test_the_best_replaces_a_copy_of_itself_that_was_damaged(folder):
    folder.write(state_of(1), Position(1), score=0.5)
    (best,) = folder.path.glob("best_*")
    truncate(best)
    with pytest.warns(UserWarning, match="best_.*damaged"):
        assert folder.best() is None
    folder.write(state_of(1), Position(1), score=0.5)
    assert folder.best().position == (1, 0)


def test_nothing_is_removed_before_what_replaces_it_is_on_the_disk(
    folder, monkeypatch
):
    folder.write(state_of(1), Position(0, 1), score=0.25)
    folder.write(state_of(1), Position(0, 2))
    done = []
    fsync, replace = os.fsync, os.replace
    unlink = type(folder.path).unlink

    def name_of(descriptor):
        opened = os.fstat(descriptor)
        for path in (folder.path, *folder.path.iterdir()):
            if os.path.samestat(path.stat(), opened):
                return kind_of(path)
        raise AssertionError("Something else was flushed.")

    def kind_of(path):
        name = os.path.basename(path)
        return "new" if name.startswith(".unfinished.") else name

    def note(kind, function, name):
        def noted(first, *arguments, **options):
            if isinstance(first, int) or os.path.exists(first):
                done.append((kind, name(first)))
            return function(first, *arguments, **options)

        return noted

    monkeypatch.setattr(os, "fsync", note("flush", fsync, name_of))
    monkeypatch.setattr(os, "replace", note("rename", replace, kind_of))
    monkeypatch.setattr(
        type(folder.path), "unlink", note("remove", unlink, lambda path: "")
    )
    folder.write(state_of(2), Position(0, 3), score=0.5)
    put_on_disk = [
        ("flush", "new"),
        ("rename", "new"),
        ("flush", "checkpoints"),
    ]
    assert done == [
        *put_on_disk,
        ("remove", ""),  # The best before.
        *put_on_disk,
        ("remove", ""),  # The oldest.
    ]


def test_writing_the_same_position_again_replaces_it(folder):
    folder.write(state_of(1), Position(3))
    folder.write(state_of(1), Position(3))
    assert len(names(folder)) == 1


@pytest.mark.parametrize("numbers", [(1, 2), (2, 1)])
def test_of_two_of_one_position_the_later_counts(folder, numbers):
    """A kill between writing one and removing the other leaves both."""
    earlier, later = numbers
    folder.write(state_of(earlier), Position(3))
    (first,) = folder.path.iterdir()
    content, written = first.read_bytes(), first.stat().st_mtime_ns
    folder.write(state_of(later), Position(3))
    first.write_bytes(content)
    os.utime(first, ns=(written, written))
    assert len(names(folder)) == 2
    arrays.equal(
        folder.newest().state["model/00000"], state_of(later)["model/00000"]
    )


# Damage.


def truncate(path):
    os.truncate(path, path.stat().st_size // 2)


def empty(path):
    path.write_bytes(b"")


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[100] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("damage", [truncate, empty, flip_a_bit])
def test_a_damaged_checkpoint_is_passed_over(folder, damage):
    folder.write(state_of(1), Position(0, 1))
    folder.write(state_of(2), Position(0, 2))
    (newest,) = folder.path.glob("*_000002_*")
    damage(newest)
    with pytest.warns(UserWarning, match="000002.*damaged"):
        found = folder.newest()
    assert found.position == (0, 1)
    # It is out of the way of what is written next.
    folder.write(state_of(3), Position(0, 2))
    assert folder.newest().position == (0, 2)


def fail(error):
    def failing(*arguments, **named):
        raise error

    return failing


def test_one_that_cannot_be_read_is_an_error_and_left_as_it_is(
    folder, monkeypatch
):
    folder.write(state_of(1), Position(0, 1))
    folder.write(state_of(2), Position(0, 2))
    before = names(folder)
    with monkeypatch.context() as patch:
        error = OSError(errno.EIO, "Input/output error")
        patch.setattr(checkpoints, "open", fail(error), raising=False)
        with pytest.raises(OSError, match="000002.*cannot be read.*output err"):
            folder.newest()
    assert names(folder) == before
    assert folder.newest().position == (0, 2)


def test_a_damaged_one_that_cannot_be_renamed_is_passed_over(
    tmp_path, monkeypatch
):
    folder = CheckpointFolder(tmp_path, num_kept=1)
    folder.write(state_of(2), Position(0, 2))
    (damaged,) = folder.path.iterdir()
    truncate(damaged)
    error = OSError(errno.EROFS, "Read-only file system")
    monkeypatch.setattr(type(folder.path), "rename", fail(error))
    with pytest.warns(UserWarning, match="000002.*damaged"):
        assert folder.newest() is None
    # It does not count as a newer one in place of what is written next.
    folder.write(state_of(1), Position(0, 1))
    with pytest.warns(UserWarning, match="000002.*damaged"):
        assert folder.newest().position == (0, 1)


def test_where_all_are_damaged_there_is_none(folder):
    folder.write(state_of(1), Position(0, 1))
    for path in folder.path.iterdir():
        truncate(path)
    with pytest.warns(UserWarning, match="damaged"):
        assert folder.newest() is None


def test_what_does_not_fit_into_memory_is_not_taken_as_damaged(
    folder, monkeypatch
):
    folder.write(state_of(1), Position(0, 1))
    before = names(folder)
    with monkeypatch.context() as patched:
        patched.setattr(files, "physical_memory", lambda: 23)
        with pytest.raises(MemoryError, match=r"000001_.*needs 24 bytes"):
            folder.newest()
    assert names(folder) == before
    assert folder.newest().position == (0, 1)


def test_an_array_that_claims_more_than_is_there_is_damage(folder):
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<f4", "fortran_order": False, "shape": (2**40,)}
    )
    folder.path.mkdir()
    made = folder.path / "made_elsewhere.npz"
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("model/00000.npy", head.getvalue())
    digest = checkpoints._digest(made)
    made.rename(folder.path / f"epoch_00001_batch_000000_{digest}.npz")
    with pytest.warns(UserWarning, match="damaged.*claims an array of 4,398,0"):
        assert folder.newest() is None


@pytest.mark.parametrize("moment", ["write", "rename"])
def test_a_full_disk_leaves_what_was_there(folder, moment, monkeypatch):
    folder.write(state_of(1), Position(0, 1))
    before = names(folder)

    def full(*arguments, **named):
        raise OSError(errno.ENOSPC, "No space left on device")

    name = {"write": "savez", "rename": "replace"}[moment]
    monkeypatch.setattr(
        {"write": checkpoints.np, "rename": writing.os}[moment], name, full
    )
    message = "no room for .*epoch_00000_batch_000002.npz: No space left.*MB"
    with pytest.raises(OSError, match=message):
        folder.write(state_of(2), Position(0, 2))
    assert names(folder) == before
    assert folder.newest().position == (0, 1)


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError):
        CheckpointFolder(tmp_path / "file" / "x").write(
            state_of(1), Position(0, 1)
        )


def test_keeping_none_is_refused(tmp_path):
    with pytest.raises(ValueError, match="num_kept"):
        CheckpointFolder(tmp_path, num_kept=0)


# The state of a model.


def trained(seed=0, steps=2):
    model = tiny.compiled(
        tiny.dense_model(norm=True, dropout=0.5), optimizer=tiny.sgd()
    )
    for step in range(steps):
        model.train_on_batch(*tiny.data(seed=seed + step))
    return model


def test_a_restored_model_goes_on_as_the_other_one():
    model, other = trained(), trained(seed=7)
    keras.utils.set_random_seed(1)
    state = checkpoints.training_state(model)
    expected = model.train_on_batch(*tiny.data(seed=5))
    after = tiny.snapshot(model)
    checkpoints.restore(other, state)
    keras.utils.set_random_seed(1)
    received = other.train_on_batch(*tiny.data(seed=5))
    arrays.equal(received, expected)
    tiny.assert_equal_states(tiny.snapshot(other), after)


def test_without_metrics_they_begin_anew():
    model = trained()
    state = checkpoints.training_state(model, with_metrics=False)
    model.reset_metrics()
    expected = [tiny.array(each) for each in model.metrics_variables]
    checkpoints.restore(model, state)
    tiny.assert_equal_states(model.metrics_variables, expected)


def test_the_state_of_another_model_is_refused_and_changes_nothing():
    model = trained()
    other = tiny.compiled(tiny.dense_model(norm=False), optimizer=tiny.sgd())
    before = tiny.fresh(other)
    names = r"model/0000\d \(dense_\d+/(kernel|bias)\)"
    with pytest.raises(ValueError, match=rf"(?s)of another model.*{names}"):
        checkpoints.restore(other, checkpoints.training_state(model))
    tiny.assert_equal_states(tiny.snapshot(other), before)


def test_weights_in_bfloat16_are_saved_too(folder):
    """Files of NumPy have no such type."""
    model = tiny.compiled(tiny.dense_model(dtype="bfloat16"))
    state = checkpoints.training_state(model)
    weights = [tiny.array(each) for each in model.weights]
    assert "bfloat16" in {str(each.dtype) for each in weights}
    folder.write(state, Position(1))
    model.set_weights([0 * each for each in weights])
    checkpoints.restore(model, folder.newest().state)
    tiny.assert_equal_states(model.weights, weights)
    other = tiny.compiled(tiny.dense_model())
    with pytest.raises(ValueError, match="_bfloat16.*here None"):
        checkpoints.restore(other, state)
