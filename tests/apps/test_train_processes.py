"""apps.train as two processes on this machine, against one process.

They find each other on a free port, and each has one CPU device.
"""

import os
import signal
import socket
import subprocess
import sys
import time

import keras
import numpy as np
import pytest

from apps import locking
from apps.workdir import Workdir
from tests.apps.tiny import assert_same_end
from tests.apps.tiny import without_time
from tests.isolation import ROOT

if keras.config.backend() != "jax":
    pytest.skip("only JAX joins processes", allow_module_level=True)

pytestmark = pytest.mark.slow

# Four batches of an epoch: 16, 16, 16 and 3, the last one uneven for two
# devices.
FLAGS = (
    "--config=configs/digits.py:neo_kd",
    *("--config.data.num_train=51", "--config.data.num_test=24"),
    *("--config.data.batch_size=16", "--config.data.validation_size=21"),
    *("--config.attack.name=max_average", "--config.attack.num_steps=2"),
    *("--config.train.epochs=3", "--config.train.validation=attack"),
    "--config.train.checkpoint_seconds=0",
)
L2 = (
    *("--config.attack.norm=l2", "--config.attack.epsilon=1.0"),
    "--config.attack.step_size=0.5",
)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start(workdir, *flags, count=2, flags_of=None):
    """Start the processes of one job."""
    port, strategy = free_port(), "data_parallel" if count > 1 else "none"
    processes = []
    for number in range(count):
        variables = {
            "KERAS_DISTRIBUTION_JOB_ADDRESSES": f"127.0.0.1:{port}",
            "KERAS_DISTRIBUTION_NUM_PROCESSES": f"{count}",
            "KERAS_DISTRIBUTION_PROCESS_ID": f"{number}",
        }
        processes.append(
            subprocess.Popen(
                [
                    *(sys.executable, "-m", "apps.train", *FLAGS, *flags),
                    *(f"--config.distribution.strategy={strategy}",),
                    f"--workdir={workdir}",
                    *(flags_of or {}).get(number, ()),
                ],
                cwd=ROOT,
                env={**os.environ, **(variables if count > 1 else {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
    return processes


def finish(processes, timeout=500):
    """Wait for all; return exit status and output of each."""
    try:
        said = [each.communicate(timeout=timeout)[0] for each in processes]
    finally:
        for each in processes:
            each.kill()
    return [
        (each.returncode, text)
        for each, text in zip(processes, said, strict=True)
    ]


def finished(workdir, processes):
    for status, said in finish(processes):
        assert status == 0, said
    return Workdir(workdir)


def wait_for(run, pattern, processes):
    """Wait until a checkpoint is there."""
    deadline = time.monotonic() + 400
    while not [*run.checkpoints.glob(pattern)]:
        assert time.monotonic() < deadline
        assert all(each.poll() is None for each in processes)
        time.sleep(0.02)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of two processes that nothing interrupts."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    return finished(path, start(path))


def assert_same_curves(ours, theirs, tolerance=1e-4):
    assert len(ours) == len(theirs)
    for row, reference in zip(ours, theirs, strict=True):
        row, reference = without_time(row), without_time(reference)
        assert set(row) == set(reference)
        for name, value in row.items():
            np.testing.assert_allclose(
                value, reference[name], rtol=0, atol=tolerance, err_msg=name
            )


def losses(rows):
    return [
        {name: row[name] for name in row if name.endswith("loss")}
        for row in rows
    ]


def test_two_processes_train_like_one(tmp_path):
    """Their steps differ by rounding, which an L2 attack hands on as it is."""
    one, two = (
        finished(
            tmp_path / f"{count}",
            start(tmp_path / f"{count}", *L2, count=count),
        ).read_history()
        for count in (1, 2)
    )
    assert len(two) == 3
    assert_same_curves(two, one)


def test_two_processes_begin_like_one_under_the_papers_attack(whole, tmp_path):
    """Rounding turns a few of the signs of gradients that it takes."""
    one = finished(tmp_path, start(tmp_path, count=1)).read_history()
    two = whole.read_history()
    assert len(one) == len(two) == 3
    assert "val_exit_3_adversarial_accuracy" in one[0]
    assert "exit_1_eokd_loss" in one[0]
    assert_same_curves(two[:1], one[:1])
    # Of the whole run; they were 4e-4 apart where this was first seen.
    assert_same_curves(losses(two), losses(one), tolerance=4e-3)
    # Only one of them wrote, and all of it.
    names = {each.name for each in whole.path.iterdir()}
    assert names == {each.name for each in tmp_path.iterdir()}


@pytest.mark.parametrize("victim", [0, 1])
def test_a_job_goes_on_after_one_process_was_killed(whole, victim, tmp_path):
    """With the first one, the newest checkpoint is damaged, too."""
    run = Workdir(tmp_path / "run")
    processes = start(run.path)
    wait_for(run, "epoch_00001_batch_000002*", processes)
    processes[victim].kill()
    results = finish(processes)
    # The other one cannot go on, and does not pretend to.
    assert all(status != 0 for status, _ in results)
    assert not run.is_finished
    newest = max(run.checkpoints.glob("epoch_*.npz"))
    if victim == 0:
        newest.write_bytes(newest.read_bytes()[:-100])
    assert_same_end(finished(run.path, start(run.path)), whole)


@pytest.mark.parametrize("told", [0, 1])
def test_all_stop_when_one_is_told_to(whole, told, tmp_path):
    run = Workdir(tmp_path / "run")
    processes = start(run.path)
    wait_for(run, "epoch_00001_batch_000001*", processes)
    processes[told].send_signal(signal.SIGTERM)
    results = finish(processes)
    assert [status for status, _ in results] == [75, 75], results
    said = [text.partition("goes on in epoch")[2] for _, text in results]
    assert said[0].splitlines()[0] == said[1].splitlines()[0] != ""
    assert_same_end(finished(run.path, start(run.path)), whole)


def test_processes_that_were_started_differently_are_refused(tmp_path):
    results = finish(
        start(tmp_path / "run", flags_of={1: ["--config.train.seed=5"]})
    )
    for (status, said), seed in zip(results, (0, 5), strict=True):
        assert status == 1
        assert "Worker disagreement: the 2 processes" in said
        assert f"train.seed, here {seed}" in said
        assert "same command" in said
    assert not (tmp_path / "run").exists()


def test_all_are_refused_where_another_run_trains(tmp_path):
    with locking.alone_in(tmp_path):
        results = finish(start(tmp_path))
    for status, said in results:
        assert status == 1
        assert "Another process is training in" in said
    assert not Workdir(tmp_path).config.exists()


def test_processes_that_do_not_share_a_folder_are_refused(whole, tmp_path):
    run = Workdir(tmp_path / "run")
    processes = start(run.path)
    wait_for(run, "epoch_00001_batch_000001*", processes)
    processes[0].kill()
    finish(processes)
    before = sorted(each.name for each in run.checkpoints.iterdir())
    results = finish(
        start(run.path, flags_of={1: [f"--workdir={tmp_path / 'other'}"]})
    )
    for status, said in results:
        assert status == 1
        assert "batch to go on after, here" in said
        assert "file system that they share" in said
    # Nothing is lost.
    assert sorted(each.name for each in run.checkpoints.iterdir()) == before
    assert_same_end(finished(run.path, start(run.path)), whole)
