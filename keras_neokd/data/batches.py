"""Batches for `model.fit` and `model.evaluate`, on every backend.

    batches = TrainingBatches(dataset.train, batch_size=128, seed=0)
    model.fit(batches, epochs=3, callbacks=[SetEpoch(batches)])

The order of an epoch and the crop of an image are functions of (seed, epoch,
index of the example): a resumed run sees what the uninterrupted one would
have seen, and an example is changed in the same way whatever the batch size.
"""

import functools
import math
import time

import keras
import numpy as np

from keras_neokd import checks
from keras_neokd import randomness
from keras_neokd.data.ahead import Ahead
from keras_neokd.data.encoded import EncodedImages
from keras_neokd.data.splits import Split
from keras_neokd.data.splits import to_unit_range
from keras_neokd.data.streams import remembered_errors

_AUGMENTATIONS = (None, "crop_flip", "random_part_flip")
_PADDING = 4
# The last word of a random number says what it is used for.
_ORDER, _ROW, _COLUMN, _FLIP = range(4)


class EvaluationBatches(keras.utils.PyDataset):
    """Yield a split in its own order, the last batch as large as is left.

    Args:
        split: `Split` with at least one example.
        batch_size: examples per batch, at least 1, default 128.

    Raises:
        TypeError, ValueError: if an argument is not as described.
    """

    def __init__(self, split, batch_size=128):
        # One worker: with more, Keras prefetches in threads and, when `fit`
        # builds a model, hands out the first batches twice.
        super().__init__(workers=1)
        self.batch_size = checks.integer("batch_size", batch_size, minimum=1)
        if not isinstance(split, Split):
            raise TypeError(
                "`split` needs a keras_neokd.data.Split, such as "
                f"dataset.train, received {checks.typed(split)}."
            )
        if len(split) == 0:
            raise ValueError(
                "`split` has no examples: load the data set with a larger "
                "`validation_size`, or leave this split out."
            )
        self.split = split
        # Decoding takes long enough to be done while the device computes.
        is_encoded = isinstance(split.images, EncodedImages)
        self._ahead = Ahead() if is_encoded else None

    def __len__(self):
        """Return the number of batches of one epoch."""
        return math.ceil(len(self.split) / self.batch_size)

    def __getitem__(self, index):
        """Return one batch.

        Args:
            index: number of the batch, 0 .. len(self) - 1.

        Returns:
            Pair of float32 images `(batch, height, width, channels)` in
            [0, 1] and int32 labels `(batch,)`.
        """
        return self.rows(index, _all_rows)

    def num_rows(self, index):
        """Return the number of examples of a batch.

        Args:
            index: number of the batch.
        """
        return len(self._positions(index))

    def rows(self, index, pick):
        """Return some rows of a batch; only their images are prepared.

        Args:
            index: number of the batch, 0 .. len(self) - 1.
            pick: function from the number of rows of a batch to the numbers
                of those that are wanted; one and the same for all batches.
        """
        make = functools.partial(self._make, pick)
        return self._made(make, pick, index)

    def _make(self, pick, index):
        chosen = self._picked(pick, index)
        images = to_unit_range(self.split.images[chosen])
        return images, self.split.labels[chosen]

    def _made(self, make, row, index):
        """Return `make(index)`, made ahead where that takes long."""
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        if self._ahead is None:
            return make(index)
        return self._ahead.get(make, row, index, len(self))

    def _positions(self, index):
        start = index * self.batch_size
        stop = min(start + self.batch_size, len(self.split))
        return np.arange(start, stop)

    def _picked(self, pick, index):
        positions = self._positions(index)
        return positions[pick(len(positions))]


