"""Divide data sets into train, validation and test.

Images keep their type (uint8 for MNIST and CIFAR: a quarter of the memory of
float32; encoded for large sets, see `EncodedImages`) until they are used.
"""

import dataclasses
import math
from typing import Any

import numpy as np

from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.typing import Array
from keras_neokd.data.encoded import EncodedImages
from keras_neokd.data.files import memory_for

# Memory is taken for each class.
_MOST_CLASSES = 10**6
_FEWER = (
    "Take fewer images, with `count` or --config.evaluate.num_examples, or use "
    "a computer with more memory."
)


@dataclasses.dataclass(frozen=True)
class Source:
    """The images and labels of a data set before it is divided.

    Args:
        train: pair of images, as in `Split`, and integer labels `(n,)`.
        test: such a pair.
        num_classes: number of classes; labels are below it.
        validation: such a pair, or None where the source has none of its own.
    """

    train: tuple[Any, Array]
    test: tuple[Any, Array]
    num_classes: int
    validation: tuple[Any, Array] | None = None


@dataclasses.dataclass(frozen=True)
class Split:
    """The images and labels of one part of a data set.

    Args:
        images: `(n, height, width, channels)`, uint8 in [0, 255] or float32
            in [0, 1], or `EncodedImages`.
        labels: int32 `(n,)`.
        indices: int64 `(n,)`, the number of each example in the source. Its
            random numbers derive from it, whatever other examples are taken.
    """

    images: np.ndarray
    labels: np.ndarray
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def arrays(self, count: int | None = None) -> tuple[Array, Array]:
        """Return the images as float32 in [0, 1], and their int32 labels.

        That is four times the memory of uint8; `EvaluationBatches` converts
        batch by batch.

        Args:
            count: number of images, the first ones; None (default) for all.

        Raises:
            MemoryError: says how much is needed.
        """
        labels = self.labels[:count]
        num_bytes = 4 * len(labels) * math.prod(self.images.shape[1:])
        what = f"The array of {len(labels):,} images as float32"
        with memory_for(what, num_bytes, _FEWER):
            return to_unit_range(self.images[:count]), labels


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A data set divided into train, validation and test splits.

    Args:
        name: its name in results.
        num_classes: number of classes.
        train: `Split` to learn from.
        validation: `Split` taken from the training data, may be empty.
        test: `Split` for the final numbers.
    """

    name: str
    num_classes: int
    train: Split
    validation: Split
    test: Split

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """Shape of one image, `(height, width, channels)`."""
        return self.train.images.shape[1:]


def to_unit_range(images):
    """Return uint8 images, or float32 in [0, 1], as float32 in [0, 1]."""
    if images.dtype == np.uint8:
        return np.divide(images, np.float32(255), dtype="float32")
    return images


def divide(name, source, validation_size, num_train, num_test, seed):
    """Make a `Dataset` of a source; the arguments are those of `load`."""
    seed = randomness.check_seed(seed)
    _check_labels(name, source)
    images, labels = source.train
    order = stratified_order(labels, seed)
    if source.validation is None:
        most = len(order) - 1
        size = _check_count("validation_size", validation_size, 0, most)
        order, held_out = np.split(order, [len(order) - size])
        validation = _split(images, labels, held_out)
    else:
        if validation_size:
            raise ValueError(
                f"`validation_size` needs to be 0, received {validation_size}"
                f": {name!r} brings validation data of its own."
            )
        validation = _split(*source.validation)
    if num_train is not None:
        order = order[: _check_count("num_train", num_train, 1, len(order))]
    test_order = _test_order(source.test[1])
    if num_test is not None:
        num_test = _check_count("num_test", num_test, 1, len(test_order))
    return Dataset(
        name=name,
        num_classes=source.num_classes,
        train=_split(images, labels, order),
        validation=validation,
        test=_split(*source.test, test_order[:num_test]),
    )


def _check_labels(name, source):
    if source.num_classes > _MOST_CLASSES:
        raise ValueError(
            f"The data set {name!r} has {source.num_classes:,} classes, its "
            f"largest label plus one: expected at most {_MOST_CLASSES:,}. "
            "Number the classes from 0, without gaps."
        )
    for part in (source.train, source.test, source.validation):
        labels = np.asarray(() if part is None else part[1])
        if labels.size and not (
            labels.min() >= 0 and labels.max() < source.num_classes
        ):
            raise ValueError(
                f"The data set {name!r} is damaged: expected labels from 0 to "
                f"{source.num_classes - 1}, received {labels.min()} to "
                f"{labels.max()}. Get it, or prepare it, again."
            )


def _test_order(labels):
    """Return the order of the source, mixed if it is class by class.

    The first n images, which many measurements take, would be of the first
    classes. The seed of `load` changes nothing.
    """
    num_changes = np.count_nonzero(labels[1:] != labels[:-1])
    if num_changes < len(np.unique(labels)) < len(labels):
        return stratified_order(labels, seed=0)
    return np.arange(len(labels))


def stratified_order(labels, seed):
    """Return the permutation of 0 .. n - 1 of a seed, with classes mixed.

    Within a class of the integer labels `(n,)` the order is random; the
    classes take turns in proportion to their size, so the first and the last
    examples are fair samples.
    """
    num_examples = len(labels)
    keys = randomness.host_bits(seed, np.arange(num_examples))
    by_class = np.lexsort((keys, labels))
    sizes = np.bincount(labels)
    starts = np.repeat(np.cumsum(sizes) - sizes, sizes)
    rank = np.arange(num_examples) - starts
    turn = (2 * rank + 1) / np.repeat(2 * sizes, sizes)
    return by_class[np.lexsort((keys[by_class], turn))]


def _split(images, labels, chosen=slice(None)):
    indices = np.arange(len(images))[chosen]
    labels = np.asarray(labels[chosen], "int32")
    if isinstance(images, EncodedImages):
        return Split(images.subset(chosen), labels, indices)
    num_bytes = len(indices) * math.prod(images.shape[1:]) * images.itemsize
    with memory_for(f"A part of {len(indices):,} images", num_bytes):
        return Split(images[chosen], labels, indices)


def _check_count(name, value, low, high):
    value = checks.integer(name, value, low)
    if value > high:
        raise ValueError(
            f"`{name}` needs an integer from {low} to {high}, the examples "
            f"that are there to choose from; received {value}."
        )
    return value
