"""CIFAR's binary and Python files, as folders and as archives."""

import dataclasses
import os
import pickle

import numpy as np
import pytest

from keras_neokd.data import cifar
from keras_neokd.data.cifar import read_cifar
from tests.data import formats

SIZE = 2  # images per file


@pytest.fixture(autouse=True)
def small_data_sets(request, monkeypatch):
    """Let the files hold 2 images where the real ones hold 10,000."""
    if "real_data_dir" in request.fixturenames:
        return
    for name, num_train in (("cifar10", 5 * SIZE), ("cifar100", SIZE)):
        facts = dataclasses.replace(
            cifar._FACTS[name], num_train=num_train, num_test=SIZE
        )
        monkeypatch.setitem(cifar._FACTS, name, facts)


def contents_of(name, pickled):
    """What the files of a tiny data set hold, and its arrays."""
    contents, parts = {}, []
    is_cifar10 = name == "cifar10"
    names = formats.CIFAR10_PARTS if is_cifar10 else ["train", "test"]
    for seed, part in enumerate(names):
        x, y = formats.random_cifar(SIZE, 10 if is_cifar10 else 100, seed)
        coarse = [seed] * SIZE
        parts.append((x, y))
        if pickled:
            batch = {b"data": formats.cifar_planes(x)}
            key = b"labels" if is_cifar10 else b"fine_labels"
            batch[key] = y.tolist()
            batch[b"coarse_labels"] = coarse
            contents[part] = formats.python2_pickle(batch)
        else:
            columns = (y,) if is_cifar10 else (coarse, y)
            contents[f"{part}.bin"] = formats.cifar_binary(x, *columns)
    train = [np.concatenate(arrays) for arrays in zip(*parts[:-1], strict=True)]
    return contents, train, parts[-1]


FOLDERS = {
    ("cifar10", False): "cifar-10-batches-bin",
    ("cifar10", True): "cifar-10-batches-py",
    ("cifar100", False): "cifar-100-binary",
    ("cifar100", True): "cifar-100-python",
}
ARCHIVES = {
    ("cifar10", False): "cifar-10-binary.tar.gz",
    ("cifar10", True): "cifar-10-python.tar.gz",
    ("cifar100", False): "cifar-100-binary.tar.gz",
    ("cifar100", True): "cifar-100-python.tar.gz",
}
LAYOUTS = pytest.mark.parametrize(("name", "pickled"), list(FOLDERS))


def assert_source(source, train, test):
    for (x, y), (expected_x, expected_y) in zip(
        (source.train, source.test), (train, test), strict=True
    ):
        assert x.dtype == np.uint8
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)


@LAYOUTS
def test_a_folder_gives_the_arrays_that_were_written(tmp_path, name, pickled):
    contents, train, test = contents_of(name, pickled)
    formats.write_folder(tmp_path / FOLDERS[name, pickled], contents)
    source = read_cifar(name, tmp_path)
    assert_source(source, train, test)
    assert source.num_classes == (10 if name == "cifar10" else 100)


@LAYOUTS
def test_the_folder_of_the_files_itself_will_do(tmp_path, name, pickled):
    contents, train, test = contents_of(name, pickled)
    formats.write_folder(tmp_path, contents)
    assert_source(read_cifar(name, tmp_path), train, test)


@LAYOUTS
def test_an_archive_is_read_without_extracting(tmp_path, name, pickled):
    contents, train, test = contents_of(name, pickled)
    archive = tmp_path / ARCHIVES[name, pickled]
    formats.write_archive(archive, FOLDERS[name, pickled], contents)
    assert_source(read_cifar(name, tmp_path), train, test)
    assert list(tmp_path.iterdir()) == [archive]


def test_a_binary_record_is_label_red_green_blue(tmp_path):
    contents, _, _ = contents_of("cifar10", pickled=False)
    record = bytes([7]) + b"\x01" * 1024 + b"\x02" * 1024 + b"\x03" * 1024
    contents["data_batch_1.bin"] = record * SIZE
    formats.write_folder(tmp_path, contents)
    images, labels = read_cifar("cifar10", tmp_path).train
    assert labels[:SIZE].tolist() == [7] * SIZE
    assert (images[0] == [1, 2, 3]).all()


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_batches_pickled_anew_are_read_or_refused_but_never_run(
    tmp_path, protocol
):
    contents, train, test = contents_of("cifar10", pickled=True)
    x, y = formats.random_cifar(SIZE, 10, seed=0)
    batch = {b"data": formats.cifar_planes(x), b"labels": y.tolist()}
    contents["data_batch_1"] = pickle.dumps(batch, protocol)
    formats.write_folder(tmp_path, contents)
    if protocol in (3, 4):
        assert_source(read_cifar("cifar10", tmp_path), train, test)
    else:
        # These name further functions, which CIFAR's own files do not.
        with pytest.raises(ValueError, match="data_batch_1 was not loaded"):
            read_cifar("cifar10", tmp_path)


