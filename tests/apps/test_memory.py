"""Memory that arrays give back stays with the program."""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.any_backend

_PROGRAM = """
import numpy as np

from apps import memory


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4096


if {keeps}:
    memory.keep_freed_memory()
before = resident()
array = np.ones(2**27, "uint8")
del array
print(resident() - before)
"""


def _kept(keeps):
    """Return the bytes that a program has after an array of 2**27 is gone."""
    program = _PROGRAM.format(keeps=keeps)
    command = [sys.executable, "-c", program]
    return int(subprocess.run(command, capture_output=True, check=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="glibc gives it back")
def test_freed_memory_is_kept():
    assert _kept(False) < 2**26 < _kept(True)
