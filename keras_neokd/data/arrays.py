"""Read arrays from `.npz` files that others may have written.

What a header claims is compared with what the file holds before memory is
taken for it, and other arrays are not unpacked.
"""

import contextlib
import io
import math
import zipfile
import zlib

import numpy as np

from keras_neokd.data import files

# What reading a damaged or a malicious archive can raise, besides OSError and
# ValueError; a RuntimeError where it is encrypted.
_DAMAGED = (
    EOFError,
    KeyError,
    RuntimeError,
    SyntaxError,
    TypeError,
    zipfile.BadZipFile,
    zlib.error,
)
_ENDING = ".npy"
# Headers of plain arrays are far shorter.
_HEADER = 2**14


def read_arrays(path, names=None):
    """Return arrays of an `.npz` file by their names, in the file's order.

    Args:
        path: the file.
        names: names of the arrays, whether the file holds them or not.
            Defaults to all that it holds.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it is no `.npz` file of plain arrays, is damaged, or
            claims arrays that it does not hold.
        MemoryError: if the computer has less memory.
    """
    with _opened(path) as archive:
        wanted = {
            name: info
            for name, info in _members(archive).items()
            if names is None or name in names
        }
        needed = [_checked_bytes(archive, info) for info in wanted.values()]
        with files.memory_for(path, sum(needed)):
            return {name: _read(archive, wanted[name]) for name in wanted}


def array_names(path):
    """Return the names of the arrays in an `.npz` file, or raise as above."""
    with _opened(path) as archive:
        return list(_members(archive))


@contextlib.contextmanager
def _opened(path):
    # Opened here: a damaged file is left open otherwise.
    with open(path, "rb") as file:
        try:
            with zipfile.ZipFile(file) as archive:
                yield archive
        except _DAMAGED as error:
            raise ValueError(f"{error}") from error


def _members(archive):
    """Return the members that hold arrays, by the names of the arrays."""
    return {
        info.filename.removesuffix(_ENDING): info
        for info in archive.infolist()
        if info.filename.endswith(_ENDING)
    }


def _checked_bytes(archive, info):
    """Return the bytes of an array, or raise if the member holds others."""
    is_packed = info.compress_type == zipfile.ZIP_DEFLATED
    if not is_packed and info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(
            f"{info.filename} is compressed in a way that NumPy does not use"
        )
    most = info.compress_size * (files.MOST_UNPACKED if is_packed else 1)
    if info.file_size > most:
        raise ValueError(
            f"{info.filename} claims {info.file_size:,} bytes, and the file "
            f"holds {most:,} of it at most"
        )
    with archive.open(info) as member:
        head = io.BytesIO(member.read(_HEADER))
    shape, dtype = _read_header(info.filename, head)
    num_bytes = math.prod(shape) * dtype.itemsize
    received = info.file_size - head.tell()
    # An array of objects is a pickle of any size, and refused when it is read.
    if num_bytes != received and not dtype.hasobject:
        raise ValueError(
            f"{info.filename} claims an array of {num_bytes:,} bytes, shape "
            f"{shape} and type {dtype}, and holds {received:,}"
        )
    return num_bytes


def _read_header(name, head):
    """Return the shape and type in a `.npy` header."""
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(head)
    if version not in readers:
        raise ValueError(f"{name} holds no plain array: version {version}")
    try:
        shape, _, dtype = readers[version](head)
    except MemoryError as error:  # So does Python call too deep brackets.
        raise ValueError(f"{name} has no header that can be read") from error
    return shape, dtype


def _read(archive, info):
    with archive.open(info) as member:
        return np.lib.format.read_array(member, allow_pickle=False)
