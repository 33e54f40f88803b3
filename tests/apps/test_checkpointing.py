"""Runs that are stopped within an epoch, diverge, or run out of disk."""

import errno
import io
import json
import os
import pathlib
import shutil
import signal
import sys

import keras
import numpy as np
import pytest

from apps import callbacks
from apps import training
from apps import workdir
from keras_neokd import data
from keras_neokd.training import checkpoints
from keras_neokd.training.callbacks import STOPPED_STATUS
from keras_neokd.training.callbacks import Checkpoints
from keras_neokd.training.callbacks import Diverged
from tests.apps.tiny import tiny_config
from tests.apps.tiny import without_time


def config_of(**train):
    config = tiny_config()
    config.train.update({"checkpoint_seconds": 0.0, **train})
    return config


def at_batch(monkeypatch, epoch, batch, action):
    """Do something after a batch, once its checkpoint is written."""
    seen = {}

    def on_epoch_begin(self, number, logs=None):
        seen["epoch"] = number

    def on_train_batch_end(self, number, logs=None):
        if (seen["epoch"], number) == (epoch, batch):
            action()

    monkeypatch.setattr(callbacks.Progress, "on_epoch_begin", on_epoch_begin)
    monkeypatch.setattr(
        callbacks.Progress, "on_train_batch_end", on_train_batch_end
    )
    monkeypatch.setattr(
        callbacks.Progress, "on_epoch_end", lambda *arguments: None
    )


class Killed(Exception):
    """Stands for a process that ends at the worst moment."""


def kill():
    raise Killed


