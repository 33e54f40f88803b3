"""One run at a time in a folder: the lock that its first process holds."""

import contextlib

from apps import processes

try:
    import fcntl
except ImportError:  # Windows has none; nothing is locked there.
    fcntl = None

_NAME = ".lock"


@contextlib.contextmanager
def alone_in(folder):
    """Keep other runs out of a folder, within a `with`.

    The system frees the folder when the process ends, however it ends. All
    processes of a run have to call it; the first one holds the lock.

    Args:
        folder: `pathlib.Path`, made if it does not exist.

    Raises:
        ValueError: if another run is in it; on all processes.
        OSError: if the folder cannot be written.
    """
    with contextlib.ExitStack() as stack:
        is_free = True
        if processes.is_first():
            folder.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(open(folder / _NAME, "w"))
            is_free = _lock(file)
        if any(processes.Wishes.any_now(not is_free)):
            raise ValueError(
                f"Another process is training in {folder}: two would mix "
                "their checkpoints. Wait for it, or give another folder with "
                "--workdir."
            )
        yield


def _lock(file):
    """Lock a file until it is closed; return whether nobody else has."""
    if fcntl is None:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        print(
            f"WARNING: {file.name} could not be locked ({error}). Start no "
            "second run in this folder."
        )
    return True
