"""What is asked of tensorflow-datasets, with a stand-in for it."""

import sys
import types

import numpy as np
import pytest

from keras_neokd import data

IMAGES = np.arange(4 * 28 * 28).reshape(4, 28, 28, 1).astype("uint8")
EXAMPLES = [
    {"image": image, "label": label} for label, image in enumerate(IMAGES)
]


@pytest.fixture
def stand_in(monkeypatch):
    """A module in the place of tensorflow-datasets, and no local files."""
    monkeypatch.delenv("KERAS_NEOKD_DATA", raising=False)
    module = types.ModuleType("tensorflow_datasets")
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    return module


@pytest.mark.parametrize(
    ("name", "num_classes"), [("mnist", 10), ("cifar10", 10), ("cifar100", 100)]
)
def test_the_train_and_test_parts_are_collected(stand_in, name, num_classes):
    def data_source(asked, split, builder_kwargs):
        assert asked == name
        assert split == ["train", "test"]
        assert builder_kwargs == {"file_format": "array_record"}
        return [EXAMPLES, EXAMPLES[:2]]

    stand_in.data_source = data_source
    dataset = data.load(name)
    order = dataset.train.indices
    np.testing.assert_array_equal(dataset.train.images, IMAGES[order])
    np.testing.assert_array_equal(dataset.train.labels, order)
    np.testing.assert_array_equal(dataset.test.images, IMAGES[:2])
    assert dataset.num_classes == num_classes


def test_data_prepared_in_another_format_is_used(stand_in):
    def data_source(*args, **kwargs):
        raise ValueError("File format is already set to TFRECORD.")

    stand_in.data_source = data_source
    stand_in.load = lambda name, split: [EXAMPLES, EXAMPLES]
    stand_in.as_numpy = iter
    assert len(data.load("mnist").train) == 4


def test_a_failure_says_what_was_tried_and_both_remedies(stand_in):
    def data_source(*args, **kwargs):
        raise ConnectionError("no route to host")

    stand_in.data_source = data_source
    with pytest.raises(RuntimeError) as caught:
        data.load("cifar10")
    message = str(caught.value)
    assert "tried to download" in message
    assert "ConnectionError: no route to host" in message
    assert "network connection" in message
    assert "KERAS_NEOKD_DATA" in message
    assert "--config.data.dir" in message


def test_without_the_package_both_remedies_are_named(monkeypatch):
    monkeypatch.delenv("KERAS_NEOKD_DATA", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    with pytest.raises(ImportError) as caught:
        data.load("mnist")
    assert 'pip install "keras-neokd[data]"' in str(caught.value)
    assert "KERAS_NEOKD_DATA" in str(caught.value)