@pytest.mark.parametrize(
    "name",
    ["cifar10", "cifar100"],
)
def test_missing_files_are_all_named(tmp_path, name):
    with pytest.raises(FileNotFoundError) as caught:
        read_cifar(name, tmp_path)
    message = str(caught.value)
    assert name in message
    for pickled in (False, True):
        folder = tmp_path / FOLDERS[name, pickled]
        for file in contents_of(name, pickled)[0]:
            assert f"{folder / file}\n" in message
        assert f"{tmp_path / ARCHIVES[name, pickled]}\n" in message


def test_one_missing_batch_is_named(tmp_path):
    contents, _, _ = contents_of("cifar10", pickled=False)
    del contents["data_batch_3.bin"]
    folder = tmp_path / "cifar-10-batches-bin"
    formats.write_folder(folder, contents)
    with pytest.raises(FileNotFoundError) as caught:
        read_cifar("cifar10", tmp_path)
    assert str(folder / "data_batch_3.bin") in str(caught.value)
    assert str(folder / "data_batch_2.bin") not in str(caught.value)


@pytest.mark.parametrize("size", [0, 3073, 2 * 3073 - 1, 3 * 3073])
def test_a_binary_file_of_another_size_is_refused(tmp_path, size):
    contents, _, _ = contents_of("cifar10", pickled=False)
    contents["test_batch.bin"] = bytes(size)
    formats.write_folder(tmp_path, contents)
    with pytest.raises(ValueError, match="test_batch.bin") as caught:
        read_cifar("cifar10", tmp_path)
    assert "expected 6,146 bytes" in str(caught.value)
    assert f"received {size:,}" in str(caught.value)


def test_a_binary_label_out_of_range_is_refused(tmp_path):
    contents, _, _ = contents_of("cifar10", pickled=False)
    contents["test_batch.bin"] = b"\x0a" * (2 * 3073)
    formats.write_folder(tmp_path, contents)
    with pytest.raises(ValueError, match="labels from 0 to 9, received 10"):
        read_cifar("cifar10", tmp_path)


@pytest.mark.parametrize("keep", [0, 40, 2000])
def test_a_truncated_pickle_is_refused(tmp_path, keep):
    contents, _, _ = contents_of("cifar100", pickled=True)
    contents["train"] = contents["train"][:keep]
    formats.write_folder(tmp_path, contents)
    with pytest.raises(ValueError, match=f"reading its {keep:,} bytes"):
        read_cifar("cifar100", tmp_path)


@pytest.mark.parametrize(
    ("batch", "complaint"),
    [
        ([1, 2], "TypeError"),
        ({b"labels": [1, 2]}, "KeyError"),
        ({b"data": b"abc", b"labels": [1, 2]}, "received bytes"),
        (
            {b"data": np.zeros((2, 3072)), b"labels": [1, 2]},
            "received ndarray",
        ),
        (
            {b"data": np.zeros((1, 3072), "uint8"), b"labels": [1]},
            r"received \(1, 3072\)",
        ),
        (
            {b"data": np.zeros((2, 3072), "uint8"), b"labels": [1]},
            r"labels of shape \(1,\)",
        ),
        (
            {b"data": np.zeros((2, 3072), "uint8"), b"labels": [0, -1]},
            "received -1 to 0",
        ),
    ],
)
def test_a_pickle_of_something_else_is_refused(tmp_path, batch, complaint):
    contents, _, _ = contents_of("cifar10", pickled=True)
    contents["data_batch_2"] = pickle.dumps(batch, protocol=4)
    formats.write_folder(tmp_path, contents)
    with pytest.raises(ValueError, match=complaint) as caught:
        read_cifar("cifar10", tmp_path)
    assert "data_batch_2" in str(caught.value)


