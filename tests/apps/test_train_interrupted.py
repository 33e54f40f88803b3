"""Runs that are stopped within an epoch, diverge, or run out of disk.

tests/training/test_callbacks.py has more of it, without the apps.
"""

import errno
import os
import pathlib
import shutil
import signal

import keras
import numpy as np
import pytest

from apps import callbacks
from apps import training
from apps import workdir
from keras_neokd import backend
from keras_neokd.backend import speed
from keras_neokd.training import Checkpoints
from keras_neokd.training import checkpoints
from keras_neokd.training.divergence import Diverged
from tests.apps.tiny import Killed
from tests.apps.tiny import assert_same_end
from tests.apps.tiny import kill
from tests.apps.tiny import quick_config
from tests.apps.tiny import tiny_config


def config_of(make=quick_config, **train):
    config = make()
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

    progress = callbacks.Progress
    monkeypatch.setattr(progress, "on_epoch_begin", on_epoch_begin)
    monkeypatch.setattr(progress, "on_train_batch_end", on_train_batch_end)
    monkeypatch.setattr(progress, "on_epoch_end", lambda *arguments: None)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """An uninterrupted run: 3 epochs of 3 batches, dropout in its heads."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    return training.train(config_of(), path)


@pytest.fixture(scope="module")
def attacked(tmp_path_factory):
    """The same with an attack and a method that draw random numbers."""
    path = tmp_path_factory.mktemp("runs") / "attacked"
    return training.train(config_of(tiny_config), path)


clean_and_attacked = pytest.mark.parametrize(
    ("make", "uninterrupted"),
    [(quick_config, "whole"), (tiny_config, "attacked")],
    ids=["clean", "attacked"],
)


def test_a_run_killed_within_an_epoch_ends_as_if_it_had_not_been(
    attacked, tmp_path, monkeypatch, capsys
):
    config = config_of(tiny_config)
    with monkeypatch.context() as patch:
        at_batch(patch, 1, 0, kill)
        with pytest.raises(Killed):
            training.train(config, tmp_path / "run")
    capsys.readouterr()
    run = training.train(config, tmp_path / "run")
    printed = capsys.readouterr().out
    assert "after epoch 1 and 1 batches of the next" in printed
    assert [line for line in printed.splitlines() if "Epoch" in line] == [
        "Epoch 2/3, the last 2 of 3 batches",
        "Epoch 3/3",
    ]
    assert_same_end(run, attacked)


@clean_and_attacked
def test_a_signal_saves_and_ends_with_status_75(
    make, uninterrupted, request, tmp_path, monkeypatch, capfd
):
    whole = request.getfixturevalue(uninterrupted)
    with monkeypatch.context() as patch:
        at_batch(patch, 1, 0, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(SystemExit) as stopped:
            training.train(config_of(make, checkpoint_seconds=1e6), tmp_path)
    assert stopped.value.code == 75
    assert "goes on in epoch 2 after 2 batches" in capfd.readouterr().err
    assert_same_end(training.train(config_of(make), tmp_path), whole)


def test_a_run_goes_on_in_the_precision_that_auto_came_to(
    tmp_path, monkeypatch, capsys
):
    """Measured again, it would be the other one."""
    monkeypatch.setattr(backend, "convolves_16_bits", lambda: True)

    def measure(seconds_in_bfloat16):
        seconds = {"float32": [1.0], "bfloat16": [seconds_in_bfloat16]}
        monkeypatch.setattr(speed, "seconds_of_passes", lambda: seconds)

    whole = training.train(
        config_of(tiny_config, crafting_dtype="bfloat16"), tmp_path / "whole"
    )
    capsys.readouterr()
    config, path = (
        config_of(tiny_config, crafting_dtype="auto"),
        tmp_path / "killed",
    )
    measure(0.5)
    with monkeypatch.context() as patch:
        at_batch(patch, 1, 0, kill)
        with pytest.raises(Killed):
            training.train(config, path)
    printed = capsys.readouterr().out
    assert "crafting_dtype='auto' is 'bfloat16' here: bfloat16 was" in printed
    assert "made in bfloat16, backend" in printed
    run = workdir.Workdir(path)
    assert workdir.read_json(run.config)["train"]["crafting_dtype"] == "auto"
    assert run.crafting_dtype == "bfloat16"
    measure(2.0)
    assert_same_end(training.train(config, path), whole)
    with pytest.raises(ValueError, match='_dtype: there "auto", now "float32"'):
        training.train(config_of(tiny_config), path)


def test_a_folder_without_a_config_holds_no_precision(tmp_path):
    run = workdir.Workdir(tmp_path)
    run.environment.write_text('{"crafting_dtype": "bfloat16"}')
    assert run.crafting_dtype is None
    run.config.write_text("{}")
    assert run.crafting_dtype == "bfloat16"


def test_models_in_16_bits_are_attacked_in_their_precision(tmp_path, capsys):
    config = config_of(tiny_config, epochs=1, precision="mixed_bfloat16")
    training.train(config, tmp_path / "run")
    assert "made in bfloat16 and float32, backend" in capsys.readouterr().out


def test_errors_name_the_precision_of_attacks_as_the_config_does(tmp_path):
    with pytest.raises(ValueError, match="`train.crafting_dtype` 'half'"):
        training.train(
            config_of(tiny_config, crafting_dtype="half"), tmp_path / "run"
        )
    config = config_of(tiny_config, crafting_dtype="bfloat16")
    config.attack.training_mode = True
    with pytest.raises(ValueError, match="`train.crafting_dtype` cannot be"):
        training.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


# Checkpoints of another run.


def test_a_run_is_its_settings_backend_data_and_files(tmp_path):
    config = config_of()
    config.model.weights = str(tmp_path / "model.keras")
    (tmp_path / "model.keras").write_text("weights")
    facts = {"number of train images": 48, "train labels": 7}
    identity = workdir.Workdir(tmp_path).identity(config, facts)
    assert identity["train.seed"] == 0
    assert identity["train labels"] == 7
    assert identity["backend"] == keras.config.backend()
    # Checkpoints of before it do not have it, and go on.
    assert "train.crafting_dtype" not in identity
    assert identity["SHA-256 of model.weights"] == workdir.text_digest(
        "weights"
    )


def test_what_may_change_when_a_run_goes_on_is_not_compared(tmp_path):
    changed = config_of(checkpoint_seconds=7.0, checkpoints_kept=9)
    changed.data.dir = "elsewhere"  # A known data set.
    with changed.train.unlocked():  # As configs of 0.1.0 have it.
        changed.train.update({"max_rollbacks": 9, "on_divergence": "stop"})
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


# Bad days.


@clean_and_attacked
def test_a_full_disk_does_not_end_training(
    make, uninterrupted, request, tmp_path, monkeypatch, capsys
):
    whole = request.getfixturevalue(uninterrupted)

    def full(path, *arguments):
        path.write_bytes(b"what there was room for")
        raise OSError(errno.ENOSPC, "No space left on device")

    def fill(patch):
        patch.setattr(checkpoints, "_write", full)
        patch.setattr(pathlib.Path, "write_text", full)

    with monkeypatch.context() as patch:
        at_batch(patch, 0, 1, lambda: fill(patch))
        patch.setattr(training, "_finish", kill)
        with pytest.raises(Killed):
            training.train(config_of(make), tmp_path)
    printed = capsys.readouterr().out
    assert "no checkpoint could be written" in printed
    assert "the history could not be written" in printed
    assert "history.jsonl: No space left on device; " in printed
    assert not [*tmp_path.rglob(".unfinished*")]
    assert_same_end(training.train(config_of(make), tmp_path), whole)


def test_a_run_that_diverges_keeps_no_row_of_it(whole, tmp_path, monkeypatch):
    original = Checkpoints.begin

    def begin(self, model, epoch):
        original(self, model, epoch)
        if epoch == 1:
            weight = model.get_layer("exit_2").bias
            weight.assign(weight * np.nan)

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoints, "begin", begin)
        with pytest.raises(Diverged, match="in epoch 2: .*exit_2_clean_loss"):
            training.train(config_of(), tmp_path)
    rows = workdir.Workdir(tmp_path).read_history()
    assert [row["epoch"] for row in rows] == [0]
    assert_same_end(training.train(config_of(), tmp_path), whole)


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
