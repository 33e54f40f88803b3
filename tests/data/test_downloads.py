"""Downloads of MNIST and CIFAR: whole files, or a sentence on what to do."""

import functools
import hashlib
import pathlib
import shutil
import socket

import keras
import numpy as np
import pytest

from keras_neokd import data
from keras_neokd.data import downloads
from tests.data import formats

pytestmark = pytest.mark.any_backend

NAMES = ("mnist", "cifar10", "cifar100")


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """The folder of Keras, and no folder of data."""
    monkeypatch.delenv("KERAS_NEOKD_DATA", raising=False)
    get_file = functools.partial(keras.utils.get_file, cache_dir=tmp_path)
    monkeypatch.setattr(keras.utils, "get_file", get_file)
    return tmp_path / "datasets" / "keras_neokd"


def serve(monkeypatch, folder):
    """Take files of a folder for those of the servers, unless they differ."""
    asked = []

    def get_file(origin, file_hash, hash_algorithm, cache_subdir):
        assert hash_algorithm == "sha256" and len(file_hash) == 64
        assert cache_subdir == "datasets/keras_neokd"
        assert socket.getdefaulttimeout() == 10
        asked.append(origin)
        return str(folder / origin.rpartition("/")[2])

    monkeypatch.setattr(keras.utils, "get_file", get_file)
    return asked


def test_the_files_of_mnist_are_read_where_they_were_downloaded(
    cache, monkeypatch, tmp_path
):
    formats.write_mnist(tmp_path / "served", 12, 5, suffix=".gz")
    asked = serve(monkeypatch, tmp_path / "served")
    found = data.load("mnist", validation_size=4)
    expected = data.load("mnist", tmp_path / "served", validation_size=4)
    for part in ("train", "validation", "test"):
        for some, other in zip(
            vars(getattr(found, part)).values(),
            vars(getattr(expected, part)).values(),
            strict=True,
        ):
            np.testing.assert_array_equal(some, other)
    assert len(asked) == 4
    assert socket.getdefaulttimeout() is None


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_of_cifar_the_archive_that_is_read_is_asked_for(
    cache, monkeypatch, name
):
    asked = serve(monkeypatch, cache)
    with pytest.raises(FileNotFoundError) as caught:
        data.load(name)
    (address,) = asked
    assert str(cache / address.rpartition("/")[2]) in str(caught.value)


@pytest.mark.parametrize("name", NAMES)
def test_without_a_network_it_says_where_files_can_be_put(
    cache, monkeypatch, name
):
    def no_network(*arguments):
        raise socket.gaierror("no such name")

    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr(downloads, "_SECONDS_TO_ANSWER", 0.05)
    names = [address.rpartition("/")[2] for address in downloads._FILES[name]]
    with pytest.raises(
        RuntimeError,
        match="could not be downloaded.*no such name.*"
        f"{', '.join(names)}.*--config.data.dir.*KERAS_NEOKD_DATA",
    ):
        data.load(name)


def test_a_server_that_does_not_answer_costs_no_more_than_a_time_limit(
    cache, monkeypatch
):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        address = f"http://127.0.0.1:{port}/file"
        monkeypatch.setitem(downloads._FILES, "mnist", {address: "0" * 64})
        monkeypatch.setattr(downloads, "_SECONDS_TO_ANSWER", 0.05)
        with pytest.raises(RuntimeError, match="timed out"):
            data.load("mnist")


def test_files_are_those_that_were_published_and_stay_so(
    cache, monkeypatch, tmp_path
):
    formats.write_mnist(tmp_path / "served", 12, 5, suffix=".gz")
    published = downloads._FILES["mnist"].items()
    served = {
        (tmp_path / "served" / address.rpartition("/")[2]).as_uri(): digest
        for address, digest in published
    }
    monkeypatch.setitem(downloads._FILES, "mnist", served)
    with pytest.raises(RuntimeError, match="hash does not match"):
        data.load("mnist")
    # What was changed in the cache is downloaded again.
    served = {
        path.as_uri(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in (tmp_path / "served").iterdir()
    }
    monkeypatch.setitem(downloads._FILES, "mnist", served)
    assert len(data.load("mnist").train) == 12
    changed = cache / "train-images-idx3-ubyte.gz"
    changed.write_bytes(b"something else")
    assert len(data.load("mnist").train) == 12
    shutil.rmtree(tmp_path / "served")
    assert len(data.load("mnist").train) == 12


def test_real_files_have_the_published_sums(real_data_dir):
    for address, digest in downloads._FILES["mnist"].items():
        name = address.rpartition("/")[2]
        path = pathlib.Path(real_data_dir) / "mnist" / name
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest


def test_the_sums_are_those_that_tensorflow_datasets_knows():
    tfds = pytest.importorskip("tensorflow_datasets")
    for name in NAMES:
        known = tfds.builder_cls(name).url_infos
        for address, digest in downloads._FILES[name].items():
            assert known[address].checksum == digest
