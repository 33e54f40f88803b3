"""Training that is stopped within an epoch, diverges, or fills a disk.

Tests go on with a compiled model whose variables are as at the start, which
stands for another process.
"""

import errno
import io
import json
import os
import pathlib
import signal
import sys

import keras
import numpy as np
import pytest

from keras_neokd import data
from keras_neokd.training import Checkpoints
from keras_neokd.training import checkpoints
from keras_neokd.training.callbacks import STOPPED_STATUS
from keras_neokd.training.divergence import Diverged
from keras_neokd.training.divergence import check_logs
from tests.training import tiny

IMAGES, LABELS = tiny.data(12)
IDENTITY = {"train.seed": 0, "train labels": 7}


class Killed(Exception):
    """Stands for a process that ends at the worst moment."""


def kill():
    raise Killed


class At(keras.callbacks.Callback):
    """Do something after a batch, or at the start of an epoch."""

    def __init__(self, epoch, batch, action):
        super().__init__()
        self._place, self._action = (epoch, batch), action

    def on_epoch_begin(self, epoch, logs=None):
        self._epoch = epoch
        if self._place == (epoch, None):
            self._action()

    def on_train_batch_end(self, batch, logs=None):
        if self._place == (self._epoch, batch):
            self._action()


@pytest.fixture(scope="module")
def shared():
    model = tiny.compiled(tiny.dense_model(norm=True, dropout=0.5))
    return model, tiny.fresh(model)


def fit(model, folder, *callbacks, seconds=0, epochs=3, **settings):
    """Train on three batches an epoch; callbacks see what is saved."""
    saved = Checkpoints(folder, seconds=seconds, **settings)
    return fit_with(model, [saved, *callbacks], epochs)


def fit_with(model, callbacks, epochs=3):
    split = data.Split(IMAGES, LABELS, np.arange(12))
    return model.fit(
        data.TrainingBatches(split, batch_size=4, seed=3),
        epochs=epochs,
        verbose=0,
        callbacks=callbacks,
    )


def send(number=signal.SIGTERM):
    os.kill(os.getpid(), number)


def stop(model, folder, *callbacks, **settings):
    """Train until a signal ends it."""
    with pytest.raises(SystemExit) as stopped:
        fit(model, folder, *callbacks, stop_on_signals=True, **settings)
    assert stopped.value.code == STOPPED_STATUS == 75


@pytest.fixture(scope="module")
def whole(shared, tmp_path_factory):
    """State and history of an uninterrupted training."""
    model, start = shared
    tiny.restore(model, start)
    history = fit(model, tmp_path_factory.mktemp("whole"))
    return tiny.snapshot(model), history


def assert_goes_on(shared, folder, whole):
    """See that another process ends as if nothing had been interrupted."""
    model, start = shared
    tiny.restore(model, start)
    history = fit(model, folder)
    tiny.assert_equal_states(tiny.snapshot(model), whole[0])
    assert history.epoch == whole[1].epoch[-len(history.epoch) :]
    for name, values in history.history.items():
        assert values == whole[1].history[name][-len(values) :]


def newest(folder):
    return checkpoints.CheckpointFolder(folder).newest().position


@pytest.mark.parametrize(("epoch", "batch"), [(0, 0), (1, 1), (1, 2)])
def test_an_interrupted_training_ends_as_if_it_had_not_been(
    model, shared, whole, epoch, batch, tmp_path
):
    with pytest.raises(Killed):
        fit(model, tmp_path, At(epoch, batch, kill))
    # After the last batch come validation and the end of the epoch.
    assert newest(tmp_path) == (epoch, min(batch + 1, 2))
    assert_goes_on(shared, tmp_path, whole)


def test_what_is_finished_is_put_into_the_model(model, whole, tmp_path):
    finished = Checkpoints(tmp_path)
    for epochs in (2, 3):  # The second call goes on with the first.
        fit_with(model, finished, epochs)
    trained = [tiny.array(each) for each in model.weights]
    model.set_weights([0 * each for each in trained])
    assert fit(model, tmp_path).epoch == []
    tiny.assert_equal_states(model.weights, trained)


