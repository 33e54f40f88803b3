"""Sweeps that are told to stop, and runs without a history.

The apps that a sweep starts are stand-ins, which begin at once.
"""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from apps import ending
from apps import sweeping
from apps.workdir import Workdir
from tests.apps.reporting import made
from tests.apps.tiny import untrained_run
from tests.isolation import ROOT

pytestmark = pytest.mark.any_backend

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


# Notes how it was started.
NOTING = """
import pathlib, sys

with pathlib.Path("started").open("a") as file:
    print(*sys.argv[2:], file=file)
sys.exit({status})
"""


def test_every_program_imports_the_modules_of_the_sweep(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "__init__.py").touch()
    for name, status in (("train", 0), ("evaluate", 1)):
        program = NOTING.format(status=status)
        (tmp_path / "apps" / f"{name}.py").write_text(program)
    (tmp_path / "sweep.py").write_text(SWEEP)
    with pytest.raises(RuntimeError, match="1 of 1 runs failed"):
        sweeping.sweep("sweep.py", tmp_path, ["one"], ["mine", "b/c.py"])
    started = (tmp_path / "started").read_text().splitlines()
    assert len(started) == 2
    for line in started:
        assert line.startswith("--import=mine --import=b/c.py")


# Ends as every app does when the sweep is gone.
ENDING = """
import importlib.util, os, pathlib, signal, sys, time

spec = importlib.util.spec_from_file_location("ending", {file!r})
ending = importlib.util.module_from_spec(spec)
spec.loader.exec_module(ending)
folder = pathlib.Path(sys.argv[1].removeprefix("--workdir="))
folder.mkdir()

def stop(number, frame):
    (folder / "stopped").write_text(str(int(number)))
    os._exit(75)

signal.signal(signal.SIGTERM, stop)
ending.end_with_parent()
(folder / "ready").write_text(str(os.getppid()))
time.sleep(60)
"""
SWEEP_APP = """
import sys

sys.path.insert(0, {root!r})
from apps import sweeping
sweeping.sweep("sweep.py", ".")
"""


def wait_for(path):
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


def test_a_program_ends_when_the_one_that_started_it_is_gone():
    options = ending.options()
    code = "import time; from apps import ending; ending.end_with_parent()"
    command = [sys.executable, "-c", f"{code}; print(1); time.sleep(60)"]
    process = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, **options
    )
    with process:
        assert process.stdout.readline() == b"1\n"
        process.stdin.close()
        assert process.wait(60) == -signal.SIGTERM


def test_a_program_that_was_not_asked_to_reads_nothing(monkeypatch):
    monkeypatch.delenv("KERAS_NEOKD_ENDS_WITH_PARENT", raising=False)
    before = threading.active_count()
    ending.end_with_parent()
    assert threading.active_count() == before


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP])
def test_a_run_stops_when_its_sweep_was_killed(tmp_path, number):
    (tmp_path / "apps").mkdir()
    (tmp_path / "apps" / "__init__.py").touch()
    program = ENDING.format(file=ending.__file__)
    (tmp_path / "apps" / "train.py").write_text(program)
    (tmp_path / "sweep.py").write_text(SWEEP)
    code = SWEEP_APP.format(root=str(ROOT))
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.DEVNULL
    ) as sweep:
        wait_for(tmp_path / "one" / "ready")
        sweep.send_signal(number)
        assert sweep.wait(60) == -number
    wait_for(tmp_path / "one" / "stopped")
    assert not (tmp_path / "two").exists()


def test_a_run_without_a_history_is_summarized_without_it(tmp_path):
    run = Workdir(untrained_run(tmp_path / "run"))
    record = made.record("lw", attacks=[made.attack("clean", 0.5, 0.25)])
    made.write(run.results, record)
    assert sweeping.summarize(run, [""]) == {
        "method": "lw",
        "clean": 37.5,
        "clean exits": "50.0/25.0",
    }


@pytest.mark.parametrize("text", ["[]", "{", '{"schema_version": 1}'])
def test_a_damaged_record_does_not_stop_the_summary_of_the_others(
    text, tmp_path, capsys
):
    for name in ("good", "bad"):
        made.write(tmp_path / name / "results.json", made.record("lw"))
    (tmp_path / "bad" / "results.json").write_text(text)
    rows = sweeping._rows(tmp_path, ["bad", "good"], [""])
    assert [row["run"] for row in rows] == ["good"]
    said = capsys.readouterr().out
    assert "WARNING: The summary leaves out bad: " in said
    assert str(tmp_path / "bad" / "results.json") in said


@pytest.mark.parametrize("row", ["[]", '{"epoch": 0}', '{"loss": "x"}'])
def test_a_damaged_history_is_named(row, tmp_path):
    run = Workdir(tmp_path)
    made.write(run.results, made.record("lw"))
    run.history.write_text(row + "\n")
    with pytest.raises(ValueError, match=r"history\.jsonl is damaged"):
        sweeping.summarize(run, [""])
