"""Batches for `model.fit` and `model.evaluate`, on every backend.

The order of an epoch and the crop of an image are functions of (seed, epoch,
index of the example): a resumed run sees what the uninterrupted one would
have seen, and an example is changed in the same way whatever the batch size.
"""

import concurrent.futures
import functools
import math
import threading
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Labels
from keras_neokd.data.encoded import EncodedImages
from keras_neokd.data.splits import Split
from keras_neokd.data.splits import to_unit_range
from keras_neokd.data.streams import remembered_errors

_AUGMENTATIONS = (None, "crop_flip", "random_part_flip")
_PADDING = 4
# The last word of a random number names its use.
_ORDER, _ROW, _COLUMN, _FLIP = range(4)


class EvaluationBatches(keras.utils.PyDataset):
    """Yield a split in its own order, the last batch as large as is left.

    Images are float32 `(batch, height, width, channels)` in [0, 1], labels
    int32 `(batch,)`.

    Args:
        split: `Split` with at least one example.
        batch_size: examples per batch, at least 1, default 128.

    Raises:
        TypeError, ValueError: if an argument is not as described.
    """

    def __init__(self, split: Split, batch_size: int = 128) -> None:
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
        self._prefetch = Prefetch() if is_encoded else None
        self._epoch_and_order = 0, np.arange(len(split))

    def __len__(self) -> int:
        return math.ceil(len(self.split) / self.batch_size)

    def __getitem__(self, index: int) -> tuple[Array, Labels]:
        return self.rows(index, _all_rows)

    def num_rows(self, index: int) -> int:
        """Return the number of examples of a batch."""
        return min(self.batch_size, len(self.split) - index * self.batch_size)

    def rows(
        self, index: int, pick: Callable[[int], slice | Array]
    ) -> tuple[Array, Labels]:
        """Return some rows of a batch; only their images are prepared.

        Args:
            index: number of the batch, 0 .. len(self) - 1.
            pick: function from the number of rows of a batch to the numbers
                of the wanted ones; one and the same for all batches.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"batch {index} of {len(self)}")
        epoch, order = self._epoch_and_order
        make = functools.partial(self._make_of_epoch, epoch, order, pick)
        if self._prefetch is None:
            return make(index)
        return self._prefetch.get(make, (epoch, pick), index, len(self))

    def _make_of_epoch(self, epoch, order, pick, index):
        start = index * self.batch_size
        chosen = order[start : start + self.batch_size]
        chosen = chosen[pick(len(chosen))]
        images = self._images(chosen, epoch)
        return to_unit_range(images), self._labels(chosen)

    def _images(self, chosen, epoch):
        del epoch
        return self.split.images[chosen]

    def _labels(self, chosen):
        return self.split.labels[chosen]


class TrainingBatches(EvaluationBatches):
    """Yield a split shuffled anew in every epoch, optionally augmented.

    `fit` of a `MultiExitModel` tells the epoch. Other models need
    `callbacks=[SetEpoch(batches)]` and `shuffle=False`: Keras would shuffle
    the batches once more, with Python's global generator. Neither works with
    `steps_per_epoch`, because Keras prepares batches of the next epoch before
    the epoch changes: load the data with `num_train` for shorter epochs.

    Args:
        split: as in `EvaluationBatches`.
        batch_size: as in `EvaluationBatches`.
        seed: integer that fixes orders and crops.
        augment: None (default), or "crop_flip": pad by 4 zero pixels, crop to
            the old size at a random place and mirror left to right with
            probability 1/2, the usual augmentation of CIFAR; or
            "random_part_flip", for `EncodedImages` only: see
            `EncodedImages.random_parts`, the usual augmentation of ImageNet.
        with_index: yield labels as `{"label": ..., "index": ...}` with the
            position in the split, for methods that keep something for every
            example. Defaults to False.

    The attribute `seconds` is the time in which a batch was asked for and not
    there yet; set it to 0 to begin anew. TensorFlow's pipeline asks in a
    thread of its own, and JAX's devices may still be busy meanwhile, so
    training waits no longer than that. The attribute `error` is the last
    error of making a batch, such as that of a damaged image; `None` before.

    Raises:
        TypeError, ValueError: if an argument is not as described.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int = 128,
        seed: int = 0,
        augment: str | None = None,
        with_index: bool = False,
    ) -> None:
        super().__init__(split, batch_size)
        self.with_index = checks.boolean("with_index", with_index)
        self.seed = randomness.check_seed(seed)
        self.augment = checks.choice("augment", augment, _AUGMENTATIONS)
        if augment == "random_part_flip" and self._prefetch is None:
            raise ValueError(
                "`augment` 'random_part_flip' takes parts of images of their "
                "full size, and these come in one size, "
                f"{split.images.shape[1:3]}. Use 'crop_flip'."
            )
        self.seconds = 0.0
        self.error = None
        self._pass_began = self._last_batch_seen = False
        self.set_epoch(0)

    @property
    def epoch(self) -> int:
        """The epoch that batches are drawn for, counted from 0."""
        return self._epoch_and_order[0]

    def set_epoch(self, epoch: int) -> None:
        """Draw the batches of another epoch from now on, an integer from 0."""
        epoch = checks.integer("epoch", epoch, minimum=0)
        indices = self.split.indices
        keys = randomness.host_bits(self.seed, epoch, indices, _ORDER)
        # Epoch and order in one assignment: Keras' TensorFlow pipeline asks
        # for batches from another thread.
        self._epoch_and_order = epoch, np.argsort(keys, kind="stable")

    def rows(
        self, index: int, pick: Callable[[int], slice | Array]
    ) -> tuple[Array, Labels]:
        """See `EvaluationBatches.rows`."""
        start = time.monotonic()
        with remembered_errors(self):
            batch = super().rows(index, pick)
        self._last_batch_seen |= index == len(self) - 1
        self.seconds += time.monotonic() - start
        return batch

    def _images(self, chosen, epoch):
        indices = self.split.indices[chosen]
        if self.augment == "random_part_flip":
            return self.split.images.random_parts(
                chosen, indices, self.seed, epoch
            )
        images = self.split.images[chosen]
        if self.augment == "crop_flip":
            return crop_flip(images, indices, self.seed, epoch)
        return images

    def _labels(self, chosen):
        labels = super()._labels(chosen)
        if self.with_index:
            return {"label": labels, "index": chosen.astype("int32")}
        return labels

    def on_epoch_begin(self) -> None:
        """Note that a pass over the data begins; called by Keras."""
        self._pass_began = True
        self._last_batch_seen = False

    def on_epoch_end(self) -> None:
        """Go on to the next epoch after a complete pass; called by Keras."""
        # Keras also calls this before training, after it may have drawn some
        # batches only to build the model. Those are no epoch.
        if self._pass_began and self._last_batch_seen:
            self.set_epoch(self.epoch + 1)
        self._pass_began = False


