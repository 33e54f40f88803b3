"""Batches of images that are decoded on the way."""

import time

import keras
import numpy as np
import pytest

from keras_neokd import data
from keras_neokd.data.encoded import EncodedImages
from keras_neokd.data.encoded import ImageFiles
from keras_neokd.data.encoded import View
from keras_neokd.data.splits import Split
from tests.data import folders

COUNT, SIZE = 10, 12


@pytest.fixture
def paths(tmp_path):
    found = [tmp_path / f"{number}.png" for number in range(COUNT)]
    for number, path in enumerate(found):
        folders.write_image(path, number, 20, 16 + number)
    return found


@pytest.fixture
def split(paths):
    images = EncodedImages(ImageFiles(paths), View(SIZE))
    numbers = np.arange(COUNT)
    return Split(images, numbers.astype("int32") % 3, numbers)


def in_memory(split):
    """The same images as an array."""
    return Split(split.images[:], split.labels, split.indices)


def epoch_of(batches):
    return [batches[number] for number in range(len(batches))]


def assert_same(some, others):
    for (x, y), (other_x, other_y) in zip(some, others, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)


@pytest.mark.parametrize("augment", [None, "crop_flip"])
def test_they_are_those_of_the_decoded_images(split, augment):
    batches = data.TrainingBatches(split, 4, seed=3, augment=augment)
    expected = data.TrainingBatches(in_memory(split), 4, 3, augment)
    for epoch in (0, 1):
        batches.set_epoch(epoch)
        expected.set_epoch(epoch)
        assert_same(epoch_of(batches), epoch_of(expected))
    assert_same(
        epoch_of(data.EvaluationBatches(split, 4)),
        epoch_of(data.EvaluationBatches(in_memory(split), 4)),
    )


def test_random_parts_do_not_depend_on_the_batch_size(split):
    epochs = []
    for batch_size in (3, 10):
        batches = data.TrainingBatches(
            split, batch_size, seed=1, augment="random_part_flip"
        )
        batches.set_epoch(2)
        images = np.concatenate([x for x, _ in epoch_of(batches)])
        assert images.shape == (COUNT, SIZE, SIZE, 3)
        assert images.min() >= 0 and images.max() <= 1
        epochs.append(images)
    np.testing.assert_array_equal(*epochs)


def test_the_rest_of_an_interrupted_epoch_is_that_of_the_whole(split):
    def batches():
        made = data.TrainingBatches(split, 3, 5, "random_part_flip")
        made.set_epoch(1)
        return made

    rest = data.RemainingBatches(batches(), 2)
    assert_same(epoch_of(rest), epoch_of(batches())[2:])


def test_random_parts_need_images_of_their_full_size(split):
    with pytest.raises(ValueError, match=r"one size, \(12, 12\).*crop_flip"):
        data.TrainingBatches(in_memory(split), augment="random_part_flip")


def test_the_next_batches_are_made_while_one_is_in_use(split):
    class Slow(ImageFiles):
        def __getitem__(self, position):
            time.sleep(0.2)
            return super().__getitem__(position)

    slow = EncodedImages(Slow([*split.images._contents._paths]), View(SIZE))
    batches = data.TrainingBatches(Split(slow, split.labels, split.indices), 5)
    batches[0]
    first, batches.seconds = batches.seconds, 0.0
    assert first >= 0.2
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if all(each.done() for each in batches._ahead._futures.values()):
            break
        time.sleep(0.01)
    batches[1]
    assert batches.seconds < 0.1


def test_seconds_add_up(split):
    batches = data.TrainingBatches(in_memory(split), 5)
    assert batches.seconds == 0
    batches[0]
    once = batches.seconds
    batches[1]
    assert 0 < once < batches.seconds


def test_a_model_trains_on_them(split):
    inputs = keras.Input((SIZE, SIZE, 3))
    outputs = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    model = keras.Model(inputs, outputs)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def train(some_split):
        keras.utils.set_random_seed(0)
        model.set_weights([0 * weight for weight in model.get_weights()])
        model.compile("sgd", loss)
        batches = data.TrainingBatches(some_split, 4, augment="crop_flip")
        history = model.fit(
            batches,
            epochs=2,
            shuffle=False,
            verbose=0,
            callbacks=[data.SetEpoch(batches)],
        )
        return history.history["loss"]

    assert train(split) == pytest.approx(train(in_memory(split)), rel=1e-6)