class TrainingBatches(EvaluationBatches):
    """Yield a split shuffled anew in every epoch, optionally augmented.

    What `fit` needs to be told:

    - `callbacks=[SetEpoch(batches)]`, to take the epoch from `fit`. Without
      it the epoch counts up from one pass of `fit` to the next, which is
      right as well unless a callback resumes training or the whole split is a
      single batch.
    - no `steps_per_epoch`, because Keras prepares batches of the next epoch
      before the epoch changes. Load the data with `num_train` for shorter
      epochs.
    - `shuffle=False` for a model that is no `MultiExitModel`: Keras would
      shuffle the order of the batches once more, with Python's global
      generator, and a resumed run would differ from an uninterrupted one.

    Args:
        split: `Split` with at least one example.
        batch_size: examples per batch, at least 1, default 128.
        seed: integer, which of the random orders and crops.
        augment: None (default), or "crop_flip": pad by 4 zero pixels, crop to
            the old size at a random place and mirror left to right with
            probability 1/2, the usual augmentation of CIFAR; or
            "random_part_flip", for `EncodedImages` only: see
            `EncodedImages.random_parts`, the usual augmentation of ImageNet.
        with_index: yield labels as `{"label": ..., "index": ...}` with the
            position in the split, for methods that keep something for every
            example. Defaults to False.

    The attribute `seconds` adds up how long whoever asks for batches has
    waited for them; set it to 0 to begin anew. TensorFlow's pipeline asks in
    a thread of its own, and JAX's devices may still be busy meanwhile, so
    training waits no longer than that. The attribute `error` is what making a
    batch has raised, such as that of a damaged image; `None` before.

    Raises:
        TypeError, ValueError: if an argument is not as described.

    Example:

    ```python
    batches = TrainingBatches(dataset.train, 128, augment="crop_flip")
    model.fit(batches, epochs=30, callbacks=[SetEpoch(batches)])
    ```
    """

    def __init__(
        self, split, batch_size=128, seed=0, augment=None, with_index=False
    ):
        super().__init__(split, batch_size)
        self.with_index = checks.boolean("with_index", with_index)
        self.seed = randomness.check_seed(seed)
        self.augment = checks.choice("augment", augment, _AUGMENTATIONS)
        if augment == "random_part_flip" and self._ahead is None:
            raise ValueError(
                "`augment` 'random_part_flip' takes parts of images of their "
                "full size, and these come in one size, "
                f"{split.images.shape[1:3]}. Use 'crop_flip'."
            )
        self.seconds = 0.0
        self.error = None
        self._pass_began = False
        self._last_batch_seen = False
        self.set_epoch(0)

    @property
    def epoch(self):
        """The epoch that batches are drawn for, counted from 0."""
        return self._epoch_and_order[0]

    def set_epoch(self, epoch):
        """Draw the batches of another epoch from now on.

        Args:
            epoch: integer, at least 0.

        Raises:
            TypeError, ValueError: if `epoch` is not such an integer.
        """
        epoch = checks.integer("epoch", epoch, minimum=0)
        # Epoch and order in one assignment: Keras' TensorFlow pipeline asks
        # for batches from another thread.
        self._epoch_and_order = epoch, self._shuffled(epoch)

    def rows(self, index, pick):
        """Return rows of a batch of the current epoch, changed as asked."""
        start = time.monotonic()
        epoch, order = self._epoch_and_order
        make = functools.partial(self._make_of_epoch, epoch, order, pick)
        with remembered_errors(self):
            batch = self._made(make, (epoch, pick), index)
        self._last_batch_seen |= index == len(self) - 1
        self.seconds += time.monotonic() - start
        return batch

    def _make_of_epoch(self, epoch, order, pick, index):
        chosen = order[self._picked(pick, index)]
        images = self._augmented(chosen, self.split.indices[chosen], epoch)
        labels = self.split.labels[chosen]
        if self.with_index:
            labels = {"label": labels, "index": chosen.astype("int32")}
        return to_unit_range(images), labels

    def _augmented(self, chosen, indices, epoch):
        if self.augment == "random_part_flip":
            return self.split.images.random_parts(
                chosen, indices, self.seed, epoch
            )
        images = self.split.images[chosen]
        if self.augment == "crop_flip":
            return crop_flip(images, indices, self.seed, epoch)
        return images

    def on_epoch_begin(self):
        """Note that a pass over the data begins; called by Keras."""
        self._pass_began = True
        self._last_batch_seen = False

    def on_epoch_end(self):
        """Go on to the next epoch after a complete pass; called by Keras."""
        # Keras also calls this before training, after it may have drawn some
        # batches only to build the model. Those are no epoch.
        if self._pass_began and self._last_batch_seen:
            self.set_epoch(self.epoch + 1)
        self._pass_began = False

    def _shuffled(self, epoch):
        keys = randomness.host_bits(
            self.seed, epoch, self.split.indices, _ORDER
        )
        return np.argsort(keys, kind="stable")


