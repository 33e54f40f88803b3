"""Training runs: their files, and going on after an interruption."""

import csv
import dataclasses
import errno
import json
import os

import keras
import numpy as np
import pytest

from apps import building
from apps import callbacks
from apps import run_config
from apps import training
from apps import workdir
from keras_neokd.base import writing
from tests.apps.tiny import Killed
from tests.apps.tiny import assert_same_end
from tests.apps.tiny import assert_same_model
from tests.apps.tiny import kill
from tests.apps.tiny import quick_config
from tests.apps.tiny import tiny_config

LEFT_OVER = ".unfinished.0123456789abcdef"


def train_until(epoch, config, path):
    """Begin a run, and end as a killed process does at the end of an epoch."""

    def on_epoch_end(self, number, logs=None):
        if number == epoch:
            raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(callbacks.Progress, "on_epoch_end", on_epoch_end)
        training.train(config, path)


@pytest.fixture(scope="module")
def flushed():
    """What is on the disk when files of the uninterrupted run are flushed."""
    return []


@pytest.fixture(scope="module")
def finished(tmp_path_factory, flushed):
    """An uninterrupted run of three epochs."""
    config = tiny_config()
    config.data.validation_size = 16
    config.train.validation = "attack"
    config.optimizer.milestones = (2,)
    run = workdir.Workdir(tmp_path_factory.mktemp("runs") / "whole")

    def kind_of(path):
        return "new" if path.name.startswith(".unfinished.") else path.name

    def fsync(descriptor):
        for path in (run.path, *run.path.glob(".unfinished.*.keras")):
            if os.path.samestat(path.stat(), os.fstat(descriptor)):
                there = {kind_of(each) for each in run.path.glob("*.keras")}
                flushed.append((kind_of(path), run.checkpoints.exists(), there))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        training.train(config, run.path)
    return config, run


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """Another one, of a method that compiles quickly."""
    config = quick_config()
    return config, training.train(config, tmp_path_factory.mktemp("quick"))


def test_a_run_leaves_its_files(finished):
    config, run = finished
    written = workdir.flatten(json.loads(run.config.read_text()))
    # Of methods and models, the settings of the names in use.
    assert {"method.neo_kd.nkd_weight", "model.name"} <= set(written)
    assert written == workdir.flatten(config)
    assert workdir.flatten(run_config.read(run)) == written
    backend = keras.config.backend()
    environment = json.loads(run.environment.read_text())
    assert environment["backend"] == backend
    assert {"keras", "keras_neokd", backend} <= set(environment)
    assert environment["crafting_dtype"] == "float32"
    assert run.learning_curves.read_bytes().startswith(b"\x89PNG")
    assert run.model.exists()
    assert not run.checkpoints.exists()


def test_the_history_has_every_epoch_in_both_formats(finished):
    _, run = finished
    rows = run.read_history()
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    rates = [row["learning_rate"] for row in rows]
    assert rates == pytest.approx([0.01, 0.01, 0.001])
    for name in (
        "loss",
        "clean_accuracy",
        "exit_3_adversarial_accuracy",
        "exit_1_nkd_loss",
        "val_exit_2_adversarial_accuracy",
    ):
        assert all(np.isfinite(row[name]) for row in rows)
    with open(run.history_table, newline="") as file:
        table = list(csv.DictReader(file))
    assert [
        {name: float(value) for name, value in row.items()} for row in table
    ] == rows


def test_averages_of_every_example_survive_an_interruption(tmp_path):
    config = tiny_config("teat")
    whole = training.train(config, tmp_path / "whole")
    # In the second of three epochs the averages begin to move.
    train_until(1, config, tmp_path / "killed")
    run = training.train(config, tmp_path / "killed")
    assert_same_model(run, whole)
    ours, theirs = (averages(each) for each in (run, whole))
    np.testing.assert_array_equal(ours, theirs)
    assert ours.any(axis=(1, 2)).all()


def averages(run):
    model = keras.saving.load_model(run.model)
    (variable,) = model.training_step.state.values()
    return keras.ops.convert_to_numpy(variable)


def test_half_a_checkpoint_does_not_count(finished, tmp_path):
    config, whole = finished
    train_until(1, config, tmp_path)
    run = workdir.Workdir(tmp_path)
    assert not run.is_finished
    # As if the process had ended within the checkpoint of epoch 2 and the row
    # of epoch 3: neither counts.
    (newest,) = run.checkpoints.glob("epoch_00002_*")
    newest.rename(run.checkpoints / f"{LEFT_OVER}.npz")
    (tmp_path / f"{LEFT_OVER}.keras").write_text("half a model")
    with run.history.open("a") as file:
        file.write('{"epoch": 2, "lo')
    training.train(config, tmp_path)
    assert not [*tmp_path.glob(".unfinished*")]
    assert_same_end(run, whole)


def test_a_run_whose_history_could_not_be_written_ends_with_its_model(
    quick, tmp_path, monkeypatch, capsys
):
    config, whole = quick
    write_text = writing.write_text

    def full(path, text):
        if path.name.startswith("history"):
            raise OSError(errno.ENOSPC, "No space left on device")
        write_text(path, text)

    monkeypatch.setattr(writing, "write_text", full)
    run = training.train(config, tmp_path)
    printed = capsys.readouterr().out
    assert "the history could not be written" in printed
    assert "Trained for" in printed
    assert run.read_history() == []
    assert_same_model(run, whole)


