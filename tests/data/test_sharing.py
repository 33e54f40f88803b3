"""Which rows of a batch each process feeds, worked out by hand."""

import keras
import numpy as np
import pytest

from keras_neokd import data
from keras_neokd.data import sharing
from keras_neokd.data.splits import Split


def split(count):
    """Return images that say which one they are."""
    images = np.zeros((count, 2, 2, 1), "float32")
    images[:, 0, 0, 0] = np.arange(count) / 100
    return Split(images, np.arange(count, dtype="int32"), np.arange(count))


class Plain(keras.utils.PyDataset):
    """A user's own batches, with weights."""

    def __len__(self):
        return 2

    def __getitem__(self, index):
        whole = split(13)
        rows = slice(8 * index, 8 * index + 8)
        return whole.images[rows], whole.labels[rows], whole.labels[rows] / 2


def fed(batches, index):
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(
        batches[index]
    )
    np.testing.assert_array_equal(images[:, 0, 0, 0] * 100, labels["label"])
    if weights is not None:
        np.testing.assert_array_equal(weights * 2, labels["label"])
    return labels["label"].tolist(), sharing.num_filling(labels)


@pytest.mark.parametrize(
    "batches", [data.EvaluationBatches(split(13), 8), Plain()]
)
@pytest.mark.parametrize(
    ("devices", "processes", "first", "last", "filling"),
    [
        (2, 1, [[*range(8)]], [[8, 9, 10, 11, 12, 12]], 1),
        (4, 2, [[0, 1, 2, 3], [4, 5, 6, 7]], [[8, 9, 10, 11], [12] * 4], 3),
        (
            *(3, 3, [[0, 1, 2], [3, 4, 5], [6, 7, 7]]),
            *([[8, 9], [10, 11], [12, 12]], 1),
        ),
    ],
)
def test_processes_feed_every_example_once_and_fill_up(
    batches, devices, processes, first, last, filling, under
):
    for process in range(processes):
        under(devices, processes, process)
        shared = sharing.share(batches)
        for index, rows, filled in (
            (0, first[process], -8 % devices),
            (1, last[process], filling),
        ):
            assert fed(shared, index) == (rows, filled)
            # Every batch has the same parts.
            shape = shared[index][1]["filling"].shape
            assert shape == (len(rows), 1 + filled)


def test_only_the_images_of_a_process_are_prepared(under, monkeypatch):
    prepared = []
    monkeypatch.setattr(
        data.batches,
        "crop_flip",
        lambda images, indices, *rest: prepared.extend(indices) or images,
    )
    under(2, 2, 1)
    batches = data.TrainingBatches(split(8), 4, augment="crop_flip")
    order = [*batches[0][1], *batches[1][1]]
    prepared.clear()
    shared = sharing.share(batches)
    assert shared.num_batches == 2
    assert fed(shared, 1) == (order[6:], 0)
    assert prepared == order[6:]


def test_positions_in_the_data_set_are_shared_too(under):
    under(2, 2, 1)
    batches = data.TrainingBatches(split(8), 4, with_index=True)
    labels = sharing.share(batches)[0][1]
    np.testing.assert_array_equal(labels["label"], labels["index"])
    assert len(labels["index"]) == 2


def test_the_rest_of_an_epoch_is_shared_like_the_whole(under):
    under(3)
    batches = data.TrainingBatches(split(13), 4)
    rest = sharing.share(data.RemainingBatches(batches, 2))
    assert fed(rest, 1) == fed(sharing.share(batches), 3)


def test_passes_over_the_data_are_counted(under):
    under(2)
    batches = data.TrainingBatches(split(8), 4)
    shared = sharing.share(batches)
    shared.on_epoch_begin()
    assert len([shared[i] for i in range(shared.num_batches)]) == 2
    shared.on_epoch_end()
    assert batches.epoch == 1


def test_without_a_distribution_nothing_changes():
    batches = Plain()
    assert sharing.share(batches) is batches
    images = np.zeros((5, 2, 2, 1))
    assert sharing.share(images, 2) is images
    assert sharing.num_filling({"label": images}) == 0


def test_arrays_need_batches_that_can_be_divided(under):
    under(4)
    images = np.zeros((12, 2, 2, 1))
    assert sharing.share(images, 8) is images
    with pytest.raises(ValueError, match="8 and 5 examples.*4 devices.*PyData"):
        sharing.share(np.zeros((13, 2, 2, 1)), 8)
    with pytest.raises(ValueError, match="Batches of 6 examples"):
        sharing.share(images[:6])
    with pytest.raises(ValueError, match="Batches of 6 examples"):
        sharing.share(images[:6], "all")


def test_arrays_of_several_processes_are_refused(under):
    under(4, 2)
    with pytest.raises(ValueError, match="Each of 2 processes.*ndarray"):
        sharing.share(np.zeros((8, 2, 2, 1)), 8)


def test_processes_that_would_shuffle_apart_are_refused(under):
    under(2)
    assert len(fed(sharing.share(Plain(), shuffled=True), 0)[0]) == 8
    under(2, 2)
    with pytest.raises(ValueError, match="another order.*shuffle=False"):
        sharing.share(Plain(), shuffled=True)