@pytest.mark.parametrize(
    ("position", "message"),
    [
        ((3, 0), "after 3 epochs, which epochs=2.*at least epochs=3,"),
        ((2, 1), "after 2 epochs and 1 batches, which.*at least epochs=3,"),
    ],
)
def test_fewer_epochs_than_were_trained_are_refused(
    model, position, message, tmp_path
):
    folder = checkpoints.CheckpointFolder(tmp_path)
    folder.write({}, checkpoints.Position(*position))
    with pytest.raises(ValueError, match=message):
        fit(model, tmp_path, epochs=2)


def test_fewer_batches_than_were_trained_are_refused(model, tmp_path):
    folder = checkpoints.CheckpointFolder(tmp_path)
    folder.write({}, checkpoints.Position(1, 3))
    with pytest.raises(ValueError, match="after 3 batches.*data have 3.*size"):
        fit(model, tmp_path)


# Signals.


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_finishes_the_step_saves_and_ends_with_status_75(
    model, shared, whole, number, tmp_path, capfd
):
    before = signal.getsignal(number)
    # After the checkpoint of the first batch: the second one is finished.
    stop(model, tmp_path, At(1, 0, lambda: send(number)), seconds=1e6)
    assert signal.getsignal(number) is before
    said = capfd.readouterr().err
    assert number.name in said
    assert "goes on in epoch 2 after 2 batches" in said
    assert newest(tmp_path) == (1, 2)
    assert_goes_on(shared, tmp_path, whole)


def test_the_same_callback_goes_on_after_a_signal(model, whole, tmp_path):
    saved = Checkpoints(tmp_path, seconds=1e6, stop_on_signals=True)
    with pytest.raises(SystemExit):
        fit_with(model, [saved, At(1, 0, send)])
    assert fit_with(model, saved).epoch == [1, 2]
    tiny.assert_equal_states(tiny.snapshot(model), whole[0])


def test_a_signal_after_the_last_epoch_is_heard(model, tmp_path):
    """It said that training stops: what follows it must not begin."""
    told = keras.callbacks.LambdaCallback(on_train_end=lambda logs: send())
    stop(model, tmp_path, told, epochs=1)
    assert newest(tmp_path) == (1, 0)


def test_a_signal_is_heard_where_nobody_reads(model, tmp_path, monkeypatch):
    """Ctrl-C has ended the other programs of a pipe, too."""

    class Closed(io.StringIO):
        def write(self, text):
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def write(file, content):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    def interrupt():
        monkeypatch.setattr(os, "write", write)
        monkeypatch.setattr(sys, "stderr", Closed())
        send(signal.SIGINT)

    stop(model, tmp_path, At(0, 0, interrupt))
    assert newest(tmp_path) == (0, 2)


def test_signals_are_left_alone_unless_asked_for(model, tmp_path):
    before, during = signal.getsignal(signal.SIGTERM), []
    see = At(0, 0, lambda: during.append(signal.getsignal(signal.SIGTERM)))
    fit(model, tmp_path, see)
    assert during == [before]


class Interrupted(io.RawIOBase):
    """An output; while epoch 2 is printed, a signal comes."""

    def writable(self):
        return True

    def write(self, data):
        if b"Epoch 2" in bytes(data):
            send()
        return len(data)


def test_a_signal_in_the_middle_of_a_print_is_heard(
    model, tmp_path, monkeypatch
):
    """There, Python refuses to print anything else."""
    output = io.TextIOWrapper(
        io.BufferedWriter(Interrupted()), line_buffering=True
    )
    monkeypatch.setattr(sys, "stdout", output)
    stop(model, tmp_path, At(1, None, lambda: print("Epoch 2")))
    assert newest(tmp_path) == (1, 1)


def test_ctrl_c_twice_ends_at_once(model, tmp_path):
    """Also where apps.sweep has passed the first one on as a SIGTERM."""

    def interrupt():
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            send(number)

    with pytest.raises(KeyboardInterrupt):
        fit(model, tmp_path, At(0, 0, interrupt), stop_on_signals=True)


