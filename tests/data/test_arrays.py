"""Arrays of `.npz` files: what a header claims has to be there."""

import io
import zipfile
from unittest import mock

import numpy as np
import pytest

from keras_neokd.data import arrays
from keras_neokd.data import files
from keras_neokd.data.arrays import read_arrays

pytestmark = pytest.mark.any_backend

VALUES = {
    "images": np.arange(24, dtype="uint8").reshape(2, 3, 4),
    "scalar": np.array(1.5),
    "text": np.array("some words"),
    "none": np.zeros((0, 3)),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
}


def npy(shape, content=b"", dtype="|u1"):
    """A .npy file whose header claims a shape."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": dtype, "fortran_order": False, "shape": shape}
    )
    return file.getvalue() + content


def write(path, **members):
    """A .npz file of such members, compressed."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return path


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_arrays_come_back_as_they_were_written(tmp_path, save):
    save(tmp_path / "a.npz", **VALUES)
    found = read_arrays(tmp_path / "a.npz")
    assert list(found) == list(VALUES) == arrays.array_names(tmp_path / "a.npz")
    for name, values in VALUES.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype


def test_what_was_not_asked_for_is_not_looked_at(tmp_path):
    path = write(tmp_path / "a.npz", a=npy((3,), b"abc"), other=npy((2**40,)))
    assert read_arrays(path, ["a", "b"])["a"].tobytes() == b"abc"
    assert list(read_arrays(path, ["a", "b"])) == ["a"]
    with pytest.raises(ValueError, match="other.npy"):
        read_arrays(path)


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [((2**31,), "<i8"), ((2**20, 2**20), "|u1"), ((4,), "|u1")],
)
def test_a_header_that_claims_more_than_is_there_is_refused(
    tmp_path, shape, dtype
):
    path = write(tmp_path / "a.npz", a=npy(shape, b"abc", dtype))
    with pytest.raises(ValueError, match=r"a.npy claims an.*and holds 3") as e:
        read_arrays(path)
    assert f"shape {shape}" in str(e.value)


def test_a_member_that_claims_more_than_can_be_unpacked_is_refused(tmp_path):
    """The archive's own word on the size is changed, which nobody wrote."""
    path = write(tmp_path / "a.npz", a=npy((3,), b"abc"))
    content = path.read_bytes()
    size = len(npy((3,), b"abc")).to_bytes(4, "little")
    path.write_bytes(content.replace(size, (2**31).to_bytes(4, "little")))
    with pytest.raises(ValueError, match="claims 2,147,483,648 bytes, and"):
        read_arrays(path)


def test_the_wanted_arrays_together_have_to_fit_into_memory(
    tmp_path, monkeypatch
):
    path = tmp_path / "a.npz"
    np.savez(path, a=np.zeros(600, "uint8"), b=np.zeros(400, "uint8"))
    monkeypatch.setattr(files, "physical_memory", lambda: 999)
    with pytest.raises(MemoryError, match=r"a.npz needs 1,000 bytes.*999"):
        read_arrays(path)
    assert list(read_arrays(path, ["a"])) == ["a"]
    no_memory = mock.Mock(side_effect=MemoryError)
    monkeypatch.setattr(np.lib.format, "read_array", no_memory)
    with pytest.raises(MemoryError, match=r"a.npz needs 600 bytes of memory"):
        read_arrays(path, ["a"])


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_compressions_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("a.npy", npy((3,), b"abc"))
    with pytest.raises(ValueError, match="that NumPy does not use"):
        read_arrays(tmp_path / "a.npz")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "magic"),
        (b"\x93NUMPY\x03\x00" + bytes(20), "version"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\x7f", "header"),
        (npy((1,), bytes(8), "|O"), "allow_pickle"),
    ],
)
def test_what_is_no_plain_array_is_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        read_arrays(write(tmp_path / "a.npz", a=content))


@pytest.mark.parametrize("content", [b"", b"text", npy((3,), b"abc")])
def test_what_is_no_archive_is_refused(tmp_path, content):
    (tmp_path / "a.npz").write_bytes(content)
    with pytest.raises(ValueError, match="not a zip file"):
        read_arrays(tmp_path / "a.npz")
