"""The callback that saves training, stops it in time and goes on with it.

    model.fit(batches, epochs=100, callbacks=[Checkpoints("run")])

Nothing is saved while training diverges. Of several processes all read, the
first one writes, and all stop when one is told to.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.typing import PathLike
from keras_neokd.data.batches import RemainingBatches
from keras_neokd.data.batches import TrainingBatches
from keras_neokd.training import checkpoints
from keras_neokd.training import processes
from keras_neokd.training import run_identity
from keras_neokd.training.divergence import Diverged
from keras_neokd.training.divergence import check_logs
from keras_neokd.training.divergence import check_state

# Exit status of a run that was told to stop and can go on: EX_TEMPFAIL of
# sysexits.h, "try again later".
STOPPED_STATUS = 75
_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Keeps these seeds apart from other uses of the same seed.
_SEED_STREAM = 0x5EED


class Stopped(SystemExit):
    """Training was told to stop; it goes on from a `checkpoints.Position`."""

    def __init__(self, position):
        super().__init__(STOPPED_STATUS)
        with contextlib.suppress(OSError):  # Nobody may read it any more.
            print(
                "Stopped. The same command goes on in epoch "
                f"{position.epoch + 1} after {position.batch} batches.",
                file=sys.stderr,
            )


class Checkpoints(keras.callbacks.Callback):
    """Save training within and after epochs; the same `fit` goes on with it.

    With `data.TrainingBatches`, an interrupted training ends with the weights
    of an uninterrupted one, bit by bit on a CPU. Other data are saved after
    epochs only, and their order has to be a function of the epoch. The state
    of other callbacks is not saved. `initial_epoch` of `fit` counts only where
    the folder holds no checkpoint. Under PyTorch, every step seeds Python,
    NumPy and PyTorch by the seed of `compile`, the epoch and the batch:
    Keras' dropout draws there from a generator that no variable holds.

    Attributes:
        position: `checkpoints.Position` where training is.

    Args:
        folder: folder of this training alone, made with the first checkpoint.
        num_kept: number of newest checkpoints to keep, >= 1. Defaults to 3.
            The best one is kept besides.
        seconds: seconds between two checkpoints within an epoch, >= 0.
            Defaults to 600.
        monitor: name of the logged number in [0, 1] to judge checkpoints by,
            the higher the better; where it is not logged, or `None`, none is
            best. Defaults to `"val_adversarial_accuracy"`.
        identity: flat dict of plain values that JSON has, which a checkpoint
            has to agree with, such as settings; `None` (default) compares
            only shapes and types of variables.
        stop_on_signals: whether SIGTERM and SIGINT (Ctrl-C) finish the step,
            save where the data allow it (else the last epoch counts), and end
            the program with status 75; Ctrl-C twice ends it at once. Defaults
            to False.

    Raises:
        TypeError: if an argument is not as described.
        ValueError: also if a checkpoint in the folder is of another run.

    `fit` raises `Diverged`, a `ValueError` that names the terms of the loss or
    the variable, instead of saving what is NaN or infinite. It raises
    `ValueError` for an optimizer with `use_ema`, for fewer epochs than the
    checkpoint has, for another `crafting_dtype` than it has, and where
    `monitor` is no number in [0, 1].
    """

    def __init__(
        self,
        folder: PathLike,
        num_kept: int = 3,
        seconds: float = 600.0,
        monitor: str | None = "val_adversarial_accuracy",
        identity: dict[str, Any] | None = None,
        stop_on_signals: bool = False,
    ) -> None:
        super().__init__()
        self._folder = checkpoints.CheckpointFolder(folder, num_kept)
        self._seconds = checks.number("seconds", seconds, minimum=0)
        self._monitor = _check_monitor(monitor)
        self._identity = run_identity.plain(identity)
        self._stops = checks.boolean("stop_on_signals", stop_on_signals)
        self._received: set[int] = set()
        self._any_process = processes.AnyProcess()
        self._saved_at: Any = None
        self._is_training = False
        self.best()  # Of another run, it is refused now and not at the end.
        self._find()

    def _find(self):
        """Read the newest checkpoint, for `_restore` to put into a model."""
        self._unrestored = self._read(self._folder.newest)
        self.position = checkpoints.Position(0)
        if self._unrestored is not None:
            self.position = self._unrestored.position
        self._saved = self.position
        processes.agree(
            {
                "epoch to go on in": self.position.epoch,
                "batch to go on after": self.position.batch,
                "checkpoint": self._unrestored and self._unrestored.path.name,
            },
            "All processes need the same folder, on a file system that they "
            "share.",
        )

    def best(self) -> checkpoints.Checkpoint | None:
        """Return the best `checkpoints.Checkpoint`, or `None` without one."""
        return self._read(self._folder.best)

    def _read(self, read):
        # One process after the other: the first renames what is damaged.
        checkpoint = processes.first_alone(read)
        if checkpoint is not None and self._identity is not None:
            run_identity.check(checkpoint, self._identity)
        return checkpoint

    def fit(
        self,
        model: keras.Model,
        fit: Callable[..., Any],
        arguments: dict[str, Any],
    ) -> keras.callbacks.History:
        """Train from the newest checkpoint on, and return the history.

        Args:
            model: the compiled model.
            fit: function that trains as `keras.Model.fit`.
            arguments: its arguments, a dict.
        """
        batches, epochs = arguments["x"], arguments["epochs"]
        _check_optimizer(model)
        if self._saved_at is not None:  # Another `fit` came before.
            self._find()
        # Of an epoch that can be gone on with in its middle; 0 for others.
        self._num_batches = 0
        is_whole = arguments.get("steps_per_epoch") is None
        if isinstance(batches, TrainingBatches) and is_whole:
            self._num_batches = len(batches)
        self._check_position(batches, epochs)
        if self._unrestored is not None:
            run_identity.check_model(self._unrestored, model)
        if self.position == (0, 0):
            self.position = checkpoints.Position(arguments["initial_epoch"])
        begin = keras.callbacks.LambdaCallback(
            on_epoch_begin=lambda epoch, logs: self.begin(model, epoch)
        )
        arguments = {**arguments, "callbacks": [begin, *arguments["callbacks"]]}
        history = None
        try:
            with self._listening():
                for x, first, last in self._parts(batches, epochs):
                    changes = {"x": x, "initial_epoch": first, "epochs": last}
                    history = _joined(history, fit(**{**arguments, **changes}))
                    if model.stop_training:
                        break
                # One may have come after the last epoch was saved.
                self._stop_if_told()
        except Exception as error:
            if error is getattr(batches, "error", None):
                self._rescue()
            raise
        # Where a kill left only the end to do, no epoch did so.
        self._restore(model)
        return history

    def _check_position(self, batches, epochs):
        """Raise `ValueError` if `fit` cannot go on at the checkpoint."""
        epoch, batch = self.position
        if self.position > (epochs, 0):
            within = f" and {batch} batches" if batch else ""
            raise ValueError(
                f"The checkpoint is from after {epoch} epochs{within}, which "
                f"epochs={epochs} does not reach. Give at least "
                f"epochs={epoch + (batch > 0)}, or another folder."
            )
        if batch and not self._num_batches:
            raise ValueError(
                f"The checkpoint is from within epoch {epoch + 1}"
                ", which only data.TrainingBatches without steps_per_epoch can "
                f"go on with; received x={checks.shown(batches)}."
            )
        if batch and batch >= self._num_batches:
            raise ValueError(
                f"The checkpoint is from after {batch} batches of an epoch, "
                f"and these data have {self._num_batches}. Go on with the data "
                "and the batch size that it was made with."
            )

    def _parts(self, batches, epochs):
        """Yield data, first epoch and end of each call of `fit`."""
        epoch, batch = self.position
        if batch:
            yield RemainingBatches(batches, batch), epoch, epoch + 1
            epoch += 1
        yield batches, epoch, epochs

    @contextlib.contextmanager
    def _listening(self):
        """Take signals as a wish to stop, within a `with`."""
        # What is left of an earlier `fit` that was stopped.
        self._received.clear()
        self._any_process = processes.AnyProcess()
        self._saved_at = time.monotonic()
        self._is_training = True
        is_main = threading.current_thread() is threading.main_thread()
        signals = _SIGNALS if self._stops and is_main else ()
        earlier = {each: signal.signal(each, self._receive) for each in signals}
        try:
            yield
        finally:
            self._is_training = False
            for each, handler in earlier.items():
                signal.signal(each, handler)

    def _receive(self, number, frame):
        del frame
        if number == signal.SIGINT and number in self._received:
            raise KeyboardInterrupt  # Twice: the user does not want to wait.
        self._received.add(number)
        # The signal may have come in the middle of a print, which does not
        # allow another one within it.
        said = (
            f"Received {signal.Signals(number).name}: stopping after this "
            "step, or after validation.\n"
        )
        # Ctrl-C ends the other programs of a pipe, such as `tee`, at once.
        with contextlib.suppress(OSError):
            os.write(2, said.encode())

    def _restore(self, model):
        if self._unrestored is not None:
            checkpoints.restore(model, self._unrestored.state)
            self._unrestored = None

    def begin(self, model: keras.Model, epoch: int) -> None:
        """Begin an epoch, in its middle if the checkpoint was made there.

        After Keras has reset the metrics, before others set the learning rate.
        """
        self._restore(model)
        # One that was made after an epoch holds the number of that epoch.
        model.set_epoch(epoch)
        if epoch != self.position.epoch:
            self.position = checkpoints.Position(epoch)
        self._first = self.position.batch

    def on_train_begin(self, logs: Any = None) -> None:
        """See that training goes through `fit` above."""
        if not self._is_training:
            raise TypeError(
                "Checkpoints needs the `fit` of a MultiExitModel, received "
                f"{self.model!r}. keras.callbacks.BackupAndRestore saves "
                "other models."
            )

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Make what PyTorch's generator draws a function of the step."""
        del logs
        if keras.config.backend() == "torch":
            seed = randomness.host_bits(
                self.model.settings.seed,
                _SEED_STREAM,
                self.position.epoch,
                self._first + batch,
            )
            keras.utils.set_random_seed(int(seed))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Save if it is time, and stop if a signal said so."""
        can_save = self._num_batches > 0
        if can_save:
            done = self._first + batch + 1
            self.position = self.position._replace(batch=done)
            if done >= self._num_batches:
                return  # Validation and the end of the epoch follow.
        is_due = can_save and (
            time.monotonic() - self._saved_at >= self._seconds
        )
        is_due, is_told = self._any_process.any(is_due, self._received)
        if can_save and (is_due or is_told):
            self._save(self.position.epoch, logs)
        if is_told:
            raise Stopped(self._saved)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Save, and stop if a signal said so."""
        self.position = checkpoints.Position(epoch + 1)
        self._save(epoch, logs, is_judged=True)
        self._stop_if_told()

    def _stop_if_told(self):
        (is_told,) = self._any_process.any_now(self._received)
        if is_told:
            raise Stopped(self._saved)

    def _rescue(self):
        """Save the batches before one that could not be made.

        Not of several processes, which have not all come as far, nor under
        TensorFlow, where parts of the step that need no images, such as
        drawing a dropout seed, may have run already.
        """
        is_between_steps = (
            processes.num_processes() == 1
            and keras.config.backend() != "tensorflow"
        )
        is_within = 0 < self.position.batch < self._num_batches
        if is_between_steps and is_within and self.position != self._saved:
            # What diverged is noticed when the run goes on.
            with contextlib.suppress(Diverged):
                self._save(self.position.epoch, logs={})

    def _save(self, epoch, logs, is_judged=False):
        # The metrics of a finished epoch begin anew anyway.
        state = checkpoints.training_state(
            self.model, with_metrics=self.position.batch > 0
        )
        check_logs(logs, epoch)
        check_state(state, self.model, epoch)
        score = self._score(logs) if is_judged else None
        if processes.is_first():
            self._write(state, score)
        else:
            self._saved = self.position
        self._saved_at = time.monotonic()

    def _score(self, logs):
        value = logs.get(self._monitor)
        if value is None:
            return None
        value = ops.convert_to_numpy(value)
        if value.ndim or not 0 <= round(float(value), 6) <= 1:
            raise ValueError(
                "`monitor` needs the name of a logged number in [0, 1], the "
                f"higher the better; received {self._monitor!r}, which is "
                f"{checks.shown(value)}. Give the name of an accuracy, or None."
            )
        return float(value)

    def _write(self, state, score):
        state = {**state, **run_identity.state(self._identity, self.model)}
        try:
            self._folder.write(state, self.position, score)
            self._saved = self.position
        except OSError as error:
            # Days of training are worth more than one checkpoint.
            print(
                f"WARNING: no checkpoint could be written ({error}). Training "
                "goes on, and the earlier ones are left."
            )


def _check_monitor(monitor):
    if monitor is None or isinstance(monitor, str):
        return monitor
    raise TypeError(
        "`monitor` needs the name of a logged number or None, received "
        f"{checks.typed(monitor)}."
    )


def _check_optimizer(model):
    """Raise `ValueError` if Keras changes the weights when `fit` ends."""
    optimizer = getattr(model, "optimizer", None)  # Loss scaling wraps one.
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)
    if getattr(optimizer, "use_ema", False):
        raise ValueError(
            "Checkpoints needs an optimizer without use_ema, received "
            f"{type(optimizer).__name__} with use_ema=True. Keras puts the "
            "averages into the weights whenever `fit` ends, also within an "
            "epoch. Leave use_ema out."
        )


def _joined(first, rest):
    """Return the history of two calls of `fit`, one after the other."""
    if first is not None:
        for name, values in first.history.items():
            rest.history[name] = [*values, *rest.history.get(name, ())]
        rest.epoch = [*first.epoch, *rest.epoch]
    return rest
