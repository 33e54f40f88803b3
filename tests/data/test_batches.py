"""Batches: order, augmentation, and what they depend on."""

import keras
import numpy as np
import pytest

from keras_neokd.base import randomness
from keras_neokd.data import EvaluationBatches
from keras_neokd.data import Split
from keras_neokd.data import TrainingBatches
from keras_neokd.data.batches import crop_flip


def make_split(size=10, shape=(6, 5, 3), first_index=0):
    """Random uint8 images; label = position."""
    random = np.random.default_rng(0)
    return Split(
        images=random.integers(0, 256, (size, *shape), "uint8"),
        labels=np.arange(size, dtype="int32"),
        indices=np.arange(first_index, first_index + size),
    )


def one_epoch(batches, epoch=0):
    """The images and labels of an epoch, joined."""
    batches.set_epoch(epoch)
    parts = [batches[index] for index in range(len(batches))]
    return tuple(np.concatenate(arrays) for arrays in zip(*parts, strict=True))


def by_label(images, labels):
    """The images in the order of the split."""
    return images[np.argsort(labels)]


def test_evaluation_keeps_the_order_and_the_last_partial_batch():
    split = make_split(10)
    batches = EvaluationBatches(split, batch_size=4)
    assert isinstance(batches, keras.utils.PyDataset)
    parts = list(batches)
    assert [len(labels) for _, labels in parts] == [4, 4, 2]
    images, labels = (np.concatenate(a) for a in zip(*parts, strict=True))
    assert images.dtype == np.float32
    assert labels.dtype == np.int32
    np.testing.assert_array_equal(labels, split.labels)
    np.testing.assert_array_equal(images, split.arrays()[0])


def test_an_epoch_has_every_example_once_and_the_last_partial_batch():
    split = make_split(10)
    batches = TrainingBatches(split, batch_size=4)
    sizes = [len(batches[index][1]) for index in range(3)]
    assert sizes == [4, 4, 2]
    images, labels = one_epoch(batches)
    assert images.dtype == np.float32
    assert labels.dtype == np.int32
    assert sorted(labels) == list(range(10))
    np.testing.assert_array_equal(by_label(images, labels), split.arrays()[0])


def test_the_order_is_that_of_the_random_numbers_of_the_examples():
    split = make_split(10, first_index=100)
    _, labels = one_epoch(TrainingBatches(split, 4, seed=5), epoch=2)
    keys = [int(randomness.host_bits(5, 2, 100 + i, 0)) for i in range(10)]
    assert [keys[label] for label in labels] == sorted(keys)


def test_the_order_depends_on_seed_and_epoch_only():
    split = make_split(50)
    orders = {
        (seed, epoch, size): tuple(
            one_epoch(TrainingBatches(split, size, seed), epoch)[1]
        )
        for seed in (0, 1)
        for epoch in (0, 1)
        for size in (7, 50)
    }
    assert len(set(orders.values())) == 4
    assert orders[0, 0, 7] == orders[0, 0, 50]


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


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_crop_flip_equals_a_slow_reference(dtype):
    images = make_split(40).images.astype(dtype)
    indices = np.arange(1000, 1040)
    result = crop_flip(images, indices, seed=3, epoch=7)
    assert result.dtype == images.dtype
    for image, index, changed in zip(images, indices, result, strict=True):
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
    mirrored = result[:, 10, 15, 0].mean()
    assert mirrored == pytest.approx(0.5, abs=0.01)


def test_an_example_is_augmented_alike_whatever_the_batch_size():
    split = make_split(20)
    results = [
        by_label(
            *one_epoch(TrainingBatches(split, size, augment="crop_flip"), 3)
        )
        for size in (1, 7, 20)
    ]
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_an_example_is_augmented_alike_in_a_part_of_the_data():
    split = make_split(20)
    part = Split(split.images[5:9], split.labels[5:9], split.indices[5:9])
    whole = one_epoch(TrainingBatches(split, 4, augment="crop_flip"), 1)
    few = one_epoch(TrainingBatches(part, 4, augment="crop_flip"), 1)
    np.testing.assert_array_equal(by_label(*whole)[5:9], by_label(*few))


def test_epochs_and_seeds_augment_differently():
    split = make_split(20)
    results = [
        by_label(
            *one_epoch(
                TrainingBatches(split, 8, seed=seed, augment="crop_flip"),
                epoch,
            )
        )
        for seed, epoch in ((0, 0), (0, 1), (1, 0))
    ]
    for first, second in ((0, 1), (0, 2), (1, 2)):
        assert not np.array_equal(results[first], results[second])


def test_the_images_of_the_split_are_not_changed():
    split = make_split(10)
    before = split.images.copy()
    one_epoch(TrainingBatches(split, 4, augment="crop_flip"))
    np.testing.assert_array_equal(split.images, before)


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
