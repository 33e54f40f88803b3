"""Batches of images that are decoded on the way."""

import collections
import threading

import keras
import numpy as np
import pytest

from keras_neokd import data
from keras_neokd.data import sharing
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


def split_of(files, num_classes=COUNT):
    numbers = np.arange(COUNT)
    labels = numbers.astype("int32") % num_classes
    return Split(EncodedImages(files, View(SIZE)), labels, numbers)


@pytest.fixture
def split(paths):
    return split_of(ImageFiles(paths), num_classes=3)


class Counting(ImageFiles):
    """Files that count how often each of them is read."""

    def __init__(self, paths):
        super().__init__(paths)
        self.counts = collections.Counter()
        self.reads = threading.Semaphore(0)

    def __getitem__(self, position):
        self.counts[position] += 1
        self.reads.release()
        return super().__getitem__(position)


@pytest.fixture
def counted(paths):
    """Files, and a split of them whose labels are their numbers."""
    files = Counting(paths)
    return files, split_of(files)


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
        batches = data.TrainingBatches(split, batch_size, 1, "random_part_flip")
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


def test_the_next_batches_are_made_while_one_is_in_use(counted):
    files, split = counted
    batches = data.TrainingBatches(split, 2, seed=1)
    asked_for = [*batches[0][1]]
    for _ in range(6):
        assert files.reads.acquire(timeout=60)
    # Two batches more than were asked for, and no others.
    made = dict(files.counts)
    assert len(made) == 6 and set(made.values()) == {1}
    for index in (1, 2):
        asked_for += [*batches[index][1]]
    assert set(made) == set(asked_for)
    epoch_of(data.RemainingBatches(batches, 3))
    assert files.counts == dict.fromkeys(range(COUNT), 1)


@pytest.mark.parametrize("augment", ["crop_flip", "random_part_flip"])
def test_processes_decode_their_own_rows_once_an_epoch(counted, augment, under):
    files, split = counted
    # Batches of 4, 4 and 2 rows, half of each for either process.
    whole = data.TrainingBatches(split, 4, seed=3, augment=augment)
    own = [data.TrainingBatches(split, 4, 3, augment) for _ in range(2)]
    for epoch in (0, 1):
        whole.set_epoch(epoch)
        expected = epoch_of(whole)
        for process, batches in enumerate(own):
            under(2, 2, process)
            shared = sharing.share(batches)
            batches.set_epoch(epoch)
            files.counts.clear()
            received = [shared[number] for number in range(3)]
            rows = [
                (np.split(x, 2)[process], np.split(y, 2)[process])
                for x, y in expected
            ]
            assert_same([(x, y["label"]) for x, y in received], rows)
            labels = np.concatenate([y for _, y in rows])
            assert files.counts == dict.fromkeys(labels.tolist(), 1)


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
        tell = data.SetEpoch(batches)
        history = model.fit(
            batches, epochs=2, shuffle=False, verbose=0, callbacks=[tell]
        )
        return history.history["loss"]

    assert train(split) == pytest.approx(train(in_memory(split)), rel=1e-6)
