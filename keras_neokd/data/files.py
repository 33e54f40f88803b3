"""Find and read local files that others may have written.

The sizes that a file claims are compared with what it holds before memory is
taken for them.
"""

import contextlib
import gzip
import os
import pathlib
import tarfile
import zlib

#: What reading a damaged gzip or tar file can raise.
DAMAGED = (EOFError, OSError, tarfile.TarError, zlib.error)

#: What deflate, the compression of gzip and zip, makes of a byte at most: two
#: bits are the shortest sign for a copy, and 258 bytes the longest copy.
MOST_UNPACKED = 258 * 8 // 2

# Bytes read at once: a size that is not true takes no more memory.
_PIECE = 2**20
# Bytes for the headers of an archive.
_SMALL = 2**20


def search(folders, wanted):
    """Return the files of the first folder that has all, and missing paths.

    Args:
        folders: list of `pathlib.Path`.
        wanted: for each file the tuple of its possible names.

    Returns:
        The path of each file, or an empty list; and all missing paths.
    """
    missing = []
    for folder in folders:
        choices = [[folder / name for name in names] for names in wanted]
        found = [[*filter(pathlib.Path.is_file, paths)] for paths in choices]
        if all(found):
            return [paths[0] for paths in found], missing
        for paths, path in zip(choices, found, strict=True):
            missing.extend([] if path else paths)
    return [], missing


def not_found(name, paths):
    """Return the error for a data set of which no path is there."""
    listed = "\n".join(f"  {path}" for path in paths)
    return FileNotFoundError(
        f"The files of the data set {name!r} were not found. Looked for:\n"
        f"{listed}\n"
        "Put them at one of these places, or point `data_dir` "
        "(--config.data.dir) or the environment variable KERAS_NEOKD_DATA to "
        "the folder that holds them."
    )


def wrong_size(file, expected, received, qualifier=""):
    """Return the error for a file with too few or too many bytes.

    The qualifier is "at least" or "at most" where no more is known.
    """
    received = f"{qualifier} {received:,}".strip()
    return ValueError(
        f"{file} is damaged or not the file that its name says: expected "
        f"{expected:,} bytes of content, received {received}. Download it "
        "again."
    )


@contextlib.contextmanager
def memory_for(what, num_bytes, remedy=None):
    """Raise `MemoryError` if memory is short, where possible beforehand.

    Args:
        what: begins the sentence of the error, such as a path.
        num_bytes: bytes of memory taken in the `with` block.
        remedy: what to do, as a sentence. Defaults to general advice.
    """
    remedy = remedy or (
        "Close other programs, or use a computer with more memory; if you "
        "expected less, the file is not what it should be: get it again."
    )
    needed = f"{what} needs {num_bytes:,} bytes of memory"
    has = physical_memory()
    if has is not None and num_bytes > has:
        raise MemoryError(
            f"{needed}, and this computer has {has:,} in all. {remedy}"
        )
    try:
        yield
    except MemoryError as error:
        raise MemoryError(f"{needed}, more than are free. {remedy}") from error


def physical_memory():
    """Return the bytes of memory of this computer, None where not known."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # On Windows, for one.
        return None


@contextlib.contextmanager
def opened(path):
    """Open a file to read, unpacked on the fly where its name ends in .gz.

    Raises `ValueError` for an incomplete gzip file.
    """
    if path.suffix != ".gz":
        with open(path, "rb") as file:
            yield file
        return
    try:
        with gzip.open(path) as file:
            yield file
    except DAMAGED as error:
        raise ValueError(
            f"{path} is not a complete gzip file ({error}); received "
            f"{path.stat().st_size:,} bytes. Download it again."
        ) from error


def read_at_most(file, num_bytes):
    """Return the next bytes of a file, fewer where it ends."""
    content = bytearray()
    while piece := file.read(min(num_bytes - len(content), _PIECE)):
        content += piece
    return content


def read_exactly(path, file, num_bytes, already=0):
    """Return the rest of an `opened` file, which has to be `num_bytes`.

    `already` bytes were read of it before. Raises `ValueError` if there are
    fewer or more bytes, `MemoryError` if the computer has less memory.
    """
    expected = already + num_bytes
    size = path.stat().st_size
    if path.suffix != ".gz" and size != expected:
        raise wrong_size(path, expected, size)
    if size * MOST_UNPACKED < expected:
        raise wrong_size(path, expected, size * MOST_UNPACKED, "at most")
    with memory_for(path, num_bytes):
        content = read_at_most(file, num_bytes + 1)
    received = already + len(content)
    if received != expected:
        qualifier = "at least" if received > expected else ""
        raise wrong_size(path, expected, received, qualifier)
    return content


def read_whole(path, num_bytes):
    """Return the content of a file as `read_exactly`."""
    with opened(path) as file:
        return read_exactly(path, file, num_bytes)


def read_bytes(path, most):
    """Return the content of a file of at most `most` bytes.

    Raises `ValueError` if it is larger, `OSError` if it cannot be read.
    """
    size = path.stat().st_size
    if size > most:
        raise ValueError(
            f"{path} is not what its name says: expected at most {most:,} "
            f"bytes, received {size:,}. Get the file again, or take it away."
        )
    with memory_for(path, size):
        return path.read_bytes()


def read_archive(path, sizes):
    """Return contents of members of a .tar.gz by name; extract nothing.

    Args:
        path: the archive.
        sizes: bytes of the wanted members by their names.

    Raises:
        ValueError: if the archive is damaged, a wanted member is not in it or
            has another size.
        MemoryError: if the computer has less memory.
    """
    contents = {}
    num_bytes = sum(sizes.values()) + _SMALL
    try:
        with (
            memory_for(path, num_bytes),
            gzip.open(path) as file,
            tarfile.open(fileobj=_Metered(file, num_bytes), mode="r:") as tar,
        ):
            for member in tar:
                if member.isfile() and member.name in sizes:
                    expected, received = sizes[member.name], member.size
                    if received != expected:
                        name = f"{path}/{member.name}"
                        raise wrong_size(name, expected, received)
                    file_inside = tar.extractfile(member)
                    contents[member.name] = read_at_most(file_inside, expected)
    except DAMAGED as error:
        raise ValueError(
            f"{path} is not a complete .tar.gz archive ({error}); received "
            f"{path.stat().st_size:,} bytes. Download it again."
        ) from error
    missing = [name for name in sizes if name not in contents]
    if missing:
        raise ValueError(
            f"{path} is not the archive that its name says: expected the "
            f"members {', '.join(sizes)}; missing {', '.join(missing)}."
        )
    return contents


def check_uncompressed(path, archive):
    """Raise `ValueError` if a `zipfile.ZipFile` unpacks to more than its file.

    `path` is the `pathlib.Path` of the archive.
    """
    claimed = sum(member.file_size for member in archive.infolist())
    held = path.stat().st_size
    if claimed > held:
        raise ValueError(
            f"{path} was not loaded: it has {held:,} bytes, and its members "
            f"claim {claimed:,}, which would be taken of your memory. Neither "
            "Keras nor PyTorch compresses what it writes: get the file as it "
            "was written, or pack it again without compression."
        )


class _Metered:
    """Limit the bytes read of an open file; skipping is free.

    `tarfile` believes an archive's headers how long and how many they are.
    """

    def __init__(self, file, num_bytes):
        self._file = file
        self._left = num_bytes
        self.seek, self.tell = file.seek, file.tell

    def read(self, size):
        if size > self._left:
            raise tarfile.ReadError(
                f"a header claims {size:,} bytes, or there are too many"
            )
        self._left -= size
        return self._file.read(size)
