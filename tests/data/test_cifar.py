"""CIFAR's binary files, as folders and as archives."""

import gzip
import tarfile

import numpy as np
import pytest

from keras_neokd.data import cifar
from keras_neokd.data import files
from keras_neokd.data.cifar import read_cifar
from tests.data import formats

pytestmark = pytest.mark.any_backend

SIZE = 2  # images per file


@pytest.fixture(autouse=True)
def small_data_sets(request, monkeypatch):
    """Let the files hold 2 images where the real ones hold 10,000."""
    if "real_data_dir" in request.fixturenames:
        return
    for version in cifar._VERSIONS.values():
        for name in version.num_images:
            monkeypatch.setitem(version.num_images, name, SIZE)


def contents_of(name):
    """What the files of a tiny data set hold, and its parts."""
    contents, parts = {}, []
    is_cifar10 = name == "cifar10"
    names = formats.CIFAR10_PARTS if is_cifar10 else ["train", "test"]
    for seed, part in enumerate(names):
        x, y = formats.random_cifar(SIZE, 10 if is_cifar10 else 100, seed)
        columns = (y,) if is_cifar10 else ([seed] * SIZE, y)
        contents[f"{part}.bin"] = formats.cifar_binary(x, *columns)
        parts.append((x, y))
    return contents, parts


FOLDERS = {"cifar10": "cifar-10-batches-bin", "cifar100": "cifar-100-binary"}
ARCHIVES = {
    "cifar10": "cifar-10-binary.tar.gz",
    "cifar100": "cifar-100-binary.tar.gz",
}
NAMES = pytest.mark.parametrize("name", list(FOLDERS))
ARCHIVE = ARCHIVES["cifar10"]


def assert_source(source, parts):
    *train, test = parts
    train = [np.concatenate(arrays) for arrays in zip(*train, strict=True)]
    for (x, y), (expected_x, expected_y) in zip(
        (source.train, source.test), (train, test), strict=True
    ):
        assert x.dtype == np.uint8
        np.testing.assert_array_equal(x, expected_x)
        np.testing.assert_array_equal(y, expected_y)


@NAMES
@pytest.mark.parametrize("form", ["files", "folder", "archive"])
def test_each_form_gives_the_arrays_that_were_written(tmp_path, name, form):
    contents, parts = contents_of(name)
    if form == "archive":
        place = tmp_path / ARCHIVES[name]
        formats.write_archive(place, FOLDERS[name], contents)
    else:
        place = tmp_path / FOLDERS[name]
        folder = place if form == "folder" else tmp_path
        formats.write_folder(folder, contents)
        # The Python version beside it is not looked at.
        python = {"cifar-10-python.tar.gz": b"", "cifar-100-python": b""}
        formats.write_folder(tmp_path, python)
    before = sorted(tmp_path.rglob("*"))
    for given in (tmp_path, *([place] if place.exists() else [])):
        source = read_cifar(name, given)
        assert_source(source, parts)
        assert source.num_classes == (10 if name == "cifar10" else 100)
    assert sorted(tmp_path.rglob("*")) == before  # Nothing is extracted.


def test_a_binary_record_is_label_red_green_blue(tmp_path):
    contents, _ = contents_of("cifar10")
    record = bytes([7]) + b"\x01" * 1024 + b"\x02" * 1024 + b"\x03" * 1024
    contents["data_batch_1.bin"] = record * SIZE
    formats.write_folder(tmp_path, contents)
    images, labels = read_cifar("cifar10", tmp_path).train
    assert labels[:SIZE].tolist() == [7] * SIZE
    assert (images[0] == [1, 2, 3]).all()


@NAMES
def test_missing_files_are_all_named(tmp_path, name):
    with pytest.raises(FileNotFoundError) as caught:
        read_cifar(name, tmp_path)
    message = str(caught.value)
    assert name in message
    for file in contents_of(name)[0]:
        assert f"{tmp_path / FOLDERS[name] / file}\n" in message
    assert f"{tmp_path / ARCHIVES[name]}\n" in message


def test_one_missing_batch_is_named(tmp_path):
    contents, _ = contents_of("cifar10")
    del contents["data_batch_3.bin"]
    folder = tmp_path / "cifar-10-batches-bin"
    formats.write_folder(folder, contents)
    with pytest.raises(FileNotFoundError) as caught:
        read_cifar("cifar10", tmp_path)
    assert str(folder / "data_batch_3.bin") in str(caught.value)
    assert str(folder / "data_batch_2.bin") not in str(caught.value)


