"""What is asked of tensorflow-datasets, with a stand-in for it."""

import sys
import threading
import time
import types

import numpy as np
import pytest

from keras_neokd import data
from keras_neokd.data import tfds

requests = pytest.importorskip("requests")
IMAGES = np.arange(4 * 28 * 28).reshape(4, 28, 28, 1).astype("uint8")
EXAMPLES = [
    {"image": image, "label": label} for label, image in enumerate(IMAGES)
]


URL = "https://example.org/files/images.gz"


@pytest.fixture
def stand_in(monkeypatch):
    """A module in the place of tensorflow-datasets, and no local files."""
    monkeypatch.delenv("KERAS_NEOKD_DATA", raising=False)
    module = types.ModuleType("tensorflow_datasets")
    module.builder = lambda name: types.SimpleNamespace(
        is_prepared=lambda: True
    )
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", module)
    return module


@pytest.fixture
def unprepared(stand_in):
    """The same where the data set is not there; returns what was asked for."""
    asked = []

    def data_source(*args, **kwargs):
        asked.append(args)
        return [EXAMPLES, EXAMPLES]

    stand_in.builder = lambda name: types.SimpleNamespace(
        is_prepared=lambda: False, url_infos={URL: None}
    )
    stand_in.data_source = data_source
    return asked


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


# Without a network, tensorflow-datasets itself tries for minutes.


def failure():
    """Return what `load` says, and the seconds that it takes."""
    start = time.monotonic()
    with pytest.raises(RuntimeError) as caught:
        data.load("mnist")
    return str(caught.value), time.monotonic() - start


def test_without_a_network_it_says_where_files_can_be_put(
    unprepared, monkeypatch
):
    def head(url, timeout):
        assert url == URL
        raise requests.ConnectionError("no such name")

    monkeypatch.setattr(requests, "head", head)
    message, _ = failure()
    assert f"{URL} could not be reached within 10 seconds" in message
    assert "train-images-idx3-ubyte.gz" in message
    assert "KERAS_NEOKD_DATA" in message
    assert not unprepared


def test_a_network_that_swallows_everything_costs_seconds(
    unprepared, monkeypatch
):
    ended = threading.Event()
    monkeypatch.setattr(tfds, "_SECONDS_TO_ANSWER", 0.05)
    monkeypatch.setattr(requests, "head", lambda *_, **__: ended.wait(20))
    message, seconds = failure()
    ended.set()
    assert "could not be reached within 0.05 seconds (TimeoutError)" in message
    assert seconds < 5
    assert not unprepared


def test_with_any_answer_it_is_downloaded(unprepared, monkeypatch):
    monkeypatch.setattr(requests, "head", lambda url, timeout: "forbidden")
    assert len(data.load("mnist").train) == 4
    assert unprepared == [("mnist",)]