class RemainingBatches(keras.utils.PyDataset):
    """Yield the batches of an interrupted epoch, from some batch on.

    Args:
        batches: `TrainingBatches`.
        first: number of the first batch, 0 .. len(batches) - 1.

    Raises:
        TypeError, ValueError: if `first` is no such number.
    """

    def __init__(self, batches: TrainingBatches, first: int) -> None:
        super().__init__(workers=1)
        self._batches = batches
        self._first = checks.integer("first", first, minimum=0)
        if self._first >= len(batches):
            raise ValueError(
                f"`first` needs a batch of the {len(batches)} that there "
                f"are, 0 to {len(batches) - 1}; received {first}."
            )
        self.set_epoch = batches.set_epoch

    def __len__(self) -> int:
        return len(self._batches) - self._first

    def __getitem__(self, index: int) -> tuple[Array, Labels]:
        return self._batches[self._first + index]

    def num_rows(self, index: int) -> int:
        """See `EvaluationBatches.num_rows`."""
        return self._batches.num_rows(self._first + index)

    def rows(
        self, index: int, pick: Callable[[int], slice | Array]
    ) -> tuple[Array, Labels]:
        """See `EvaluationBatches.rows`."""
        return self._batches.rows(self._first + index, pick)


class SetEpoch(keras.callbacks.Callback):
    """Tell `TrainingBatches` each epoch of a model that is not multi-exit.

    `MultiExitModel.fit` does so by itself.

    Args:
        batches: `TrainingBatches` that are given to the same `fit`.
    """

    def __init__(self, batches: TrainingBatches) -> None:
        super().__init__()
        self.batches = batches

    def on_epoch_begin(
        self, epoch: int, logs: dict[str, Any] | None = None
    ) -> None:
        """Pass the epoch on; called by Keras."""
        self.batches.set_epoch(epoch)


class Prefetch:
    """Compute the next items of a sequence in threads, ahead of their use.

    An item is a function of its number: when it is computed changes nothing.

    Args:
        depth: number of items to compute ahead, at least 1. Defaults to 2.
    """

    def __init__(self, depth=2):
        self._depth = depth
        self._pool = concurrent.futures.ThreadPoolExecutor(depth)
        self._futures = {}
        # Keras' TensorFlow pipeline asks from another thread.
        self._lock = threading.Lock()

    def get(self, make, sequence, index, end):
        """Return `make(index)`, and begin with the items up to `end - 1`.

        `sequence` is a key that tells this sequence from others, such as the
        epoch; one `make` for each.
        """
        last = min(index + self._depth, end - 1)
        wanted = [(sequence, number) for number in range(index, last + 1)]
        with self._lock:
            for key in [key for key in self._futures if key not in wanted]:
                self._futures.pop(key).cancel()
            for key in wanted:
                if key not in self._futures:
                    self._futures[key] = self._pool.submit(make, key[1])
            future = self._futures.pop(wanted[0])
        return future.result()


def _all_rows(size):
    return slice(0, size)


def crop_flip(images, indices, seed, epoch):
    """Shift every image by up to 4 pixels and mirror half of them.

    The corner of the window is drawn uniformly from 9 x 9 places in the
    zero-padded image.

    Args:
        images: `(n, height, width, channels)`, of any type, which stays.
        indices: integers `(n,)`, the number of each example.
        seed: integer.
        epoch: integer, at least 0.
    """
    count, height, width, _ = images.shape
    places = 2 * _PADDING + 1
    row, column, flip = (
        randomness.host_bits(seed, epoch, indices, use)[:, np.newaxis]
        for use in (_ROW, _COLUMN, _FLIP)
    )
    border = (_PADDING, _PADDING)
    padded = np.pad(images, ((0, 0), border, border, (0, 0)))
    rows = row % places + np.arange(height)
    columns = column % places + np.arange(width)
    columns = np.where(flip % 2 == 1, columns[:, ::-1], columns)
    return padded[
        np.arange(count)[:, np.newaxis, np.newaxis],
        rows[:, :, np.newaxis],
        columns[:, np.newaxis, :],
    ]