@pytest.mark.parametrize("size", [0, 3073, 2 * 3073 - 1, 3 * 3073])
def test_a_binary_file_of_another_size_is_refused(tmp_path, size):
    contents, _ = contents_of("cifar10")
    contents["test_batch.bin"] = bytes(size)
    formats.write_folder(tmp_path, contents)
    message = f"test_batch.bin.*expected 6,146 bytes.*received {size:,}"
    with pytest.raises(ValueError, match=message):
        read_cifar("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "first", "largest"),
    [
        ("cifar10", "test_batch.bin", b"\x0a", 9),
        ("cifar100", "test.bin", b"\x14\x00", 19),
        ("cifar100", "train.bin", b"\x13\x64", 99),
    ],
)
def test_a_label_out_of_range_is_refused(tmp_path, name, file, first, largest):
    contents, _ = contents_of(name)
    contents[file] = SIZE * (first + bytes(3072))
    formats.write_folder(tmp_path, contents)
    message = f"{file} is damaged.*to {largest}, received {largest + 1}"
    with pytest.raises(ValueError, match=message):
        read_cifar(name, tmp_path)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("cifar10", "cifar-10-batches-py/data_batch_1"),
        ("cifar10", "cifar-10-python.tar.gz"),
        ("cifar10", "data_batch_1"),
        ("cifar100", "cifar-100-python/train"),
        ("cifar100", "cifar-100-python.tar.gz"),
        ("cifar100", "train"),
    ],
)
def test_the_python_version_is_refused_and_not_opened(
    tmp_path, monkeypatch, name, found
):
    path = tmp_path / found
    path.parent.mkdir(exist_ok=True)
    path.touch()
    monkeypatch.setattr("builtins.open", None)
    title = {"cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}[name]
    for place in {tmp_path, path.parent, path}:
        with pytest.raises(ValueError, match=f'"{title} binary version"') as e:
            read_cifar(name, place)
        assert f"{ARCHIVES[name]} in place" in str(e.value)


def test_a_truncated_archive_is_refused(tmp_path):
    archive = tmp_path / ARCHIVE
    formats.write_archive(
        archive, FOLDERS["cifar10"], contents_of("cifar10")[0]
    )
    size = archive.stat().st_size // 2
    archive.write_bytes(archive.read_bytes()[:size])
    message = rf"not a complete .tar.gz.*received {size:,} bytes"
    with pytest.raises(ValueError, match=message):
        read_cifar("cifar10", tmp_path)


def test_an_archive_without_a_batch_is_refused(tmp_path):
    contents, _ = contents_of("cifar10")
    del contents["data_batch_4.bin"]
    formats.write_archive(tmp_path / ARCHIVE, FOLDERS["cifar10"], contents)
    message = "missing cifar-10-batches-bin/data_batch_4.bin"
    with pytest.raises(ValueError, match=message):
        read_cifar("cifar10", tmp_path)


def archive_with(path, *members):
    """Write a .tar.gz of (header, bytes after it), and nothing else."""
    content = b"".join(
        header.tobuf(tarfile.GNU_FORMAT) + after for header, after in members
    )
    path.write_bytes(gzip.compress(content + bytes(1024)))


def header(name, size, kind=tarfile.REGTYPE):
    """The header of a member that claims a size."""
    found = tarfile.TarInfo(name)
    found.size, found.type = size, kind
    return found


@pytest.mark.parametrize("size", [0, 6145, 6147, 2**40])
def test_a_member_of_another_size_is_not_unpacked(tmp_path, monkeypatch, size):
    name = "cifar-10-batches-bin/test_batch.bin"
    archive_with(tmp_path / ARCHIVE, (header(name, size), bytes(512)))
    monkeypatch.setattr(files, "read_at_most", None)
    with pytest.raises(ValueError, match=f"{name}.*6,146.*received {size:,}"):
        read_cifar("cifar10", tmp_path)


@pytest.mark.parametrize(
    "kind", [tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME]
)
def test_a_header_of_an_archive_that_claims_too_much_is_refused(tmp_path, kind):
    archive_with(
        tmp_path / ARCHIVE,
        (header("a", 512), bytes(512)),
        (header("b", 2**33, kind), bytes(512)),
    )
    with pytest.raises(ValueError, match="claims 8,589,934,592 bytes"):
        read_cifar("cifar10", tmp_path)


def test_an_archive_of_more_headers_than_expected_is_refused(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(files, "_SMALL", 5000)
    for name in cifar._VERSIONS["cifar10"].num_images:
        monkeypatch.setitem(cifar._VERSIONS["cifar10"].num_images, name, 0)
    archive_with(tmp_path / ARCHIVE, *[(header("a", 0), b"")] * 20)
    with pytest.raises(ValueError, match="or there are too many"):
        read_cifar("cifar10", tmp_path)


@pytest.mark.parametrize(
    ("name", "num_classes", "mean"),
    [
        ("cifar10", 10, (0.4914, 0.4822, 0.4465)),
        ("cifar100", 100, (0.5071, 0.4865, 0.4409)),
    ],
)
def test_real_images_have_the_published_mean_and_balance(
    real_data_dir, name, num_classes, mean
):
    source = read_cifar(name, real_data_dir)
    images, labels = source.train
    assert images.shape == (50000, 32, 32, 3)
    np.testing.assert_allclose(
        images.mean(axis=(0, 1, 2)) / 255, mean, atol=1e-4
    )
    for count, each in ((50000, labels), (10000, source.test[1])):
        shares = np.bincount(each).tolist()
        assert shares == [count // num_classes] * num_classes
