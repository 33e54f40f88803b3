"""Keras callbacks of a training run: progress, history, backup."""

import csv
import io
import json
import math
import pathlib
import shutil
import sys
import time

import keras
import numpy as np

from apps import workdir
from keras_neokd import randomness

# Keeps these seeds apart from other uses of the same seed.
_SEED_STREAM = 0x5EED
_SHOWN = ("loss", "clean_accuracy", "adversarial_accuracy")


class Progress(keras.callbacks.Callback):
    """Keras' progress bar with averages over exits instead of every number.

    Where the output is not a terminal, one line per epoch.
    """

    def on_epoch_begin(self, epoch, logs=None):
        """Start a new bar; called by Keras."""
        del logs
        print(f"Epoch {epoch + 1}/{self.params['epochs']}")
        self._is_live = sys.stdout.isatty()
        self._bar = keras.utils.Progbar(
            self.params["steps"],
            verbose=1 if self._is_live else 2,
            stateful_metrics=[*_SHOWN, *(f"val_{name}" for name in _SHOWN)],
        )

    def on_train_batch_end(self, batch, logs=None):
        """Move the bar; called by Keras."""
        # Reading the numbers makes the device wait, so only where it shows.
        if self._is_live:
            self._bar.update(batch + 1, self._shown(logs), finalize=False)

    def on_epoch_end(self, epoch, logs=None):
        """Finish the bar; called by Keras."""
        del epoch
        self._bar.update(self._bar.target, self._shown(logs), finalize=True)

    def _shown(self, logs):
        names = [*_SHOWN, *(f"val_{name}" for name in _SHOWN)]
        return [(name, float(logs[name])) for name in names if name in logs]


class History(keras.callbacks.Callback):
    """Write every number of every epoch, as JSON lines and as CSV.

    A resumed run drops the rows of epochs that it does again.

    Args:
        run: a `workdir.Workdir`.
        num_images: images per epoch.
    """

    def __init__(self, run, num_images):
        super().__init__()
        self._run = run
        self._num_images = num_images
        self._rows = None

    def on_epoch_begin(self, epoch, logs=None):
        """Take up the rows of earlier epochs; called by Keras."""
        del logs
        if self._rows is None:
            rows = self._run.read_history()
            self._rows = [row for row in rows if row["epoch"] < epoch]
        self._start = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Add a row; called by Keras.

        Raises:
            ValueError: if the loss is no longer a number.
        """
        if not math.isfinite(float(logs["loss"])):
            raise ValueError(
                f"The loss of epoch {epoch + 1} is {float(logs['loss'])}: "
                "training diverged. Try a smaller "
                "--config.optimizer.learning_rate, in a new folder."
            )
        seconds = time.monotonic() - self._start
        self._rows.append(
            {
                "epoch": epoch,
                "seconds": round(seconds, 3),
                "images_per_second": round(self._num_images / seconds, 1),
                **{name: float(value) for name, value in logs.items()},
            }
        )
        lines = [json.dumps(row) + "\n" for row in self._rows]
        workdir.write_text(self._run.history, "".join(lines))
        workdir.write_text(self._run.history_table, _table(self._rows))


def _table(rows):
    table = io.StringIO()
    writer = csv.DictWriter(table, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()


class SeedEpochs(keras.callbacks.Callback):
    """Make what PyTorch's own generator draws a function of (seed, epoch).

    Under PyTorch, Keras' dropout draws from the global generator of PyTorch,
    whose state no backup holds. The other backends draw from the states that
    `EpochBackup` stores, and are left alone.

    Args:
        seed: integer from 0 to 2**31 - 1.
    """

    def __init__(self, seed):
        super().__init__()
        self._seed = seed

    def on_epoch_begin(self, epoch, logs=None):
        """Seed the generators; called by Keras."""
        del logs
        if keras.config.backend() == "torch":
            seed = randomness.host_bits(self._seed, _SEED_STREAM, epoch)
            keras.utils.set_random_seed(int(seed))


class EpochBackup(keras.callbacks.BackupAndRestore):
    """Keras' backup of each epoch, made complete and safe against kills.

    Keras stores weights, optimizer and the number of the epoch. The states
    of layers with random generators (dropout), which no weights file holds,
    are added, and a backup takes its final name only when all of it is
    written: whenever the process ends, a whole one is there.

    Args:
        folder: where to keep the backup.
    """

    def __init__(self, folder):
        self._folder = pathlib.Path(folder)
        self._current = self._folder / "current"
        super().__init__(str(self._current), delete_checkpoint=False)

    @property
    def num_epochs(self):
        """Number of epochs that the last backup holds, 0 without one."""
        finished = self._finished()
        return int(finished[-1].name.split("_")[1]) if finished else 0

    def on_train_begin(self, logs=None):
        """Go on from the last backup, if there is one; called by Keras."""
        shutil.rmtree(self._current, ignore_errors=True)
        finished = self._finished()
        if finished:
            shutil.copytree(finished[-1], self._current)
        super().on_train_begin(logs)
        if finished:
            with np.load(self._current / "generators.npz") as states:
                for i, variable in enumerate(self._generators()):
                    variable.assign(states[str(i)])

    def on_epoch_end(self, epoch, logs=None):
        """Write a backup and remove the one before; called by Keras."""
        earlier = self._finished()
        super().on_epoch_end(epoch, logs)
        states = {
            str(i): keras.ops.convert_to_numpy(variable)
            for i, variable in enumerate(self._generators())
        }
        np.savez(self._current / "generators.npz", **states)
        self._current.rename(self._folder / f"epoch_{epoch + 1:05d}")
        for folder in earlier:
            shutil.rmtree(folder)

    def _finished(self):
        return sorted(self._folder.glob("epoch_*"))

    def _generators(self):
        """Return the variables of the model that are not among its weights."""
        weights = {id(weight) for weight in self.model.weights}
        metrics = {id(each) for each in self.model.metrics_variables}
        return [
            variable
            for variable in self.model.variables
            if id(variable) not in weights | metrics
        ]
