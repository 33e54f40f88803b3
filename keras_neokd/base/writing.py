"""Write files and folders so that they are whole or not there.

    with writing.replacing("results.json") as unfinished:
        unfinished.write_text("{}")

What is written gets a new name, which nobody can foresee, beside the old file,
and takes its place when it is on the disk. So a kill, a power cut or a full
disk leaves the old file or the whole new one, and a link at a name is replaced
and never followed. What a killed process left unfinished is removed by the next
one that writes in the folder.
"""

import contextlib
import errno
import os
import pathlib
import re
import secrets
import shutil
import stat
from collections.abc import Iterator

try:
    import fcntl
except ImportError:  # Windows has none; nothing left over is removed there.
    fcntl = None  # type: ignore[assignment]

# A path as it may be given.
Name = str | os.PathLike[str]

_UNFINISHED = re.compile(r"\.unfinished\.[0-9a-f]{16}(\..*)?")
# What a full disk or quota is called, where the system has words for it.
_FULL = {
    number: text
    for number in (errno.ENOSPC, errno.EDQUOT)
    if not (text := os.strerror(number)).startswith("Unknown")
}


@contextlib.contextmanager
def replacing(path: Name) -> Iterator[pathlib.Path]:
    """Yield a new, empty file that takes the place of another at the end.

    Where the `with` ends in an error, the other is left as it was.

    Args:
        path: the file to write, existing or not.

    Yields:
        `pathlib.Path` of the new file, with the same suffix.

    Raises:
        OSError: if `path` is something else than a file, or the file cannot be
            written; where the disk or the quota is full, the message says so.
    """
    with unfinished(path) as new:
        yield new
        move_to_disk(new, path)


def write_text(path: Name, text: str) -> None:
    """Replace the content of a text file in UTF-8, see `replacing`."""
    with replacing(path) as new:
        new.write_text(text, "utf-8")


@contextlib.contextmanager
def unfinished(path: Name, is_folder: bool = False) -> Iterator[pathlib.Path]:
    """Yield a new file or folder beside `path`; remove it at the end.

    The caller moves it to its place within the `with`.

    Args:
        path: name that it is to get, for its suffix and for messages.
        is_folder: make a folder, which only this user may enter, instead of a
            file. Defaults to `False`.

    Raises:
        OSError: as `replacing`.
    """
    path = pathlib.Path(path)
    _check_replaceable(path, is_folder)
    _remove_leftovers(path.parent)
    with _saying_what_is_full(path):
        new, lock = _make(path, is_folder)
        try:
            yield new
        finally:
            _remove(new)
            _unlock(lock)


def move_to_disk(source: Name, target: Name) -> None:
    """Rename a file so that a power cut leaves the old or the whole new one.

    Args:
        source: the file, whole; in the folder of `target`.
        target: its new name, of a file or of none.
    """
    with open(source, "rb+") as file:
        os.fsync(file.fileno())
    os.replace(source, target)
    _flush(pathlib.Path(target).parent)


def move_folder(source: pathlib.Path, target: pathlib.Path) -> None:
    """Put a folder in the place of another, which is then removed.

    If that fails, `target` is left as it was.

    Args:
        source: `pathlib.Path` of the folder, inside one that `unfinished`
            made.
        target: `pathlib.Path` of a folder, or of nothing.
    """
    replaced = source.with_name(f"{source.name}.replaced")
    is_there = os.path.lexists(target)
    if is_there:
        target.rename(replaced)
    try:
        source.rename(target)
    except OSError:
        if is_there:
            replaced.rename(target)
        raise
    _flush(target.parent)


def _make(
    path: pathlib.Path, is_folder: bool
) -> tuple[pathlib.Path, int | None]:
    """Return a new file or folder beside a path, and its lock."""
    suffix = "" if is_folder else path.suffix
    name = f"{secrets.token_hex(8)}{suffix}"
    new = path.with_name(f".new.{name}")
    if is_folder:
        new.mkdir(mode=0o700)
    else:
        new.touch(exist_ok=False)
    lock = _lock(new)
    # Only now: what has this name and no lock is taken for a leftover.
    locked = path.with_name(f".unfinished.{name}")
    os.rename(new, locked)
    return locked, lock


def _check_replaceable(path: pathlib.Path, is_folder: bool) -> None:
    wanted = "folder" if is_folder else "file"
    if path.exists() and not (path.is_dir() if is_folder else path.is_file()):
        raise OSError(
            f"{path} is not a {wanted}, so it is not replaced by one. Give "
            "another name."
        )


def _flush(folder: pathlib.Path) -> None:
    """Wait until a rename is on the disk, not only in memory."""
    if os.name == "nt":
        return  # Windows opens no folders.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _saying_what_is_full(path: pathlib.Path) -> Iterator[None]:
    """Raise what a full disk raises as an `OSError` that names the file."""
    try:
        yield
    except Exception as error:
        # TensorFlow has errors of its own, which hold the system's words.
        reasons = [
            text
            for number, text in _FULL.items()
            if getattr(error, "errno", None) == number or text in str(error)
        ]
        if not reasons:
            raise
        free = shutil.disk_usage(path.parent).free / 1e6
        full = OSError(
            f"There is no room for {path}: {reasons[0]}; {free:,.1f} MB are "
            f"free in {path.parent}. What was there before is left as it was, "
            "what is unfinished is removed. Make room there, or write to "
            "another disk."
        )
        full.errno = getattr(error, "errno", None) or errno.ENOSPC
        raise full from error


def _remove_leftovers(folder: pathlib.Path) -> None:
    """Remove what killed processes left unfinished.

    A file that another process is writing has a lock, and is left alone; so
    is everything where files cannot be locked.
    """
    with contextlib.suppress(OSError):
        for path in folder.glob(".unfinished.*"):
            if _UNFINISHED.fullmatch(path.name):
                lock = _lock(path)
                if lock is not None:
                    _remove(path)
                    _unlock(lock)


def _remove(path: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _lock(path: pathlib.Path) -> int | None:
    """Lock a file or folder of this module's; return a descriptor or `None`.

    The system takes the lock away when the process ends, however it ends.
    """
    if fcntl is None:
        return None
    descriptor = None
    try:
        mode = path.lstat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            return None
        # Network file systems lock only what is open for writing.
        access = os.O_RDONLY if stat.S_ISDIR(mode) else os.O_RDWR
        descriptor = os.open(path, access | os.O_NOFOLLOW | os.O_NONBLOCK)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        _unlock(descriptor)
        return None
    return descriptor


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)
