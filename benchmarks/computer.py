"""What the benchmark needs to know of the computer."""

import os
import platform
from pathlib import Path


def available_cores():
    """Return the number of processor cores that this program may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor_name():
    """Return the processor's name for people."""
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def processor_times():
    """Return for how long the computer has worked, over all programs.

    Returns:
        Tuple of busy seconds and of all seconds, both summed over the cores,
        since some moment in the past; `None` where the system does not say.
    """
    for line in _lines("/proc/stat"):
        user, nice, system, idle, wait, *rest = map(int, line.split()[1:])
        # irq, softirq and what a virtual machine's host took; the guests
        # after them are part of user and nice.
        busy = user + nice + system + sum(rest[:3])
        ticks = os.sysconf("SC_CLK_TCK")
        return busy / ticks, (busy + idle + wait) / ticks
    return None


def _lines(path):
    """Return the lines of a file, none if there is no such file."""
    path = Path(path)
    return path.read_text("utf-8").splitlines() if path.exists() else []
