"""Keras callbacks of a training run: progress and history."""

import csv
import io
import json
import sys
import time

import keras

from keras_neokd.base import writing
from keras_neokd.training.divergence import check_logs

_SHOWN = ("loss", "clean_accuracy", "adversarial_accuracy")


class Progress(keras.callbacks.Callback):
    """Show Keras' progress bar with averages over exits alone.

    Where the output is not a terminal, one line per epoch.

    Args:
        num_epochs: epochs of the whole run. What is left of an interrupted
            epoch is a `fit` of its own, which knows of no more.
        num_batches: batches of a whole epoch.
    """

    def __init__(self, num_epochs, num_batches):
        super().__init__()
        self._num_epochs, self._num_batches = num_epochs, num_batches

    def on_epoch_begin(self, epoch, logs=None):
        """Start a new bar."""
        del logs
        left = self.params["steps"]
        within = ""
        if left < self._num_batches:
            within = f", the last {left} of {self._num_batches} batches"
        print(f"Epoch {epoch + 1}/{self._num_epochs}{within}")
        self._is_live = sys.stdout.isatty()
        self._bar = keras.utils.Progbar(
            self.params["steps"],
            verbose=1 if self._is_live else 2,
            stateful_metrics=[*_SHOWN, *(f"val_{name}" for name in _SHOWN)],
        )

    def on_train_batch_end(self, batch, logs=None):
        """Move the bar."""
        # Reading the numbers makes the device wait, so only where it shows.
        if self._is_live:
            self._bar.update(batch + 1, self._shown(logs), finalize=False)

    def on_epoch_end(self, epoch, logs=None):
        """Finish the bar."""
        del epoch
        self._bar.update(self._bar.target, self._shown(logs), finalize=True)

    def _shown(self, logs):
        names = [*_SHOWN, *(f"val_{name}" for name in _SHOWN)]
        return [(name, float(logs[name])) for name in names if name in logs]


class History(keras.callbacks.Callback):
    """Write every number of every epoch, as JSON lines and as CSV.

    A resumed run drops the rows of epochs that it does again. The column
    `data_share` is the time that batches took to come, see
    `TrainingBatches.seconds`, relative to that of training in the epoch,
    without validation.

    Args:
        run: a `workdir.Workdir`.
        batches: the `TrainingBatches` of a whole epoch.
    """

    def __init__(self, run, batches):
        super().__init__()
        self._run = run
        self._batches = batches
        self._images_per_batch = len(batches.split) / len(batches)
        self._rows = None

    def on_epoch_begin(self, epoch, logs=None):
        """Take up the rows of earlier epochs."""
        del logs
        if self._rows is None:
            rows = self._run.read_history()
            self._rows = [row for row in rows if row["epoch"] < epoch]
        self._start = self._trained = time.monotonic()
        self._batches.seconds = 0.0

    def on_train_batch_end(self, batch, logs=None):
        """Note the time."""
        del batch, logs
        self._trained = time.monotonic()

    def on_epoch_end(self, epoch, logs=None):
        """Add a row; none of numbers that are NaN or infinite."""
        check_logs(logs, epoch)
        seconds = time.monotonic() - self._start
        # Fewer than an epoch's where it goes on in the middle of one.
        num_images = self._images_per_batch * self.params["steps"]
        self._rows.append(
            {
                "epoch": epoch,
                "seconds": round(seconds, 3),
                "images_per_second": round(num_images / seconds, 1),
                "data_share": round(
                    self._batches.seconds / (self._trained - self._start), 4
                ),
                **{name: float(value) for name, value in logs.items()},
            }
        )
        try:
            self._write()
        except OSError as error:
            print(
                f"WARNING: the history could not be written ({error}). It "
                "will be tried again after the next epoch."
            )

    def _write(self):
        lines = [json.dumps(row) + "\n" for row in self._rows]
        writing.write_text(self._run.history, "".join(lines))
        writing.write_text(self._run.history_table, _table(self._rows))


def _table(rows):
    table = io.StringIO()
    # Rows of an earlier version may lack a column.
    names = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(table, names, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return table.getvalue()
