"""Keep the memory that arrays give back, instead of asking for it again."""

import ctypes
import sys

# Numbers of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory():
    """Let the C library keep memory that is freed, where it can be told to.

    glibc gives large arrays back to the system as soon as they are freed, and
    the system fills each new one with zeros. PyTorch on processors frees an
    array per layer: evaluations took up to a third longer by that.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)
