"""Keep the memory that arrays give back, instead of asking for it again."""

import ctypes
import os
import sys

# Variables by which a user says what to do.
_VARIABLES = ("MALLOC_MMAP_MAX_", "MALLOC_TRIM_THRESHOLD_")
# Numbers of glibc's mallopt.
_TRIM_THRESHOLD, _MMAP_MAX = -1, -4


def keep_freed_memory():
    """Let the C library keep memory that is freed, where it can be told to.

    glibc gives large arrays back to the system as soon as they are freed, and
    the system fills each new one with zeros. PyTorch on processors frees an
    array per layer: evaluations took up to a third longer by that.
    """
    if sys.platform != "linux" or any(map(os.environ.get, _VARIABLES)):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, -1)
