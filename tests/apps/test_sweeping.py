"""Sweeps that are told to stop, and runs without a history.

The apps that a sweep starts are stand-ins, which begin at once.
"""

import os
import signal
import threading
import time

import pytest

from apps import sweeping
from apps.workdir import Workdir
from tests.apps.tiny import untrained_run

SWEEP = """
def get_runs():
    return {"one": [], "two": []}
"""
# Notes every signal in a file and ends with a status as apps.train does.
LISTENING = """
import pathlib, signal, sys, time

folder = pathlib.Path(sys.argv[1].removeprefix("--workdir="))
folder.mkdir()
told = []
for each in (signal.SIGTERM, signal.SIGINT):
    signal.signal(each, lambda number, frame: told.append(number))
(folder / "ready").touch()
deadline = time.monotonic() + 60
while not told and time.monotonic() < deadline:
    time.sleep(0.01)
time.sleep(0.3)  # Another one would be on its way.
(folder / "told").write_text(",".join(map(str, map(int, told))))
sys.exit(75)
"""
# Any program while it still imports.
DEAF = """
import pathlib, sys, time

folder = pathlib.Path(sys.argv[1].removeprefix("--workdir="))
folder.mkdir()
(folder / "ready").touch()
time.sleep(60)
"""


@pytest.fixture
def start(tmp_path, monkeypatch):
    """A function that sweeps with a program in place of apps.train."""
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "__init__.py").touch()
    (tmp_path / "sweep.py").write_text(SWEEP)
    monkeypatch.chdir(tmp_path)

    def sweep(program):
        (tmp_path / "apps" / "train.py").write_text(program)
        sweeping.sweep(tmp_path / "sweep.py", tmp_path)

    return sweep


def tell(folder, number):
    """Send this process a signal, once a run has begun."""

    def send():
        deadline = time.monotonic() + 60
        while not (folder / "ready").exists() and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(os.getpid(), number)

    threading.Thread(target=send, daemon=True).start()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_sweep_that_is_told_to_stop_tells_its_run(start, number, tmp_path):
    before = signal.getsignal(number)
    tell(tmp_path / "one", number)
    with pytest.raises(SystemExit) as stopped:
        start(LISTENING)
    assert stopped.value.code == 75
    # Never SIGINT, which a terminal has sent already.
    assert (tmp_path / "one" / "told").read_text() == f"{signal.SIGTERM:d}"
    assert not (tmp_path / "two").exists()
    assert signal.getsignal(number) is before


def test_no_run_follows_one_that_the_signal_killed(start, tmp_path):
    tell(tmp_path / "one", signal.SIGTERM)
    with pytest.raises(SystemExit) as stopped:
        start(DEAF)
    assert stopped.value.code == 75
    assert not (tmp_path / "two").exists()


def test_a_run_without_a_history_is_summarized_without_it(tmp_path):
    run = Workdir(untrained_run(tmp_path / "run"))
    attack = {"name": "clean", "top1_average": 0.5, "top1": {"a": 0.5}}
    sweeping.workdir.write_json(
        run.results, {"method": "lw", "attacks": [attack]}
    )
    assert sweeping.summarize(run, [""]) == {
        "method": "lw",
        "clean": 50.0,
        "clean exits": "50.0",
    }