class RemainingBatches(keras.utils.PyDataset):
    """The batches of an epoch that was interrupted, from some batch on.

    Args:
        batches: `TrainingBatches`.
        first: number of the first batch, 0 .. len(batches) - 1.

    Raises:
        TypeError, ValueError: if `first` is no such number.
    """

    def __init__(self, batches, first):
        super().__init__(workers=1)
        self._batches = batches
        self._first = checks.integer("first", first, minimum=0)
        if self._first >= len(batches):
            raise ValueError(
                f"`first` needs a batch of the {len(batches)} that there "
                f"are, 0 to {len(batches) - 1}; received {first}."
            )

    def set_epoch(self, epoch):
        """See `TrainingBatches.set_epoch`."""
        self._batches.set_epoch(epoch)

    def __len__(self):
        """Return the number of batches that remain."""
        return len(self._batches) - self._first

    def __getitem__(self, index):
        """Return one batch."""
        return self._batches[self._first + index]

    def num_rows(self, index):
        """See `EvaluationBatches.num_rows`."""
        return self._batches.num_rows(self._first + index)

    def rows(self, index, pick):
        """See `EvaluationBatches.rows`."""
        return self._batches.rows(self._first + index, pick)


class SetEpoch(keras.callbacks.Callback):
    """Tell `TrainingBatches` at the start of each epoch which one it is.

    Args:
        batches: `TrainingBatches` that are given to the same `fit`.
    """

    def __init__(self, batches):
        """Keep the batches."""
        super().__init__()
        self.batches = batches

    def on_epoch_begin(self, epoch, logs=None):
        """Pass the epoch on; called by Keras."""
        del logs
        self.batches.set_epoch(epoch)


def _all_rows(size):
    return slice(0, size)


def crop_flip(images, indices, seed, epoch):
    """Shift every image by up to 4 pixels and mirror half of them.

    The result is the window of the old size in the zero-padded image whose
    corner is drawn uniformly from 9 x 9 places, then mirrored left to right
    with probability 1/2.

    Args:
        images: `(n, height, width, channels)`, of any type.
        indices: integers `(n,)`, which example each image is.
        seed: integer.
        epoch: integer, at least 0.

    Returns:
        Array of the shape and type of `images`. What is done to an image
        depends on (seed, epoch, index) and on nothing else.
    """
    count, height, width, _ = images.shape
    places = 2 * _PADDING + 1
    row = randomness.host_bits(seed, epoch, indices, _ROW) % places
    column = randomness.host_bits(seed, epoch, indices, _COLUMN) % places
    flip = randomness.host_bits(seed, epoch, indices, _FLIP) % 2 == 1
    border = (_PADDING, _PADDING)
    padded = np.pad(images, ((0, 0), border, border, (0, 0)))
    rows = row[:, np.newaxis] + np.arange(height)
    columns = column[:, np.newaxis] + np.arange(width)
    columns = np.where(flip[:, np.newaxis], columns[:, ::-1], columns)
    return padded[
        np.arange(count)[:, np.newaxis, np.newaxis],
        rows[:, :, np.newaxis],
        columns[:, np.newaxis, :],
    ]
