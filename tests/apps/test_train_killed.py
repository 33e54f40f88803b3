"""apps.train as a process that is killed twenty times, on real MNIST.

KERAS_NEOKD_DATA=DIR KERAS_BACKEND=jax \
    python -m pytest -s -m slow tests/apps/test_train_killed.py
"""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from apps.workdir import Workdir
from tests.apps.tiny import assert_same_end
from tests.isolation import ROOT

pytestmark = pytest.mark.slow

KILLS_AT_THE_START, KILLS_AT_A_WRITE, KILLS_AT_RANDOM = 3, 5, 12
# A write may end before the kill that was meant to hit it.
MOST_REPEATED_KILLS = 20


def command(workdir):
    """NEO-KD (NKD and EOKD) with dropout 0.5 and augmentation."""
    data = os.environ.get("KERAS_NEOKD_DATA")
    if not data:
        pytest.skip("needs MNIST in the folder KERAS_NEOKD_DATA")
    return [
        *(sys.executable, "-m", "apps.train"),
        *("--config=configs/mnist.py:neo_kd", f"--workdir={workdir}"),
        *(f"--config.data.dir={data}", "--config.data.augment=crop_flip"),
        *("--config.data.num_train=12800", "--config.data.num_test=128"),
        *("--config.data.validation_size=256", "--config.attack.num_steps=2"),
        *("--config.optimizer.milestones=(2,)", "--config.train.epochs=4"),
        *(
            "--config.train.validation=attack",
            "--config.train.checkpoint_seconds=0.5",
        ),
    ]


class Training:
    """A process that trains in a folder.

    Args:
        workdir: the folder.
    """

    def __init__(self, workdir):
        self._checkpoints = Workdir(workdir).checkpoints
        self._found = self._files()
        self._process = subprocess.Popen(
            command(workdir),
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def finish(self):
        """Wait for the end and return what was printed."""
        said, _ = self._process.communicate(timeout=1800)
        assert self._process.returncode == 0, said
        return said

    def kill(self):
        """Kill the process and return what it was doing, in words."""
        assert self._process.poll() is None, (
            "It ended before it could be killed: " + self.finish()
        )
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate()
        newest = max(self._files("epoch_"), default="before the first one")
        during = " during a write" if self._files(".unfinished") else ""
        return f"killed{during}, newest checkpoint {newest}"

    def wait_for_a_checkpoint(self):
        """Wait until this process has written one."""
        self._wait_for(lambda: self._files() - self._found)

    def wait_for_a_write(self):
        """Wait until this process is writing one."""
        self.wait_for_a_checkpoint()
        self._wait_for(lambda: self._files(".unfinished"))

    def _wait_for(self, has_happened):
        while not has_happened():
            assert self._process.poll() is None, self.finish()
            time.sleep(0.0005)

    def _files(self, prefix=""):
        if not self._checkpoints.exists():
            return set()
        names = os.listdir(self._checkpoints)
        return {name for name in names if name.startswith(prefix)}


def test_twenty_kills_change_nothing(tmp_path):
    generator = random.Random(0)
    start = time.monotonic()
    Training(tmp_path / "whole").finish()
    print(f"\nuninterrupted: {time.monotonic() - start:.0f} s")
    killed = tmp_path / "killed"
    kinds = ["write"] * KILLS_AT_A_WRITE + ["random"] * KILLS_AT_RANDOM
    generator.shuffle(kinds)
    kinds += ["start"] * KILLS_AT_THE_START
    repeats = ["write"] * MOST_REPEATED_KILLS
    during_a_write = 0
    while kinds or (during_a_write < KILLS_AT_A_WRITE and repeats):
        kind = kinds.pop() if kinds else repeats.pop()
        training = Training(killed)
        if kind == "start":
            # Importing, tracing, or the first steps.
            time.sleep(generator.uniform(1, 12))
        elif kind == "write":
            training.wait_for_a_write()
        else:
            training.wait_for_a_checkpoint()
            time.sleep(generator.uniform(0, 3))
        said = training.kill()
        during_a_write += "during a write" in said
        print(f"{kind}: {said}", flush=True)
    said = Training(killed).finish()
    assert "Going on" in said
    assert during_a_write >= KILLS_AT_A_WRITE
    whole, killed = Workdir(tmp_path / "whole"), Workdir(killed)
    assert_same_end(killed, whole)