def test_checkpoints_are_removed_when_the_model_is_on_the_disk(
    finished, flushed
):
    _, run = finished
    done, written = {"best.keras", "model.keras"}, "new"
    assert flushed[-2:] == [
        (written, True, {"best.keras", written}),
        (run.path.name, True, done),
    ]
    assert (written, True, {written}) in flushed


def test_a_kill_after_the_last_epoch_costs_nothing(
    quick, tmp_path, monkeypatch, capsys
):
    config, whole = quick
    with monkeypatch.context() as patch:
        patch.setattr(training.plots, "learning_curves", kill)
        with pytest.raises(Killed):
            training.train(config, tmp_path)
    capsys.readouterr()
    run = training.train(config, tmp_path)
    printed = capsys.readouterr().out
    assert "after epoch 3" in printed
    assert "Epoch" not in printed
    assert_same_end(run, whole)


def test_a_finished_run_is_left_alone(finished, capsys):
    config, run = finished
    before = run.model.stat().st_mtime_ns
    training.train(config, run.path)
    assert "is finished" in capsys.readouterr().out
    assert run.model.stat().st_mtime_ns == before


def test_another_config_is_refused_with_the_keys_that_differ(finished):
    config, run = finished
    other = config.copy_and_resolve_references()
    other.train.epochs = 5
    other.attack.epsilon = 0.1
    with pytest.raises(ValueError) as error:
        training.train(other, run.path)
    message = str(error.value)
    assert "train.epochs: there 3, now 5" in message
    assert "attack.epsilon: there 0.15, now 0.1" in message
    assert "optimizer" not in message


def test_the_same_data_in_another_order_are_refused(tmp_path, monkeypatch):
    config = quick_config()
    train_until(0, config, tmp_path)
    load = building.load_data

    def load_reversed(config, model):
        dataset = load(config, model)
        train = dataset.train
        backwards = dataclasses.replace(
            train, images=train.images[::-1], labels=train.labels[::-1]
        )
        return dataclasses.replace(dataset, train=backwards)

    monkeypatch.setattr(building, "load_data", load_reversed)
    with pytest.raises(ValueError) as error:
        training.train(config, tmp_path)
    assert "trained on other data" in str(error.value)
    assert "train labels: there" in str(error.value)
    assert "validation" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "may_move"), [("digits", True), ("npz", False)]
)
def test_known_data_may_move_but_images_of_ones_own_may_not(
    name, may_move, tmp_path
):
    """Others may well have the same number of images and the same labels."""
    config = tiny_config()
    config.data.name, config.data.dir = name, "here"
    run = workdir.Workdir(tmp_path)
    run.begin(config, None)
    config.data.dir = "there"
    if may_move:
        run.check(config)
        return
    with pytest.raises(ValueError, match='data.dir: there "here", now "there"'):
        run.check(config)


def test_a_run_of_before_attacks_could_be_in_16_bits_is_one_of_float32(
    tmp_path,
):
    config = tiny_config()
    run = workdir.Workdir(tmp_path)
    run.begin(config, None)
    recorded = json.loads(run.config.read_text())
    del recorded["train"]["crafting_dtype"]
    workdir.write_json(run.config, recorded)
    run.check(config)
    assert run_config.read(run).train.crafting_dtype == "float32"
    assert run.crafting_dtype is None
    config.train.crafting_dtype = "bfloat16"
    with pytest.raises(ValueError, match='there "float32", now "bfloat16"'):
        run.check(config)


def test_another_backend_is_refused(tmp_path):
    config = tiny_config()
    run = workdir.Workdir(tmp_path)
    run.begin(config, None)
    record = json.loads(run.environment.read_text())
    workdir.write_json(run.environment, {**record, "backend": "other"})
    with pytest.raises(ValueError, match='backend: there "other", now'):
        training.train(config, tmp_path)


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="not empty and holds no run"):
        training.train(tiny_config(), tmp_path)


def test_a_kill_before_the_config_was_written_does_not_lock_the_folder(
    tmp_path,
):
    config = tiny_config()
    run = workdir.Workdir(tmp_path)
    workdir.write_json(run.environment, {"backend": "of the killed run"})
    run.check(config)
    run.begin(config, None)
    run.check(config)


def test_a_folder_that_cannot_be_written_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="Cannot write to .*is not a folder"):
        training.train(tiny_config(), tmp_path / "file" / "run")


def test_a_folder_without_permission_is_refused(tmp_path, monkeypatch):
    """Root may write anywhere, so that modes would show nothing."""
    monkeypatch.setattr(
        os, "access", lambda path, mode: path != tmp_path or not mode & os.W_OK
    )
    with pytest.raises(PermissionError) as error:
        training.train(tiny_config(), tmp_path / "run")
    assert f"no permission to write in {tmp_path}. Give" in str(error.value)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("checkpoint_seconds", -1.0, "needs a finite number >= 0"),
        ("checkpoint_seconds", float("nan"), "needs a finite number >= 0"),
        ("checkpoints_kept", 0, "needs an integer >= 1"),
    ],
)
def test_settings_for_bad_days_are_checked_at_the_start(
    name, value, message, tmp_path
):
    config = tiny_config()
    config.train[name] = value
    with pytest.raises(ValueError, match=f"`train.{name}`.*{message}"):
        training.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_missing_data_leave_no_folder_behind(tmp_path):
    config = tiny_config()
    config.data.update({"name": "mnist", "dir": str(tmp_path / "nowhere")})
    with pytest.raises(FileNotFoundError, match="nowhere"):
        training.train(config, tmp_path / "run")
    assert not (tmp_path / "run").exists()