def test_a_signal_in_the_last_batch_is_heard_after_the_epoch(
    model, shared, whole, tmp_path
):
    stop(model, tmp_path, At(0, 2, send))
    assert newest(tmp_path) == (1, 0)
    assert_goes_on(shared, tmp_path, whole)


# Other data, other models.


def test_arrays_are_saved_after_epochs_only(model, tmp_path, capsys):
    def fit_arrays(*callbacks):
        saved = Checkpoints(tmp_path, seconds=0, stop_on_signals=True)
        return model.fit(
            IMAGES,
            LABELS,
            batch_size=4,
            shuffle=False,
            epochs=2,
            verbose=0,
            callbacks=[saved, *callbacks],
        )

    with pytest.raises(SystemExit):
        fit_arrays(At(1, 0, send))
    assert "goes on in epoch 2 after 0 batches" in capsys.readouterr().err
    assert newest(tmp_path) == (1, 0)
    assert fit_arrays().epoch == [1]


def test_only_training_batches_go_on_within_an_epoch(model, tmp_path):
    with pytest.raises(Killed):
        fit(model, tmp_path, At(0, 1, kill))
    with pytest.raises(ValueError, match="within epoch 1.*TrainingBatches"):
        model.fit(IMAGES, LABELS, callbacks=Checkpoints(tmp_path))


@pytest.mark.parametrize("is_used", [False, True])
def test_other_models_are_refused(model, is_used, tmp_path):
    saved = Checkpoints(tmp_path)
    if is_used:
        fit_with(model, saved, epochs=1)
    other = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    other.compile(loss="mse")
    with pytest.raises(TypeError, match="fit` of a MultiExitModel.*Sequential"):
        other.fit(np.zeros((2, 2)), np.zeros((2, 1)), callbacks=[saved])


@pytest.mark.parametrize("is_scaled", [False, True])
def test_averages_of_weights_are_refused(is_scaled, tmp_path):
    """Keras puts them into the weights at each end of its `fit`."""
    optimizer = keras.optimizers.SGD(0.05, use_ema=True)
    if is_scaled:
        optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
    model = tiny.compiled(tiny.dense_model(), optimizer=optimizer)
    message = "without use_ema, received SGD.*`fit` ends, also within an epoch"
    with pytest.raises(ValueError, match=message):
        fit(model, tmp_path)
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("in_list", [False, True])
def test_two_are_refused(model, in_list, tmp_path):
    saved = [Checkpoints(tmp_path / name) for name in ("a", "b")]
    if in_list:
        saved = keras.callbacks.CallbackList(saved)
    message = "`callbacks` needs at most one Checkpoints, received 2"
    with pytest.raises(ValueError, match=message):
        fit_with(model, saved)


def test_one_within_a_list_of_keras_is_found(model, tmp_path):
    saved = keras.callbacks.CallbackList([Checkpoints(tmp_path)])
    fit_with(model, saved, epochs=1)
    assert newest(tmp_path) == (1, 0)


# Checkpoints of another run.


def saved(folder, change, score=0.5):
    """Write a checkpoint of a run with changed facts; return its folder."""
    state = {"run/identity": np.array(json.dumps({**IDENTITY, **change}))}
    written = checkpoints.CheckpointFolder(folder)
    written.write(state, checkpoints.Position(1, 2), score)
    return written


@pytest.mark.parametrize(
    ("more", "written"),
    # What JSON makes of it is the same.
    [({}, {}), ({"s": (1, 2), 3: np.float64(0.1)}, {"s": [1, 2], "3": 0.1})],
)
def test_the_own_checkpoint_is_taken(more, written, tmp_path):
    saved(tmp_path, written)
    found = Checkpoints(tmp_path, identity={**IDENTITY, **more})
    assert found.position == (1, 2)
    assert found.best().position == (1, 2)