def weights(path):
    model = keras.saving.load_model(path)
    variables = [*model.weights, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def assert_same_end(run, whole):
    for ours, theirs in zip(
        weights(run.model), weights(whole.model), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert [without_time(row) for row in run.read_history()] == [
        without_time(row) for row in whole.read_history()
    ]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: 3 epochs of 3 batches, dropout in its heads."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    return training.train(config_of(), path)


@pytest.mark.parametrize("batch", [0, 1])
def test_a_run_killed_within_an_epoch_ends_as_if_it_had_not_been(
    whole, batch, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        at_batch(patch, 1, batch, kill)
        with pytest.raises(Killed):
            training.train(config_of(), tmp_path)
    run = training.train(config_of(), tmp_path)
    printed = capsys.readouterr().out
    assert f"after epoch 1 and {batch + 1} batches of the next" in printed
    assert [line for line in printed.splitlines() if "Epoch" in line] == [
        f"Epoch 2/3, the last {2 - batch} of 3 batches",
        "Epoch 3/3",
    ]
    assert_same_end(run, whole)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_ends_with_status_75(
    whole, number, tmp_path, monkeypatch, capfd
):
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        # After the checkpoint of the first batch: the second one is finished.
        at_batch(patch, 1, 0, lambda: os.kill(os.getpid(), number))
        with pytest.raises(SystemExit) as stopped:
            training.train(config_of(checkpoint_seconds=1e6), tmp_path)
    assert stopped.value.code == STOPPED_STATUS == 75
    assert signal.getsignal(number) is before
    said = capfd.readouterr().err
    assert number.name in said
    assert "goes on in epoch 2 after 2 batches" in said
    newest = checkpoints.CheckpointFolder(tmp_path / "checkpoints").newest()
    assert newest.position == (1, 2)
    assert_same_end(training.train(config_of(), tmp_path), whole)


class Interrupted(io.RawIOBase):
    """An output; while epoch 2 is printed, a signal comes."""

    def writable(self):
        return True

    def write(self, data):
        if b"Epoch 2" in bytes(data):
            os.kill(os.getpid(), signal.SIGTERM)
        return len(data)


def test_a_signal_in_the_middle_of_a_print_is_heard(tmp_path, monkeypatch):
    """There, Python refuses to print anything else."""
    output = io.TextIOWrapper(
        io.BufferedWriter(Interrupted()), line_buffering=True
    )
    monkeypatch.setattr(sys, "stdout", output)
    with pytest.raises(SystemExit) as stopped:
        training.train(config_of(), tmp_path)
    assert stopped.value.code == 75
    newest = checkpoints.CheckpointFolder(tmp_path / "checkpoints").newest()
    assert newest.position == (1, 1)


def test_ctrl_c_twice_ends_at_once(tmp_path, monkeypatch):
    """Also where apps.sweep has passed the first one on as a SIGTERM."""

    def interrupt():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            os.kill(os.getpid(), number)

    at_batch(monkeypatch, 0, 0, interrupt)
    with pytest.raises(KeyboardInterrupt):
        training.train(config_of(), tmp_path)


def test_a_signal_in_the_last_batch_is_heard_after_the_epoch(
    whole, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        at_batch(patch, 0, 2, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit):
            training.train(config_of(), tmp_path)
    newest = checkpoints.CheckpointFolder(tmp_path / "checkpoints").newest()
    assert newest.position == (1, 0)
    assert_same_end(training.train(config_of(), tmp_path), whole)


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    whole, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        at_batch(patch, 1, 1, kill)
        with pytest.raises(Killed):
            training.train(config_of(), tmp_path)
    newest = max(tmp_path.joinpath("checkpoints").glob("epoch_*"))
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    folder = checkpoints.CheckpointFolder(tmp_path / "checkpoints")
    with pytest.warns(UserWarning, match="damaged"):
        assert folder.newest().position == (1, 1)
    assert_same_end(training.train(config_of(), tmp_path), whole)


# Checkpoints of another run.


def identity_of(path, change):
    """Return what a run is, and write a checkpoint of a changed one there."""
    config = config_of()
    facts = {"number of train images": 48, "train labels": 7}
    identity = workdir.Workdir(path).identity(config, facts)
    state = {
        "run/identity": np.array(json.dumps({**identity, **change})),
    }
    folder = checkpoints.CheckpointFolder(path / "checkpoints")
    return folder, identity, state


def begin(folder, identity):
    return Checkpoints(folder.path, identity=identity)


def test_the_own_checkpoint_is_taken(tmp_path):
    folder, identity, state = identity_of(tmp_path, {})
    folder.write(state, checkpoints.Position(1, 2), score=0.5)
    assert begin(folder, identity).position == (1, 2)
    assert begin(folder, identity).best().position == (1, 2)


@pytest.mark.parametrize("is_best", [False, True])
@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"train.seed": 1}, "train.seed: there 1, now 0"),
        ({"train labels": 8}, "train labels: there 8, now 7"),
        ({"backend": "other"}, 'backend: there "other", now "'),
        (
            {"SHA-256 of model.weights": "ab"},
            'SHA-256 of model.weights: there "ab", now null',
        ),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_what_differs(
    change, difference, is_best, tmp_path
):
    folder, identity, state = identity_of(tmp_path, change)
    folder.write(state, checkpoints.Position(1, 2), score=0.5)
    for path in folder.path.glob("epoch_*" if is_best else "best_*"):
        path.unlink()
    (path,) = folder.path.iterdir()
    with pytest.raises(ValueError) as error:
        begin(folder, identity)
    message = str(error.value)
    assert message.startswith(f"The checkpoint {path} is of another run:")
    assert difference in message
    assert "give another folder" in message
    assert message.count(": there ") == 1
    # It may be somebody's only one.
    assert path.exists()


@pytest.mark.parametrize(
    "identity", [{}, {"run/identity": np.array("[]")}, {"run/identity": 1}]
)
def test_a_checkpoint_that_says_of_no_run_is_refused(identity, tmp_path):
    folder, ours, state = identity_of(tmp_path, {})
    del state["run/identity"]
    folder.write({**state, **identity}, checkpoints.Position(1))
    message = "does not say of which run.*earlier version.*another folder"
    with pytest.raises(ValueError, match=message):
        begin(folder, ours)


def test_what_may_change_when_a_run_goes_on_is_not_compared(tmp_path):
    changed = config_of(
        checkpoint_seconds=7.0,
        checkpoints_kept=9,
    )
    changed.data.dir = "elsewhere"  # A known data set.
    run = workdir.Workdir(tmp_path)
    assert run.identity(changed, {}) == run.identity(config_of(), {})


def test_training_refuses_the_checkpoint_of_another_seed(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        at_batch(patch, 0, 0, kill)
        with pytest.raises(Killed):
            training.train(config_of(seed=1), tmp_path / "other")
    workdir.Workdir(tmp_path / "mine").begin(config_of(), None)
    shutil.move(tmp_path / "other" / "checkpoints", tmp_path / "mine")
    with pytest.raises(
        ValueError, match=r"another run:\n  train.seed: there 1"
    ):
        training.train(config_of(), tmp_path / "mine")
    assert not (tmp_path / "mine" / "model.keras").exists()


# Bad disks.


def fill_the_disk(patch):
    def full(path, *arguments):
        path.write_bytes(b"what there was room for")
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(checkpoints, "_write", full)
    patch.setattr(pathlib.Path, "write_text", full)


def make_read_only(patch):
    """As a file system that the system no longer trusts."""

    def read_only(path, **options):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    patch.setattr(pathlib.Path, "touch", read_only)


REASONS = {
    fill_the_disk: [
        "There is no room for ",
        "epoch_00001_batch_000000.npz: No space left on device; ",
        "history.jsonl: No space left on device; ",
    ],
    make_read_only: ["Read-only file system"],
}


@pytest.mark.parametrize("fault", REASONS)
def test_a_folder_that_takes_no_more_does_not_end_training(
    whole, fault, tmp_path, monkeypatch, capsys
):
    write = checkpoints._write
    with monkeypatch.context() as patch:
        at_batch(patch, 0, 1, lambda: fault(patch))
        patch.setattr(training, "_finish", lambda *arguments: kill())
        with pytest.raises(Killed):
            training.train(config_of(), tmp_path)
    printed = capsys.readouterr().out
    assert "no checkpoint could be written" in printed
    assert "the history could not be written" in printed
    assert all(reason in printed for reason in REASONS[fault])
    assert checkpoints._write is write
    folder = checkpoints.CheckpointFolder(tmp_path / "checkpoints")
    assert folder.newest().position == (0, 2)
    assert not [*tmp_path.rglob(".unfinished*")]
    assert_same_end(training.train(config_of(), tmp_path), whole)


def test_stopping_on_a_full_disk_says_where_the_run_goes_on(
    tmp_path, monkeypatch, capsys
):
    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:

        def fill_and_stop():
            patch.setattr(checkpoints, "_write", full)
            os.kill(os.getpid(), signal.SIGTERM)

        at_batch(patch, 1, 0, fill_and_stop)
        with pytest.raises(SystemExit):
            training.train(config_of(), tmp_path)
    assert "goes on in epoch 2 after 1 batches" in capsys.readouterr().err


def test_a_batch_that_cannot_be_made_loses_nothing(
    whole, tmp_path, monkeypatch
):
    """A damaged image, say, which is then mended."""
    original = data.TrainingBatches._make

    def fail(self, epoch, order, pick, index):
        if (epoch, index) == (1, 2):
            raise ValueError("7.png is no image")
        return original(self, epoch, order, pick, index)

    with monkeypatch.context() as patch:
        patch.setattr(data.TrainingBatches, "_make", fail)
        with pytest.raises(ValueError, match="^7.png is no image$"):
            training.train(config_of(checkpoint_seconds=1e9), tmp_path)
    folder = checkpoints.CheckpointFolder(tmp_path / "checkpoints")
    by_tensorflow = keras.config.backend() == "tensorflow"
    assert folder.newest().position == ((1, 0) if by_tensorflow else (1, 2))
    assert_same_end(training.train(config_of(), tmp_path), whole)


# Divergence.


def poison(name):
    """Make a weight NaN before the next step."""

    def callback(model):
        weight = model.get_layer(name).bias
        weight.assign(weight * np.nan)

    return callback


def diverge_in_second_epoch(monkeypatch):
    """Break a weight at the start of epoch 2."""
    original = Checkpoints.begin

    def begin(self, model, epoch):
        original(self, model, epoch)
        if epoch == 1:
            poison("exit_2")(model)

    monkeypatch.setattr(Checkpoints, "begin", begin)


def test_divergence_stops_and_keeps_the_good_checkpoint(
    whole, tmp_path, monkeypatch
):
    with monkeypatch.context() as patch:
        diverge_in_second_epoch(patch)
        with pytest.raises(Diverged) as error:
            training.train(config_of(), tmp_path)
    message = str(error.value)
    assert "epoch 2" in message
    # Which exit, which term; what comes before exit 2 is sound.
    assert "exit_2_clean_loss" in message
    assert "exit_1_clean_loss" not in message
    folder = checkpoints.CheckpointFolder(tmp_path / "checkpoints")
    assert folder.newest().position == (1, 0)
    assert [
        row["epoch"] for row in workdir.Workdir(tmp_path).read_history()
    ] == [0]
    assert_same_end(training.train(config_of(), tmp_path), whole)


@pytest.mark.parametrize("seconds", [0.0, 1e6], ids=["within", "at the end"])
def test_the_variable_that_broke_is_named_where_the_loss_is_sound(
    seconds, tmp_path, monkeypatch
):
    """A statistic, say, that training does not use."""
    original = checkpoints.training_state

    def state_of(model, with_metrics):
        state = original(model, with_metrics)
        (name,) = [
            name
            for name, path in checkpoints.variable_paths(model).items()
            if path == "exit_2/bias"
        ]
        return {**state, name: state[name] * np.nan}

    monkeypatch.setattr(checkpoints, "training_state", state_of)
    with pytest.raises(
        Diverged, match=r"in epoch 1: the variable exit_2/bias \(model/0"
    ):
        training.train(config_of(checkpoint_seconds=seconds), tmp_path)
    assert not (tmp_path / "checkpoints").exists()


# The best.


def test_the_best_by_validation_is_kept_beside_the_last(tmp_path, monkeypatch):
    config = config_of(validation="attack")
    config.data.validation_size = 16
    scores = iter([0.5, 0.75, 0.25])
    original = Checkpoints.on_epoch_end
    states = []

    def on_epoch_end(self, epoch, logs=None):
        logs = {**logs, "val_adversarial_accuracy": next(scores)}
        states.append(
            [keras.ops.convert_to_numpy(each) for each in self.model.weights]
        )
        original(self, epoch, logs)

    monkeypatch.setattr(Checkpoints, "on_epoch_end", on_epoch_end)
    run = training.train(config, tmp_path)
    for path, state in ((run.best_model, states[1]), (run.model, states[2])):
        model = keras.saving.load_model(path)
        for weight, expected in zip(model.weights, state, strict=True):
            np.testing.assert_array_equal(
                keras.ops.convert_to_numpy(weight), expected
            )


def test_without_attacked_validation_images_none_is_best(whole):
    assert not whole.best_model.exists()
