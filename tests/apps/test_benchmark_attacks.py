"""The cost of attacks beside other tools: arithmetic, copies, a tiny run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from apps import building
from apps.benchmarking import attack_report
from apps.benchmarking import attackers
from apps.benchmarking import processes
from apps.benchmarking import report
from apps.benchmarking import rounds
from apps.benchmarking import summary
from apps.benchmarking.attackers import ATTACKERS
from apps.benchmarking.attackers import AttackSettings
from apps.workdir import Workdir
from keras_neokd import evaluation
from keras_neokd import models
from keras_neokd.attacks import PGD
from keras_neokd.attacks import SingleExit
from tests.apps.tiny import untrained_run
from tests.marks import slow_but_on_tensorflow
from tests.training.tiny import randomized

pytestmark = slow_but_on_tensorflow

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A run of an untrained network for the digits."""
    return untrained_run(tmp_path_factory.mktemp("attacks") / "run")


# Arithmetic.


class FakeWorker:
    """Answers for an attacker; its evaluations take the seconds given."""

    def __init__(self, seconds):
        self._seconds = iter([9.0, *seconds])

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def ask(self, request):
        if request == "build":
            return {"construction_seconds": 2.0, "versions": {"jax": "1.2"}}
        if request == "memory":
            return {"peak_bytes": 300 * 2**20}
        return {
            "seconds": next(self._seconds),
            "processor_seconds": 1.0,
            "result": 0.25,
        }


@pytest.fixture
def record(folder, monkeypatch, tmp_path):
    """A record of PGD with round numbers."""
    seconds = {
        "tensorflow": [1.0, 2.0, 2.0],
        "torchattacks": [3.0, 4.0, 2.0],
        "foolbox_torch": [1.0, 1.0, 1.0],
    }
    monkeypatch.setattr(rounds, "_PAUSE_SECONDS", 0)
    monkeypatch.setattr(attackers, "missing_packages", lambda attacker: [])
    monkeypatch.setattr(
        processes,
        "start_attack",
        lambda attacker, *_: FakeWorker(seconds[attacker.name]),
    )
    settings = AttackSettings(
        str(folder), tuple(seconds), ("pgd",), num_examples=100
    )
    comparison = rounds.AttackComparison("pgd", settings, tmp_path, print)
    record = report.new_record(settings)
    record["results"].append(summary.summarise_attacks(comparison.measure()))
    return record


def test_the_record_of_an_attacker(record):
    (result,) = record["results"]
    assert (result["attack"], result["left_out"]) == ("pgd", [])
    ours = result["attackers"][0]
    assert ours["name"] == "tensorflow"
    assert ours["robust_accuracy"] == 0.25
    # The median of 1, 2 and 2 seconds for 100 images.
    assert ours["images_per_second"] == 50.0
    # Round by round: 3 / 1, 4 / 2, 2 / 2 and 1 / 1, 1 / 2, 1 / 2.
    assert ours["speedup"] == {
        "torchattacks": {"median": 2.0, "min": 1.0, "max": 3.0},
        "foolbox_torch": {"median": 0.5, "min": 0.5, "max": 1.0},
    }
    assert ours["first_step_seconds"] == 9.0


def drawn(table):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_the_table_holds_the_record(record):
    text = drawn(attack_report.build_tables(record, markdown=True)[0])
    assert "keras_neokd on TensorFlow" in text
    assert "2.00 (1.00 to 3.00)" in text
    assert "1 (unit)" in text
    assert "25.0" in text


def test_without_a_reference_there_is_no_ratio(record):
    for each in record["results"][0]["attackers"]:
        each["speedup"] = {}
    assert " to " not in drawn(attack_report.build_tables(record)[0])


# Who takes part.


def test_foolbox_has_no_apgd(folder, monkeypatch):
    monkeypatch.setattr(attackers, "missing_packages", lambda attacker: [])
    settings = AttackSettings(str(folder))
    present, missing = settings.takes_part("apgd")
    assert [each.name for each in present] == [
        *("tensorflow", "jax", "torch", "torchattacks")
    ]
    assert missing == []