@pytest.mark.parametrize(
    "identity",
    [{"a": object()}, {"a": {1}}, {"a": np.nan}, {(1, 2): 3}, [["a", 1]], "a"],
)
def test_an_identity_that_json_does_not_have_is_refused(identity, tmp_path):
    message = "`identity` needs a flat dict of plain values that JSON has"
    with pytest.raises(TypeError, match=message):
        Checkpoints(tmp_path, identity=identity)


def test_a_monitor_that_is_no_name_is_refused(tmp_path):
    with pytest.raises(TypeError, match="`monitor` needs the name.*or None"):
        Checkpoints(tmp_path, monitor=["clean_accuracy"])


@pytest.mark.parametrize("is_best", [False, True])
@pytest.mark.parametrize(
    ("change", "difference"),
    [
        ({"train.seed": 1}, "train.seed: there 1, now 0"),
        ({"SHA-256": "ab"}, 'SHA-256: there "ab", now null'),
    ],
)
def test_a_checkpoint_of_another_run_is_refused_with_what_differs(
    change, difference, is_best, tmp_path
):
    folder = saved(tmp_path, change)
    for path in folder.path.glob("epoch_*" if is_best else "best_*"):
        path.unlink()
    (path,) = folder.path.iterdir()
    with pytest.raises(ValueError) as error:
        Checkpoints(tmp_path, identity=IDENTITY)
    message = str(error.value)
    assert message.startswith(f"The checkpoint {path} is of another run:")
    assert difference in message
    assert "give another folder" in message
    assert message.count(": there ") == 1
    # It may be somebody's only one.
    assert path.exists()


@pytest.mark.parametrize(
    "state", [{"a": 1}, {"run/identity": np.array("[]")}, {"run/identity": 1}]
)
def test_a_checkpoint_that_says_of_no_run_is_refused(state, tmp_path):
    folder = checkpoints.CheckpointFolder(tmp_path)
    folder.write(state, checkpoints.Position(1))
    message = "does not say of which run.*earlier version.*another folder"
    with pytest.raises(ValueError, match=message):
        Checkpoints(tmp_path, identity=IDENTITY)


# Bad disks.


def fill_the_disk(patch):
    def full(path, *arguments):
        path.write_bytes(b"what there was room for")
        raise OSError(errno.ENOSPC, "No space left on device")

    patch.setattr(checkpoints, "_write", full)


def make_read_only(patch):
    """As a file system that the system no longer trusts."""

    def read_only(path, **options):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    patch.setattr(pathlib.Path, "touch", read_only)


@pytest.mark.parametrize(
    ("fault", "reasons"),
    [
        (
            fill_the_disk,
            ("There is no room for ", "000000.npz: No space left on device; "),
        ),
        (make_read_only, ("Read-only file system",)),
    ],
)
def test_a_folder_that_takes_no_more_does_not_end_training(
    model, shared, whole, fault, reasons, tmp_path, monkeypatch, capsys
):
    with monkeypatch.context() as patch:
        history = fit(model, tmp_path, At(0, 1, lambda: fault(patch)))
    assert history.epoch == [0, 1, 2]
    printed = capsys.readouterr().out
    assert "no checkpoint could be written" in printed
    assert all(reason in printed for reason in reasons)
    assert newest(tmp_path) == (0, 2)
    assert not [*tmp_path.rglob(".unfinished*")]
    assert_goes_on(shared, tmp_path, whole)


def test_stopping_on_a_full_disk_says_where_the_run_goes_on(
    model, tmp_path, monkeypatch, capsys
):
    def fill_and_stop():
        fill_the_disk(monkeypatch)
        send()

    stop(model, tmp_path, At(1, 0, fill_and_stop))
    assert "goes on in epoch 2 after 1 batches" in capsys.readouterr().err


def test_a_damaged_checkpoint_falls_back_to_the_one_before(
    model, shared, whole, tmp_path
):
    with pytest.raises(Killed):
        fit(model, tmp_path, At(1, 1, kill))
    path = max(tmp_path.glob("epoch_*"))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.warns(UserWarning, match="damaged"):
        assert newest(tmp_path) == (1, 1)
    assert_goes_on(shared, tmp_path, whole)


