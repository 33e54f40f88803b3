"""apps.evaluate as a process that is killed, and the record it ends with."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.apps.tiny import untrained_run
from tests.isolation import ROOT

pytestmark = pytest.mark.slow

# So weak an attack that it goes on to its last query, far beyond the half
# minute after which a search saves its state.
SETTINGS = (
    "--config.evaluate.attacks=('average','apgd_ce','square','max_average')",
    "--config.evaluate.epsilon=0.002",
    "--config.evaluate.search.success=any",
    "--config.evaluate.search.num_queries=100000",
    "--config.evaluate.num_examples=24",
    "--config.evaluate.protocols=('transferability','sensitivity')",
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return untrained_run(tmp_path_factory.mktemp("killed") / "run")


def start(folder, results):
    return subprocess.Popen(
        [
            *(sys.executable, "-m", "apps.evaluate", f"--workdir={folder}"),
            *(f"--results={results}", *SETTINGS),
        ],
        cwd=ROOT,
        env=os.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(folder, results):
    process = start(folder, results)
    _, said = process.communicate(timeout=900)
    assert process.returncode == 0, said
    return comparable(results)


def kill_once(folder, results, has_begun, delay):
    """Kill the evaluation some seconds after something has happened."""
    process = start(folder, results)
    deadline = time.monotonic() + 600
    while not has_begun() and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.05)
    time.sleep(delay)
    assert process.poll() is None, "It ended before it could be killed."
    process.send_signal(signal.SIGKILL)
    process.communicate()


def comparable(results):
    """Return the record without times and the name of its own file."""

    def without(value):
        if isinstance(value, dict):
            return {
                key: without(each)
                for key, each in value.items()
                if key not in ("seconds", "command")
            }
        return list(map(without, value)) if isinstance(value, list) else value

    return without(json.loads(results.read_text()))


def test_three_kills_change_nothing(folder, tmp_path):
    uninterrupted = finish(folder, tmp_path / "whole.json")
    results = tmp_path / "killed.json"
    state = tmp_path / "killed.square_any.0.npz"
    generator = random.Random(0)

    def recorded():
        if not results.exists():
            return 0
        return len(json.loads(results.read_text())["attacks"])

    # Within the second attack or soon after; within the square attack,
    # which goes on from its state; and again.
    kill_once(folder, results, lambda: recorded() >= 2, generator.random())
    kill_once(folder, results, state.exists, generator.uniform(0, 3))
    saved = state.stat().st_mtime_ns
    kill_once(
        folder,
        results,
        lambda: state.stat().st_mtime_ns != saved,
        generator.uniform(0, 3),
    )
    assert recorded() == 3
    assert finish(folder, results) == uninterrupted
    assert not state.exists()
    names = [each["name"] for each in uninterrupted["attacks"]]
    assert names == ["clean", "average", "apgd_ce_any", "square_any"] + [
        "max_average"
    ]
