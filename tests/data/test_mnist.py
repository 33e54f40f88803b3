"""MNIST's IDX files: read exactly, or refused by name."""

import gzip
import struct

import numpy as np
import pytest

from keras_neokd.data import files
from keras_neokd.data.mnist import read_idx
from keras_neokd.data.mnist import read_mnist
from tests.data import formats

pytestmark = pytest.mark.any_backend

NAMES = [
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
]


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("subfolder", ["", "mnist"])
def test_four_files_give_the_arrays_that_were_written(
    tmp_path, suffix, subfolder
):
    written = formats.write_mnist(tmp_path / subfolder, 30, 10, suffix)
    source = read_mnist(tmp_path)
    for (images, labels), (x, y) in [
        (source.train, written["train"]),
        (source.test, written["t10k"]),
    ]:
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, x)
        np.testing.assert_array_equal(labels, y)
    assert source.num_classes == 10


def test_the_bytes_of_an_idx_file_are_read_big_endian(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes.fromhex("00000802 00000002 00000003 010203040506"))
    np.testing.assert_array_equal(read_idx(path), [[1, 2, 3], [4, 5, 6]])


def test_missing_files_are_all_named(tmp_path):
    formats.write_mnist(tmp_path / "mnist")
    (tmp_path / "mnist" / NAMES[1]).unlink()
    with pytest.raises(FileNotFoundError) as caught:
        read_mnist(tmp_path)
    message = str(caught.value)
    for name in NAMES:
        assert f"{tmp_path / name}\n" in message
        assert f"{tmp_path / name}.gz\n" in message
    assert f"{tmp_path / 'mnist' / NAMES[1]}\n" in message
    assert str(tmp_path / "mnist" / NAMES[0]) not in message
    assert "KERAS_NEOKD_DATA" in message


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 4), (3, 4), (10, 16), (1000, 16 + 30 * 784), (23537, 23536)],
)
def test_a_file_of_another_size_is_refused_with_both(tmp_path, size, expected):
    formats.write_mnist(tmp_path)
    path = tmp_path / NAMES[0]
    path.write_bytes((path.read_bytes() + b"x")[:size])
    message = f"{NAMES[0]}.*expected {expected:,} bytes.*received {size:,}"
    with pytest.raises(ValueError, match=message):
        read_mnist(tmp_path)


@pytest.mark.parametrize(
    "change", [lambda content: content[:-100], lambda _: b"<html>not found"]
)
def test_a_file_that_is_no_whole_gzip_file_is_refused(tmp_path, change):
    formats.write_mnist(tmp_path, suffix=".gz")
    path = tmp_path / f"{NAMES[0]}.gz"
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{NAMES[0]}.gz is not a complete"):
        read_mnist(tmp_path)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (NAMES[0], np.zeros((30, 27, 28)), r"\(n, 28, 28\).*\(30, 27, 28\)"),
        (NAMES[1], np.zeros(29), r"expected 30 labels.*\(29,\)"),
        (NAMES[3], np.full(10, 10), "expected 0 to 9, received 10"),
    ],
)
def test_arrays_of_other_data_are_refused(tmp_path, name, array, message):
    formats.write_mnist(tmp_path)
    formats.write_idx(tmp_path / name, array)
    with pytest.raises(ValueError, match=message):
        read_mnist(tmp_path)


def test_a_file_of_another_type_is_refused(tmp_path):
    formats.write_mnist(tmp_path)
    # Type 0x0D is 32-bit floats.
    (tmp_path / NAMES[0]).write_bytes(struct.pack(">HBBI", 0, 13, 1, 0))
    with pytest.raises(ValueError, match="00 00 08, received 00 00 0d"):
        read_mnist(tmp_path)


def test_real_mnist_has_the_published_mean_and_deviation(real_data_dir):
    source = read_mnist(real_data_dir)
    images, labels = source.train
    assert images.shape == (60000, 28, 28, 1)
    assert source.test[0].shape == (10000, 28, 28, 1)
    assert images.mean() / 255 == pytest.approx(0.1307, abs=5e-5)
    assert images.std() / 255 == pytest.approx(0.3081, abs=5e-5)
    # The first five training labels, as printed in every tutorial.
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]
    counts = np.bincount(labels, minlength=10)
    assert (counts.sum(), counts.min(), counts.max()) == (60000, 5421, 6742)


def test_gzip_members_are_joined_as_gzip_does(tmp_path):
    formats.write_mnist(tmp_path, suffix=".gz")
    path = tmp_path / f"{NAMES[0]}.gz"
    content = gzip.decompress(path.read_bytes())
    parts = content[:100], content[100:]
    path.write_bytes(b"".join(map(gzip.compress, parts)))
    assert len(read_mnist(tmp_path).train[0]) == 30


def idx_gz(path, shape, num_bytes):
    """A gzipped IDX file whose header may claim more than it holds."""
    header = struct.pack(f">HBB{len(shape)}I", 0, 8, len(shape), *shape)
    path.write_bytes(gzip.compress(header + bytes(num_bytes)))


@pytest.mark.parametrize("received", ["112", "at most "])
def test_a_header_that_claims_too_much_takes_no_memory(tmp_path, received):
    path = tmp_path / "file.gz"
    idx_gz(path, (2**31, 2**9), 100)
    if received == "112":
        path = path.with_suffix("")
        path.write_bytes(gzip.decompress(path.with_suffix(".gz").read_bytes()))
    message = f"expected {2**40 + 12:,} bytes.*received {received}"
    with pytest.raises(ValueError, match=message):
        read_idx(path)


def test_no_more_is_unpacked_than_the_header_claims(tmp_path, monkeypatch):
    path = tmp_path / "file.gz"
    idx_gz(path, (10, 100), 100_000)
    read = []
    original = gzip.GzipFile.read
    monkeypatch.setattr(
        gzip.GzipFile,
        "read",
        lambda self, size: read.append(size) or original(self, size),
    )
    with pytest.raises(ValueError, match="received at least 1,013"):
        read_idx(path)
    assert sum(read) == 12 + 1001


def test_what_does_not_fit_into_memory_is_told_before(tmp_path, monkeypatch):
    path = tmp_path / "file.gz"
    idx_gz(path, (10, 100), 1000)
    monkeypatch.setattr(files, "physical_memory", lambda: 999)
    message = r"file.gz needs 1,000 bytes.* has 999 in all"
    with pytest.raises(MemoryError, match=message):
        read_idx(path)


def test_running_out_of_memory_is_told_in_bytes():
    with (
        pytest.raises(MemoryError, match="x needs 5 bytes.*Close other"),
        files.memory_for("x", 5),
    ):
        raise MemoryError