def test_a_batch_that_cannot_be_made_loses_nothing(
    model, shared, whole, tmp_path, monkeypatch
):
    """A damaged image, say, which is then mended."""
    original = data.TrainingBatches._make_of_epoch

    def fail(self, epoch, order, pick, index):
        if (epoch, index) == (1, 2):
            raise ValueError("7.png is no image")
        return original(self, epoch, order, pick, index)

    with monkeypatch.context() as patch:
        patch.setattr(data.TrainingBatches, "_make_of_epoch", fail)
        with pytest.raises(ValueError, match="^7.png is no image$"):
            fit(model, tmp_path, seconds=1e9)
    by_tensorflow = keras.config.backend() == "tensorflow"
    assert newest(tmp_path) == ((1, 0) if by_tensorflow else (1, 2))
    assert_goes_on(shared, tmp_path, whole)


# Divergence.


def last_bias(model):
    """Return the bias of the last exit, which no other exit sees."""
    return model.trainable_variables[-1]


@pytest.mark.parametrize("seconds", [0, 1e6], ids=["within", "at the end"])
def test_divergence_stops_names_the_term_and_keeps_the_good_checkpoint(
    model, shared, whole, seconds, tmp_path
):
    bias = last_bias(model)
    broken = At(1, None, lambda: bias.assign(bias * np.nan))
    with pytest.raises(Diverged) as error:
        fit(model, tmp_path, broken, seconds=seconds)
    message = str(error.value)
    assert "diverged in epoch 2: " in message
    assert "is NaN or infinite" in message
    assert "exit_3_clean_loss" in message
    if seconds == 0:  # Later steps spread it to exits before it.
        assert "exit_1_clean_loss" not in message
    assert newest(tmp_path) == (1, 0)
    assert_goes_on(shared, tmp_path, whole)


@pytest.mark.parametrize("seconds", [0, 1e6], ids=["within", "at the end"])
def test_the_variable_that_broke_is_named_where_the_loss_is_sound(
    model, seconds, tmp_path, monkeypatch
):
    """A statistic, say, that training does not use."""
    original = checkpoints.training_state
    path = last_bias(model).path

    def state_of(model, with_metrics):
        state = original(model, with_metrics)
        paths = checkpoints.variable_paths(model)
        (name,) = [name for name in state if paths[name] == path]
        return {**state, name: state[name] * np.nan}

    monkeypatch.setattr(checkpoints, "training_state", state_of)
    with pytest.raises(
        Diverged, match=rf"in epoch 1: the variable {path} \(model/0"
    ):
        fit(model, tmp_path, seconds=seconds)
    assert checkpoints.CheckpointFolder(tmp_path).newest() is None


def test_logs_may_hold_arrays():
    check_logs({"loss": 0.5, "of classes": keras.ops.ones(3)}, 0)
    with pytest.raises(Diverged, match="epoch 1: of classes is NaN"):
        check_logs({"loss": 0.5, "of classes": np.array([1, np.nan])}, 0)


# The best.


def test_the_best_by_the_monitored_number_is_kept(model, tmp_path):
    history = fit(model, tmp_path, monitor="clean_accuracy", num_kept=1)
    accuracies = history.history["clean_accuracy"]
    best = checkpoints.CheckpointFolder(tmp_path).best()
    assert best.position == (accuracies.index(max(accuracies)) + 1, 0)
    assert len([*tmp_path.iterdir()]) == 2


def test_a_monitored_number_out_of_range_is_refused(model, tmp_path):
    """A loss, say, of which the best is not the highest."""
    with pytest.raises(ValueError, match=r"in \[0, 1\].*'loss', which is"):
        fit(model, tmp_path, monitor="loss", seconds=1e6)
    assert not [*tmp_path.iterdir()]


def test_without_a_monitor_none_is_best(model, tmp_path):
    fit(model, tmp_path, monitor=None, epochs=1)
    assert Checkpoints(tmp_path).best() is None
    assert newest(tmp_path) == (1, 0)