class Malicious:
    """Creates a file when it is unpickled without care."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize(
    "function", [os.mkdir, eval, exec, getattr, np.load, np.save]
)
def test_a_malicious_pickle_is_refused_and_does_not_run(
    tmp_path, function, archived
):
    target = tmp_path / "created"
    argument = str(target)
    if function in (eval, exec):
        argument = f"__import__('os').mkdir({argument!r})"
    contents, _, _ = contents_of("cifar10", pickled=True)
    contents["data_batch_1"] = formats.python2_pickle(
        {b"data": Malicious(function, argument), b"labels": []}
    )
    if archived:
        archive = tmp_path / "cifar-10-python.tar.gz"
        formats.write_archive(archive, "cifar-10-batches-py", contents)
    else:
        formats.write_folder(tmp_path, contents)
    with pytest.raises(ValueError, match="data_batch_1 was not loaded") as e:
        read_cifar("cifar10", tmp_path)
    assert function.__name__ in str(e.value)
    assert not target.exists()


@pytest.mark.parametrize("archived", [False, True])
@pytest.mark.parametrize("pickled", [False, True])
def test_the_names_of_classes_are_read_where_they_are(
    tmp_path, pickled, archived
):
    contents, *_ = contents_of("cifar100", pickled)
    fine = [f"fine {number}" for number in range(100)]
    coarse = [f"coarse {number}" for number in range(20)]
    formats.write_folder(tmp_path, contents)
    assert cifar.read_all_labels("cifar100", tmp_path)[1] == {}
    contents.update(formats.cifar100_names(fine, coarse, pickled))
    folder = tmp_path / "with names"
    folder.mkdir()
    if archived:
        archive = folder / ARCHIVES["cifar100", pickled]
        formats.write_archive(archive, FOLDERS["cifar100", pickled], contents)
    else:
        formats.write_folder(folder, contents)
    assert cifar.read_all_labels("cifar100", folder)[1] == {
        "label": fine,
        "coarse_label": coarse,
    }


def test_names_in_a_malicious_pickle_are_refused_and_it_does_not_run(tmp_path):
    target = tmp_path / "created"
    contents, *_ = contents_of("cifar10", pickled=True)
    contents["batches.meta"] = formats.python2_pickle(
        {b"label_names": Malicious(os.mkdir, str(target))}
    )
    formats.write_folder(tmp_path, contents)
    with pytest.raises(ValueError, match="batches.meta was not loaded"):
        read_cifar("cifar10", tmp_path)
    assert not target.exists()


def test_a_truncated_archive_is_refused(tmp_path):
    contents, _, _ = contents_of("cifar10", pickled=False)
    archive = tmp_path / "cifar-10-binary.tar.gz"
    formats.write_archive(archive, "cifar-10-batches-bin", contents)
    size = archive.stat().st_size
    archive.write_bytes(archive.read_bytes()[: size // 2])
    with pytest.raises(ValueError, match="not a complete .tar.gz") as caught:
        read_cifar("cifar10", tmp_path)
    assert f"received {size // 2:,} bytes" in str(caught.value)


def test_an_archive_without_a_batch_is_refused(tmp_path):
    contents, _, _ = contents_of("cifar10", pickled=False)
    del contents["data_batch_4.bin"]
    archive = tmp_path / "cifar-10-binary.tar.gz"
    formats.write_archive(archive, "cifar-10-batches-bin", contents)
    with pytest.raises(
        ValueError, match="missing cifar-10-batches-bin/data_batch_4.bin"
    ):
        read_cifar("cifar10", tmp_path)


def test_real_cifar10_has_the_published_mean_and_balance(real_data_dir):
    source = read_cifar("cifar10", real_data_dir)
    images, labels = source.train
    assert images.shape == (50000, 32, 32, 3)
    np.testing.assert_allclose(
        images.mean(axis=(0, 1, 2)) / 255,
        (0.4914, 0.4822, 0.4465),
        atol=1e-4,
    )
    assert np.bincount(labels).tolist() == [5000] * 10
    assert np.bincount(source.test[1]).tolist() == [1000] * 10


def test_real_cifar100_has_the_published_mean_and_balance(real_data_dir):
    source = read_cifar("cifar100", real_data_dir)
    images, labels = source.train
    np.testing.assert_allclose(
        images.mean(axis=(0, 1, 2)) / 255,
        (0.5071, 0.4865, 0.4409),
        atol=1e-4,
    )
    assert np.bincount(labels).tolist() == [500] * 100
    assert np.bincount(source.test[1]).tolist() == [100] * 100
