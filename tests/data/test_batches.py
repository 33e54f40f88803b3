"""Batches: order, augmentation, and what they depend on."""

import threading

import keras
import numpy as np
import pytest

from keras_neokd.base import randomness
from keras_neokd.data import EvaluationBatches
from keras_neokd.data import Split
from keras_neokd.data import TrainingBatches
from keras_neokd.data.batches import Prefetch
from keras_neokd.data.batches import crop_flip


def make_split(size=10, shape=(6, 5, 3), first_index=0):
    """Random uint8 images; label = position."""
    random = np.random.default_rng(0)
    return Split(
        images=random.integers(0, 256, (size, *shape), "uint8"),
        labels=np.arange(size, dtype="int32"),
        indices=np.arange(first_index, first_index + size),
    )


def joined(batches):
    """The images and labels of an epoch."""
    assert isinstance(batches, keras.utils.PyDataset)
    parts = [batches[index] for index in range(len(batches))]
    sizes = [len(labels) for _, labels in parts]
    assert set(sizes[:-1]) <= {batches.batch_size}
    assert 0 < sizes[-1] <= batches.batch_size
    images, labels = (np.concatenate(a) for a in zip(*parts, strict=True))
    assert (images.dtype, labels.dtype) == (np.float32, np.int32)
    return images, labels


def test_evaluation_keeps_the_order_and_the_last_partial_batch():
    split = make_split(10)
    batches = EvaluationBatches(split, batch_size=4)
    assert len(batches) == 3
    for found, expected in zip(joined(batches), split.arrays(), strict=True):
        np.testing.assert_array_equal(found, expected)


def slow_crop_flip(image, index, seed, epoch):
    """One image, pixel by pixel."""
    height, width, channels = image.shape
    down = int(randomness.host_bits(seed, epoch, index, 1)) % 9 - 4
    right = int(randomness.host_bits(seed, epoch, index, 2)) % 9 - 4
    mirrored = int(randomness.host_bits(seed, epoch, index, 3)) % 2 == 1
    result = np.zeros_like(image)
    for row in range(height):
        for column in range(width):
            source_row = row + down
            source_column = column + right
            target = width - 1 - column if mirrored else column
            if 0 <= source_row < height and 0 <= source_column < width:
                result[row, target] = image[source_row, source_column]
    return result


@pytest.mark.parametrize("augment", [None, "crop_flip"])
@pytest.mark.parametrize(("seed", "epoch"), [(0, 0), (0, 1), (5, 0), (5, 2)])
@pytest.mark.parametrize(("size", "batch_size"), [(20, 7), (20, 20), (9, 1)])
def test_order_and_augmentation_are_functions_of_seed_epoch_and_index(
    size, batch_size, seed, epoch, augment
):
    """Whatever the batch size and the other examples of the split."""
    split = make_split(size, first_index=100)
    before = split.images.copy()
    batches = TrainingBatches(split, batch_size, seed, augment)
    batches.set_epoch(epoch)
    images, labels = joined(batches)
    keys = [
        int(randomness.host_bits(seed, epoch, 100 + place, 0))
        for place in range(size)
    ]
    np.testing.assert_array_equal(labels, np.argsort(keys))
    for image, place in zip(images, labels, strict=True):
        expected = split.images[place]
        if augment:
            expected = slow_crop_flip(expected, 100 + place, seed, epoch)
        np.testing.assert_array_equal(image, expected / np.float32(255))
    np.testing.assert_array_equal(split.images, before)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_crop_flip_keeps_the_type_of_pixels(dtype):
    images = make_split(40).images.astype(dtype)
    result = crop_flip(images, np.arange(1000, 1040), seed=3, epoch=7)
    assert result.dtype == images.dtype
    for image, index, changed in zip(
        images, range(1000, 1040), result, strict=True
    ):
        np.testing.assert_array_equal(
            changed, slow_crop_flip(image, index, seed=3, epoch=7)
        )


def test_every_shift_and_both_mirrorings_occur_equally_often():
    count = 81 * 2 * 200
    # One bright pixel in the middle shows where an image went.
    images = np.zeros((count, 9, 9, 1), "uint8")
    images[:, 4, 4] = 1
    result = crop_flip(images, np.arange(count), seed=0, epoch=0)
    frequencies = result.mean(axis=0).ravel() * 81
    np.testing.assert_allclose(frequencies, 1, atol=0.25)
    assert frequencies.sum() == pytest.approx(81)
    images = np.zeros((count, 20, 20, 1), "uint8")
    images[:, :, :10] = 1
    result = crop_flip(images, np.arange(count), seed=0, epoch=0)
    assert result[:, 10, 15, 0].mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    ("arguments", "error", "complaint"),
    [
        ({"batch_size": 0}, ValueError, "batch_size.*received 0"),
        ({"batch_size": 2.5}, TypeError, "batch_size.*float"),
        ({"augment": "mixup"}, ValueError, "'mixup'.*'crop_flip'"),
        ({"seed": -1}, ValueError, "seed"),
        ({"split": make_split(0)}, ValueError, "no examples"),
    ],
)
def test_impossible_arguments_are_refused(arguments, error, complaint):
    arguments = {"split": make_split(3), **arguments}
    with pytest.raises(error, match=complaint):
        TrainingBatches(**arguments)


@pytest.mark.parametrize("index", [-1, 3])
def test_a_batch_that_does_not_exist_is_an_index_error(index):
    with pytest.raises(IndexError, match=f"batch {index} of 3"):
        TrainingBatches(make_split(10), 4)[index]


def test_a_negative_epoch_is_refused():
    with pytest.raises(ValueError, match="epoch.*received -1"):
        TrainingBatches(make_split(3)).set_epoch(-1)


# Reading ahead.


def test_the_next_items_are_made_before_they_are_asked_for():
    made, both = [], threading.Event()

    def make(number):
        made.append(number)
        if {1, 2} <= set(made):
            both.set()
        return 10 * number

    prefetch = Prefetch(depth=2)
    assert prefetch.get(make, "row", 0, end=5) == 0
    assert both.wait(timeout=10)
    others = [prefetch.get(make, "row", number, 5) for number in range(1, 5)]
    assert others == [10, 20, 30, 40]
    assert sorted(made) == [0, 1, 2, 3, 4]


def test_another_sequence_or_place_gives_nothing_old():
    prefetch = Prefetch()
    for key, place in (("a", 0), ("b", 1), ("b", 7), ("b", 2)):
        found = prefetch.get(lambda n, key=key: (key, n), key, place, 9)
        assert found == (key, place)


def test_an_error_comes_where_its_item_is_asked_for():
    def make(number):
        if number == 1:
            raise ValueError("one")
        return number

    prefetch = Prefetch()
    assert prefetch.get(make, 0, 0, 3) == 0
    with pytest.raises(ValueError, match="one"):
        prefetch.get(make, 0, 1, 3)
    assert prefetch.get(make, 0, 2, 3) == 2
