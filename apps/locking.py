"""Lock a folder for one run at a time; its first process holds the lock."""

import contextlib
import os

from keras_neokd.training import processes

try:
    import fcntl
except ImportError:  # Windows has none; nothing is locked there.
    fcntl = None

_NAME = ".lock"
# Reasons that were told: an evaluation locks for every attack.
_SAID = set()


@contextlib.contextmanager
def alone_in(folder):
    """Keep other runs out of a folder, within a `with`.

    The system frees the folder when the process ends, however it ends. All
    processes of a run have to call it; the first one holds the lock.

    Args:
        folder: `pathlib.Path`, made if it does not exist.

    Raises:
        ValueError: if another run is in it; on all processes.
        OSError: if the folder cannot be written, or its lock file is a link
            or something else that no run makes; on all processes.
    """
    with contextlib.ExitStack() as stack:
        is_free, failure = True, None
        if processes.is_first():
            try:
                folder.mkdir(parents=True, exist_ok=True)
                is_free = _lock(folder / _NAME, stack)
            except OSError as error:
                failure = error
        # Before anything is raised: the others wait for this answer.
        is_taken, has_failed = processes.AnyProcess.any_now(
            not is_free, failure
        )
        if has_failed:
            raise failure or OSError(
                f"The first process could not lock {folder}: it says why."
            )
        if is_taken:
            raise ValueError(
                f"Another process is training in {folder}: two would mix "
                "their checkpoints. Wait for it, or give another folder with "
                "--workdir."
            )
        yield


def _lock(path, stack):
    """Lock a file until the stack ends; return whether nobody else has."""
    if fcntl is None:
        return True
    descriptor = _open(path)
    stack.callback(os.close, descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if str(error) not in _SAID:
            _SAID.add(str(error))
            print(
                f"WARNING: {path} could not be locked ({error}). Start no "
                "second program that writes to the same folder."
            )
    return True


def _open(path):
    """Open a file as it is or make it, and follow no link."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
    if path.is_symlink() or path.exists() and not path.is_file():
        raise OSError(
            f"{path} is a link or no file: keras_neokd needs a lock file of "
            "that name. Remove it if you trust the folder, or give another "
            "folder."
        )
    return os.open(path, flags, 0o666)
