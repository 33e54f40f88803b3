"""One run at a time in a folder."""

import os
import signal
import subprocess
import sys

import pytest

from apps import locking
from apps import training
from keras_neokd import MultiExitModel
from tests.apps.tiny import quick_config

pytestmark = pytest.mark.any_backend

fcntl = pytest.importorskip("fcntl", reason="nothing is locked here")

# A process in the folder, without the code under test.
HOLDER = """
import fcntl, sys, time

file = open(sys.argv[1], "w")
fcntl.flock(file, fcntl.LOCK_EX)
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / ".lock")],
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_a_second_run_is_refused_until_the_first_one_ends(holder, tmp_path):
    with pytest.raises(ValueError) as error:
        training.train(quick_config(), tmp_path)
    assert f"Another process is training in {tmp_path}" in str(error.value)
    assert "give another folder" in str(error.value)
    assert os.listdir(tmp_path) == [".lock"]
    # Even where it ends without a chance to clean up.
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert training.train(quick_config(), tmp_path).is_finished


def test_a_folder_is_locked_while_a_run_trains_and_finishes(
    tmp_path, monkeypatch
):
    refused = []

    def check(*arguments, **named):
        with pytest.raises(ValueError, match="Another process"):
            with locking.alone_in(tmp_path):
                pass
        refused.append(True)

    for owner, name in ((MultiExitModel, "fit"), (training, "_save")):
        monkeypatch.setattr(owner, name, check)
    training.train(quick_config(), tmp_path)
    assert len(refused) == 2
    with locking.alone_in(tmp_path):
        pass


def test_where_nothing_can_be_locked_a_warning_says_so(
    tmp_path, monkeypatch, capsys
):
    def unsupported(*arguments):
        raise OSError("Function not implemented")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    monkeypatch.setattr(locking, "_SAID", set())
    for name in ("one", "two"):
        with locking.alone_in(tmp_path / name):
            pass
    said = capsys.readouterr().out
    assert "could not be locked (Function not imp" in said
    assert said.count("WARNING") == 1


def test_a_lock_that_is_a_link_is_refused_and_empties_nothing(tmp_path):
    """A folder of others could have one to any file of the user."""
    precious = tmp_path / "precious.txt"
    precious.write_text("years of work")
    folder = tmp_path / "run"
    folder.mkdir()
    for target in (precious, tmp_path / "made by a link"):
        (folder / ".lock").symlink_to(target)
        with pytest.raises(OSError, match=".lock is a link.* Remove it if"):
            with locking.alone_in(folder):
                pass
        (folder / ".lock").unlink()
    assert precious.read_text() == "years of work"
    assert not (tmp_path / "made by a link").exists()


def test_no_process_waits_for_one_that_cannot_lock(tmp_path, monkeypatch):
    asked = []

    def any_now(*wishes):
        asked.append([*map(bool, wishes)])
        return asked[-1]

    monkeypatch.setattr(locking.processes.AnyProcess, "any_now", any_now)
    (tmp_path / ".lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="is a link"):
        with locking.alone_in(tmp_path):
            pass
    assert asked == [[False, True]]


def test_another_process_says_that_the_first_one_could_not_lock(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(locking.processes, "is_first", lambda: False)
    monkeypatch.setattr(
        locking.processes.AnyProcess, "any_now", lambda *_: [False, True]
    )
    with pytest.raises(OSError, match="first process could not lock"):
        with locking.alone_in(tmp_path):
            pass


def test_a_lock_file_of_an_earlier_run_is_taken_as_it_is(tmp_path):
    (tmp_path / ".lock").write_text("kept")
    with locking.alone_in(tmp_path):
        pass
    assert (tmp_path / ".lock").read_text() == "kept"
