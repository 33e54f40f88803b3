"""A folder for files that are not finished yet, which no kill leaves for good.

with unfinished.folder_in(parent) as folder:
    ...  # write into folder, and move what is finished out of it
"""

import contextlib
import errno
import os
import shutil

try:
    import fcntl
except ImportError:  # Windows has none; nothing is locked there.
    fcntl = None

# What tensorflow-datasets leaves is incomplete.XXXXXX_VERSION, and not ours.
_NAME = "incomplete.keras_neokd"
_FULL = tuple(map(os.strerror, (errno.ENOSPC, errno.EDQUOT)))


@contextlib.contextmanager
def folder_in(parent):
    """Make a folder in another one, and remove it at the end.

    What a killed process left of it is removed first: while a process is
    within, it holds a lock that the system frees with it. Links are removed
    and not followed.

    Args:
        parent: `pathlib.Path`, made if it does not exist.

    Yields:
        `pathlib.Path` of the empty folder.

    Raises:
        ValueError: if another process is within, or may be, where folders
            cannot be locked.
        OSError: if it cannot be written; a full disk is told by the name of
            the parent.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = parent / _NAME
    with _lock(parent) as is_locked:
        if os.path.lexists(folder):
            if not is_locked:
                raise _in_use(folder)
            _remove(folder)
        folder.mkdir()
        try:
            yield folder
        except Exception as error:
            if not any(text in str(error) for text in _FULL):
                raise
            raise OSError(
                f"{parent} could not be written: no space is left on its "
                f"disk ({error}). The unfinished files were removed. Make "
                "room, or give another place."
            ) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _lock(folder):
    """Lock a folder; yield whether that is possible here."""
    if fcntl is None:
        yield False
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        is_locked = True
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(folder / _NAME) from None
        except OSError:
            is_locked = False  # Some file systems lock no folders.
        yield is_locked
    finally:
        os.close(descriptor)


def _in_use(folder):
    return ValueError(
        f"Another process writes {folder}, or was killed while it did. Wait "
        "for it; if none is running, delete the folder."
    )


def _remove(path):
    if path.is_symlink():
        path.unlink()
    else:
        shutil.rmtree(path)