def test_a_tool_that_is_not_installed_is_left_out(folder, monkeypatch):
    monkeypatch.setattr(
        attackers.importlib.util,
        "find_spec",
        lambda name: None if name == "torchattacks" else name,
    )
    settings = AttackSettings(str(folder), ("torchattacks", "torch"))
    present, missing = settings.takes_part("pgd")
    assert [each.name for each in present] == ["torch"]
    assert [each.name for each in missing] == ["torchattacks"]
    sentence = attackers.missing_sentence(ATTACKERS["torchattacks"])
    assert "because torchattacks is not installed" in sentence


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"run": "nowhere"}, "nowhere holds no model.keras"),
        ({"attackers": ("art",)}, "`attackers` knows .*; received 'art'"),
        ({"attackers": ()}, "`attackers` needs at least one name"),
        ({"attacks": ("cw",)}, "`attacks` knows pgd, apgd; received 'cw'"),
        ({"num_steps": 0}, "`num_steps` needs an integer >= 1"),
        ({"threads": 10_000}, "`threads` needs at most"),
    ],
)
def test_impossible_settings(folder, changes, message):
    with pytest.raises(ValueError, match=message):
        AttackSettings(**{"run": str(folder), **changes})


# The copy in PyTorch.


def test_the_copy_gives_the_logits_of_the_last_exit():
    torch = pytest.importorskip("torch")
    from apps.benchmarking import native

    model = randomized(models.SmallCNN.mnist(), 3)
    images = np.random.default_rng(0).random((5, 28, 28, 1), "float32")
    network = native.last_exit(model, images)
    assert not network.training
    with torch.no_grad():
        received = network(native.channels_first(images)).numpy()
    expected = model.predict(images, verbose=0)["exit_3"]
    assert abs(expected).max() > 0.1
    np.testing.assert_allclose(received, expected, rtol=1e-4, atol=1e-4)


def test_other_models_are_not_copied():
    pytest.importorskip("torch")
    from apps.benchmarking import native

    model = models.SmallCNN((32, 32, 3))
    images = np.zeros((1, 32, 32, 3), "float32")
    with pytest.raises(ValueError, match="the model is no SmallCNN for MNIST"):
        native.last_exit(model, images)


# A tiny run.


@pytest.fixture(scope="module")
def tiny_run(folder, tmp_path_factory):
    """Folder and output of one tiny run of the program."""
    workdir = tmp_path_factory.mktemp("benchmark") / "new"
    result = subprocess.run(
        [
            *(sys.executable, "-m", "apps.benchmark_attacks"),
            f"--run={folder}",
            f"--attackers={keras.config.backend()}",
            "--num_examples=20",
            "--num_steps=2",
            "--batch_size=10",
            "--steps=1",
            "--threads=1",
            f"--workdir={workdir}",
        ],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return workdir, result.stdout


def test_a_tiny_run_measures_the_attacks_of_the_library(tiny_run, folder):
    workdir, output = tiny_run
    record = json.loads((workdir / "benchmark.json").read_text("utf-8"))
    pgd, apgd = record["results"]
    assert (pgd["attack"], apgd["attack"]) == ("pgd", "apgd")
    run = Workdir(folder)
    model = keras.saving.load_model(run.model, compile=False)
    test = building.load_data(run.read_config(), model).test
    expected = evaluation.anytime(
        model,
        *(each[:20] for each in test.arrays()),
        PGD(0.3, 0.05, 2, objective=SingleExit(-1)),
        batch_size=10,
    )
    (ours,) = pgd["attackers"]
    assert ours["robust_accuracy"] == pytest.approx(expected.accuracy()[-1])
    assert ours["versions"]["keras"] == keras.__version__
    table = (workdir / "benchmark.md").read_text("utf-8")
    assert ours["label"] in table and ours["label"] in output


def test_a_missing_run_is_a_sentence(tmp_path):
    result = subprocess.run(
        [
            *(sys.executable, "-m", "apps.benchmark_attacks"),
            "--run=nowhere",
            f"--workdir={tmp_path / 'new'}",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode != 0
    assert "nowhere holds no model.keras" in result.stdout + result.stderr
    assert "Traceback" not in result.stderr
