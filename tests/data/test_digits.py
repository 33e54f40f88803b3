"""The embedded digits: facts that runs and documents rely on."""

import sys

import numpy as np
import pytest

from keras_neokd import data
from keras_neokd.data import digits

pytestmark = pytest.mark.any_backend

pytest.importorskip("sklearn")


def test_resizing_equals_interpolation_written_out():
    image = np.random.default_rng(0).random((1, 3, 3))
    size = 7
    expected = np.zeros((size, size))
    for row in range(size):
        for column in range(size):
            # Where the centre of the new pixel lies among the old centres.
            y = min(max((row + 0.5) * 3 / size - 0.5, 0), 2)
            x = min(max((column + 0.5) * 3 / size - 0.5, 0), 2)
            top, left = min(int(y), 1), min(int(x), 1)
            down, right = y - top, x - left
            expected[row, column] = (
                image[0, top, left] * (1 - down) * (1 - right)
                + image[0, top + 1, left] * down * (1 - right)
                + image[0, top, left + 1] * (1 - down) * right
                + image[0, top + 1, left + 1] * down * right
            )
    resized = digits.resize_bilinear(image, size)
    np.testing.assert_allclose(resized[0], expected, atol=1e-12)


def test_there_are_1797_grey_images_of_28_by_28_in_the_unit_range():
    dataset = data.load("digits")
    assert (len(dataset.train), len(dataset.test)) == (1437, 360)
    assert dataset.image_shape == (28, 28, 1)
    assert dataset.num_classes == 10
    images = np.concatenate([dataset.train.images, dataset.test.images])
    assert images.dtype == np.float32
    assert images.min() == 0
    assert images.max() == 1


def test_the_test_images_do_not_depend_on_the_seed():
    first, second = (data.load("digits", seed=seed) for seed in (0, 1))
    np.testing.assert_array_equal(first.test.images, second.test.images)
    assert not np.array_equal(first.train.indices, second.train.indices)


def test_splits_have_equal_class_shares_and_share_no_image():
    dataset = data.load("digits", validation_size=200)
    assert np.ptp(np.bincount(dataset.test.labels)) <= 2
    assert np.ptp(np.bincount(dataset.validation.labels)) <= 2
    parts = (dataset.train, dataset.validation, dataset.test)
    everything = np.concatenate([split.images for split in parts])
    assert len(everything) == 1797
    assert len(np.unique(everything, axis=0)) == 1797


def test_balls_of_the_recommended_epsilon_do_not_touch():
    dataset = data.load("digits")
    images = np.concatenate([dataset.train.images, dataset.test.images])
    labels = np.concatenate([dataset.train.labels, dataset.test.labels])
    # A bound from below on a grid of every third pixel is enough.
    grid = images[:, ::3, ::3, 0].reshape(len(images), -1)
    nearest = min(
        np.abs(grid[labels != label] - row).max(axis=1).min()
        for row, label in zip(grid[::7], labels[::7], strict=True)
    )
    assert nearest > 2 * data.DIGITS_EPSILON


def test_without_scikit_learn_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "keras-neokd\[data\]"'):
        data.load("digits")
