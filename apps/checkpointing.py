"""The Keras callback that checkpoints a run, and stops it in time.

A checkpoint is written after every epoch, in between every few minutes, and
when the process is told to stop. Nothing is written while training diverges.
Of several processes all read, the first one writes, and all stop when one is
told to.
"""

import contextlib
import json
import os
import signal
import sys
import threading
import time

import keras
import numpy as np

from keras_neokd.training import checkpoints

from . import divergence
from . import processes
from . import workdir

# Exit status of a run that was told to stop and can go on: EX_TEMPFAIL of
# sysexits.h, "try again later".
STOPPED_STATUS = 75
_IDENTITY = "run/identity"
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """Training was told to stop.

    Args:
        position: `checkpoints.Position` that it goes on from: where it was,
            or earlier where no checkpoint could be written.
    """

    def __init__(self, position):
        super().__init__(STOPPED_STATUS)
        print(
            "Stopped. The same command goes on in epoch "
            f"{position.epoch + 1} after {position.batch} batches.",
            file=sys.stderr,
        )


class Checkpointing(keras.callbacks.Callback):
    """Write checkpoints, and begin at the newest.

    Args:
        folder: a `checkpoints.CheckpointFolder`.
        num_batches: batches of a whole epoch.
        seconds: seconds between two checkpoints within an epoch.
        monitor: name of the logged number in [0, 1] to judge checkpoints by,
            the higher the better; where it is not logged, none is best.
        identity: what `Workdir.identity` says of the run.

    Raises:
        ValueError: if a checkpoint in the folder is of another run.
    """

    def __init__(self, folder, num_batches, seconds, monitor, identity):
        super().__init__()
        self._folder = folder
        self._num_batches = num_batches
        self._seconds = seconds
        self._monitor = monitor
        self._identity = identity
        self._received = set()
        self._wishes = processes.Wishes()
        self.best()  # Of another run, it is refused now and not at the end.
        checkpoint = self._read(self._folder.newest)
        self._state, self.position = None, checkpoints.Position(0)
        if checkpoint is not None:
            self._state, self.position = checkpoint.state, checkpoint.position
        self._saved = self.position
        processes.agree(
            {
                "epoch to go on in": self.position.epoch,
                "batch to go on after": self.position.batch,
                "checkpoint": checkpoint and checkpoint.path.name,
            },
            "All processes need the same --workdir, on a file system that "
            "they share.",
        )

    def best(self):
        """Return the best `checkpoints.Checkpoint`, or `None` without one.

        Raises:
            ValueError: if it is of another run.
        """
        return self._read(self._folder.best)

    def _read(self, read):
        # One after the other: the first one renames what is damaged.
        checkpoint = processes.first_alone(read)
        if checkpoint is not None:
            _check_identity(checkpoint, self._identity)
        return checkpoint

    @contextlib.contextmanager
    def listening(self):
        """Take SIGTERM and SIGINT as a wish to stop, within a `with`."""
        self._saved_at = time.monotonic()
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        earlier = {
            each: signal.signal(each, self._receive) for each in _SIGNALS
        }
        try:
            yield
        finally:
            for each, handler in earlier.items():
                signal.signal(each, handler)

    def put_back(self, model):
        """Put the state that was read into the model, once.

        Args:
            model: the compiled model.
        """
        if self._state is not None:
            checkpoints.restore(model, self._state)
            self._state = None

    def begin(self, model, epoch):
        """Begin an epoch, in its middle if the checkpoint was made there.

        To be called after Keras has reset the metrics, and before anything
        looks at the learning rate.

        Args:
            model: the compiled model.
            epoch: 0-based.
        """
        self.put_back(model)
        # One that was made after an epoch holds the number of that epoch.
        model.set_epoch(epoch)
        if epoch != self.position.epoch:
            self.position = checkpoints.Position(epoch)
        self._first = self.position.batch

    def on_train_batch_end(self, batch, logs=None):
        """Write a checkpoint if it is time; called by Keras.

        Raises:
            Stopped: if a signal told the process to stop.
            divergence.Diverged: instead of writing what is no number.
        """
        done = self._first + batch + 1
        self.position = self.position._replace(batch=done)
        if done >= self._num_batches:
            return  # Validation and the end of the epoch follow.
        due = time.monotonic() - self._saved_at >= self._seconds
        is_due, is_told = self._wishes.any(due, self._received)
        if is_due or is_told:
            self._save(self.position.epoch, logs)
        if is_told:
            raise Stopped(self._saved)

    def rescue(self):
        """Write a checkpoint of the batches before one that could not be made.

        Not of several processes, which have not all come as far, nor under
        TensorFlow, where parts of the step that need no images, such as
        drawing a dropout seed, may have run already.
        """
        is_between_steps = (
            processes.num_processes() == 1
            and keras.config.backend() != "tensorflow"
        )
        is_within = 0 < self.position.batch < self._num_batches
        is_new = self.position != self._saved
        if is_between_steps and is_within and is_new:
            # What diverged is noticed when the run goes on.
            with contextlib.suppress(divergence.Diverged):
                self._save(self.position.epoch, logs={})

    def on_epoch_end(self, epoch, logs=None):
        """Write a checkpoint; called by Keras.

        Raises:
            Stopped, divergence.Diverged: as `on_train_batch_end`.
        """
        self.position = checkpoints.Position(epoch + 1)
        self._save(epoch, logs, score=logs.get(self._monitor))
        (is_told,) = self._wishes.any_now(self._received)
        if is_told:
            raise Stopped(self._saved)

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
        os.write(2, said.encode())

    def _save(self, epoch, logs, score=None):
        # The metrics of a finished epoch begin anew anyway.
        state = checkpoints.training_state(
            self.model, with_metrics=self.position.batch > 0
        )
        divergence.check_logs(logs, epoch)
        paths = checkpoints.variable_paths(self.model)
        divergence.check_state(state, paths, epoch)
        if processes.is_first():
            self._write(state, score)
        else:
            self._saved = self.position
        self._saved_at = time.monotonic()

    def _write(self, state, score):
        state = {
            **state,
            _IDENTITY: np.array(json.dumps(self._identity)),
        }
        try:
            self._folder.write(state, self.position, score and float(score))
            self._saved = self.position
        except OSError as error:
            # Days of training are worth more than one checkpoint.
            print(
                f"WARNING: no checkpoint could be written ({error}). Training "
                "goes on, and the earlier ones are left."
            )


def _check_identity(checkpoint, identity):
    """Raise `ValueError` if a checkpoint is of another run."""
    try:
        theirs = json.loads(str(checkpoint.state.get(_IDENTITY)))
    except json.JSONDecodeError:
        theirs = None
    if not isinstance(theirs, dict):
        raise ValueError(
            f"The checkpoint {checkpoint.path} does not say of which run it "
            "is: an earlier version of keras_neokd wrote it, or another "
            "program. Finish the run with that version, or begin anew in "
            "another folder."
        )
    workdir.refuse_differences(
        theirs,
        identity,
        f"The checkpoint {checkpoint.path} is of another run",
        "Move it back to its own run, or give another folder with --workdir.",
    )
