"""End a program when its parent process has ended.

    subprocess.Popen(command, **ending.options())   # in the one that starts it
    ending.end_with_parent()                        # in the other

The started program reads a pipe that nobody writes to. However its parent
ends, the system closes the pipe, and the program sends itself a SIGTERM:
training then writes a checkpoint and stops.
"""

import os
import signal
import subprocess
import threading

_VARIABLE = "KERAS_NEOKD_ENDS_WITH_PARENT"


def options():
    """Return arguments of `subprocess.Popen` for a program that is to end."""
    return {
        "stdin": subprocess.PIPE,
        "env": {**os.environ, _VARIABLE: "1"},
    }


def end_with_parent():
    """End with the parent from now on, if it started this with `options()`."""
    # Programs that this one starts do not inherit the wish.
    if os.environ.pop(_VARIABLE, None):
        threading.Thread(target=_wait, daemon=True).start()


def _wait():
    # Not `sys.stdin`, whose lock would be held when the interpreter ends.
    os.read(0, 1)
    os.kill(os.getpid(), signal.SIGTERM)
