"""Whole NEO-KD steps against PyTorch in float64, and across backends.

Weights and adversarial images are given: in float32 crafted ones cannot agree
bit for bit, because signs flip where a gradient is almost zero.
"""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from benchmarks import torch_baseline  # noqa: E402
from tests.reference import torch_step  # noqa: E402
from tests.training import golden_run  # noqa: E402
from tests.training import tiny  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
BACKENDS = ("tensorflow", "jax", "torch")
# Values per channel that batch norm averages over, 6 images of 6x6 and 2x2.
COUNTS = {"norm_1": 6 * 36, "norm_2": 6 * 4}


@pytest.fixture(scope="module")
def problem():
    return golden_run.problem()


@pytest.fixture(scope="module")
def results(problem):
    return golden_run.run(problem)


@pytest.fixture(scope="module")
def expected(problem):
    network = torch_step.Network()
    torch_baseline.load(network, problem)
    training = torch_step.Training(network, tiny.GAMMA, golden_run.SEED)
    steps = []
    for epoch in range(golden_run.NUM_STEPS):
        logs = training.step(
            problem["images"],
            problem["adversarial"],
            problem["labels"],
            epoch,
        )
        weights = torch_baseline.dump(network)
        for norm, count in COUNTS.items():
            name = f"{norm}/moving_variance"
            # Each step passes clean and adversarial images through.
            weights[name] = torch_step.biased_variance(
                weights[name], problem[name], 2 * (epoch + 1), count
            )
        steps.append({**weights, **logs})
    return steps


@pytest.mark.parametrize("num_steps", [1, 3])
def test_weights_after_steps_equal_the_pytorch_rewrite(
    problem, results, expected, num_steps
):
    names = [name for name in problem if "/" in name]
    assert len(names) == 6 * 2 + 2 * 4
    step = num_steps - 1
    for name in names:
        np.testing.assert_allclose(
            results[f"{step}:{name}"],
            expected[step][name],
            rtol=0,
            atol=1e-5,
            err_msg=name,
        )
        # The tolerance must not be what makes them equal. (Batch norm takes
        # the gradient of the bias before it away.)
        moved = np.abs(expected[step][name] - problem[name]).max()
        assert moved > 1e-3 or name in ("conv_1/bias", "conv_2/bias"), name


@pytest.mark.parametrize("num_steps", [1, 2, 3])
def test_logs_of_steps_equal_the_pytorch_rewrite(
    problem, results, expected, num_steps
):
    step = num_steps - 1
    names = {name for name in expected[step] if "/" not in name}
    logged = {name.removeprefix(f"{step}:") for name in results}
    assert names == {
        each for each in logged if "/" not in each and ":" not in each
    }
    assert len(names) == 1 + 6 * 4
    for name in names:
        assert results[f"{step}:{name}"] == pytest.approx(
            expected[step][name], rel=0, abs=1e-5
        ), name


def test_every_epoch_draws_other_classes_for_eokd(problem):
    labels = problem["labels"]
    tables = [
        torch_step.allowed_classes(labels, 3, 8, golden_run.SEED, epoch)
        for epoch in range(3)
    ]
    assert not torch.equal(tables[0], tables[1])
    assert not torch.equal(tables[1], tables[2])


def test_another_backend_takes_the_same_steps(problem, results, tmp_path):
    position = BACKENDS.index(keras.config.backend())
    other = BACKENDS[(position + 1) % 3]
    if importlib.util.find_spec(other) is None:
        pytest.skip(f"needs {other}")
    np.savez(tmp_path / "problem.npz", **problem)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.training.golden_run",
            str(tmp_path / "problem.npz"),
            str(tmp_path / "results.npz"),
        ],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": other},
        check=True,
    )
    others = dict(np.load(tmp_path / "results.npz"))
    assert set(others) == set(results)
    for name, value in results.items():
        np.testing.assert_allclose(
            value, others[name], rtol=0, atol=1e-5, err_msg=name
        )
