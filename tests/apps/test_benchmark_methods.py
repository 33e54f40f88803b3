"""The cost of training methods: arithmetic, settings, a tiny real run."""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console

from apps.benchmarking import contestants
from apps.benchmarking import method_report
from apps.benchmarking import processes
from apps.benchmarking import report
from apps.benchmarking import rounds
from apps.benchmarking import steps
from apps.benchmarking import summary
from apps.benchmarking import worker
from apps.benchmarking.methods import METHODS
from apps.benchmarking.methods import UNIT
from apps.benchmarking.methods import MethodSettings
from keras_neokd import models
from tests.marks import slow_but_on_tensorflow

pytestmark = slow_but_on_tensorflow

ROOT = Path(__file__).resolve().parents[2]


class FakeProcess:
    """Answers for all methods; their steps take the seconds given."""

    def __init__(self, seconds, fails=()):
        self.asked, self._fails = [], fails
        self._seconds = {
            method: itertools.cycle(values)
            for method, values in seconds.items()
        }

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def ask(self, request, method):
        self.asked.append((request, method))
        if (request, method) in self._fails:
            raise processes.WorkerError(f"Left out: {method}, it failed.")
        if request == "build":
            return {"construction_seconds": 2.0, "versions": {"jax": "1.2"}}
        if request == "memory":
            return {"peak_bytes": 300 * 2**20}
        return {
            "seconds": next(self._seconds[method]),
            "processor_seconds": 1.0,
            "result": 7.0,
        }


@pytest.fixture
def measure_fake(monkeypatch, tmp_path):
    """Function that measures a `FakeProcess`; returns the comparison."""

    def measure(process, **settings):
        monkeypatch.setattr(rounds, "_PAUSE_SECONDS", 0)
        monkeypatch.setattr(contestants, "is_installed", lambda name: True)
        monkeypatch.setattr(rounds, "is_installed", lambda name: True)
        monkeypatch.setattr(processes, "start", lambda *_: process)
        comparison = rounds.MethodComparison(
            "jax", MethodSettings(warmup=0, **settings), tmp_path, print
        )
        return comparison.measure()

    return measure


@pytest.fixture
def record(measure_fake):
    """A record of two methods, with round numbers; each starts with 9 s."""
    settings = {"methods": ("neo_kd",), "backends": ("jax",), "steps": 3}
    process = FakeProcess(
        {UNIT: [9.0, 1.0, 2.0, 4.0], "neo_kd": [9.0, 3.0, 4.0, 4.0]}
    )
    comparison = measure_fake(process, **settings)
    record = report.new_record(
        MethodSettings(**settings), unit=UNIT, teacher="an untrained network"
    )
    record["results"].append(summary.summarise_methods(comparison))
    return record


# Arithmetic.


def test_the_cost_is_taken_pair_by_pair():
    # The ratio of the medians would be 4 / 2 = 2.
    cost = summary.paired_cost([1.0, 2.0, 4.0], [4.0, 2.0, 12.0])
    assert cost == {"median": 3.0, "min": 1.0, "max": 4.0}


def test_the_record_of_a_method(record):
    (result,) = record["results"]
    assert result["backend"] == "jax"
    assert result["versions"] == {"jax": "1.2"}
    assert result["peak_megabytes"] == 300.0
    unit, neo_kd = result["methods"]
    assert unit["name"] == UNIT
    assert unit["cost"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    neo_kd.pop("others_share")
    assert neo_kd == {
        "name": "neo_kd",
        # 3 / 1, 4 / 2 and 4 / 4.
        "cost": {"median": 2.0, "min": 1.0, "max": 3.0},
        "milliseconds": {"median": 4000.0, "min": 3000.0, "max": 4000.0},
        "construction_seconds": 2.0,
        "first_step_seconds": 9.0,
        "last_loss": 7.0,
        "step_seconds": [3.0, 4.0, 4.0],
        "processor_seconds": [1.0, 1.0, 1.0],
    }


def test_methods_take_turns_in_one_process(measure_fake):
    process = FakeProcess({UNIT: [1.0], "lw": [1.0]})
    measure_fake(process, methods=("lw",), steps=2)
    assert process.asked[:4] == [
        *[("build", UNIT), ("step", UNIT)],
        *[("build", "lw"), ("step", "lw")],
    ]
    # The order within a round is drawn.
    for first in (4, 6):
        steps = [("step", UNIT), ("step", "lw")]
        assert sorted(process.asked[first : first + 2]) == steps
    assert process.asked[8:] == [("memory", UNIT), ("memory", "lw")]


def test_the_others_go_on_when_a_method_fails(measure_fake):
    process = FakeProcess({UNIT: [1.0], "lw": [1.0]}, [("build", "lw")])
    result = summary.summarise_methods(
        measure_fake(process, methods=("lw",), steps=1)
    )
    assert [each["name"] for each in result["methods"]] == [UNIT]
    assert result["left_out"] == [
        {"name": "lw", "reason": "Left out: lw, it failed.", "is_error": True}
    ]


def test_without_the_unit_there_is_no_cost(measure_fake):
    process = FakeProcess({UNIT: [1.0], "lw": [1.0]}, [("step", UNIT)])
    result = summary.summarise_methods(
        measure_fake(process, methods=("lw",), steps=1)
    )
    assert [each["cost"] for each in result["methods"]] == [None]


def test_a_missing_backend_is_left_out_with_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(rounds, "is_installed", lambda framework: False)
    comparison = rounds.MethodComparison(
        "jax", MethodSettings(), tmp_path, print
    )
    result = summary.summarise_methods(comparison.measure())
    assert result["methods"] == []
    (left_out,) = result["left_out"]
    assert "because JAX is not installed" in left_out["reason"]
    assert not left_out["is_error"]


def test_a_worker_answers_with_the_error_of_one_method(monkeypatch, capsys):
    class Failing:
        def __init__(self, spec):
            raise ValueError(f"{spec['method']} does not work")

    monkeypatch.setattr(worker, "KerasStep", Failing)
    answer = worker.Worker({"memory_format": None}).answer("build lw")
    assert answer == {"error": "ValueError: lw does not work"}
    assert "Traceback" in capsys.readouterr().err


# Settings and methods.


@pytest.mark.parametrize("methods", [(), ("lw",), ("lw", UNIT), (UNIT, "lw")])
def test_the_unit_is_always_included_and_first(methods):
    settings = MethodSettings(methods=methods)
    others = [name for name in methods if name != UNIT]
    assert list(settings.methods) == [UNIT, *others]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"methods": ("mixup",)}, "`methods` knows .*; received 'mixup'"),
        ({"methods": ("lw", "lw")}, "names one twice: lw, lw"),
        ({"backends": ("numpy",)}, "`backends` knows tensorflow, jax, torch"),
        ({"backends": ()}, "`backends` needs at least one name"),
        ({"model": "resnet"}, "`model` knows small_cnn, .*; .*'resnet'"),
        ({"attack": "pgd"}, "`attack` knows max_average, average; .*'pgd'"),
        ({"steps": 0}, "`steps` needs an integer >= 1, received 0"),
        ({"num_examples": 9}, "`num_examples` needs an integer >= 128, .* 9"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        MethodSettings(**arguments)


def test_methods_are_what_their_names_say():
    construct = models.SmallCNN.mnist
    built = {
        name: steps.training_method(
            {"method": name, "num_examples": 500}, 3, construct
        )
        for name in METHODS
    }
    assert not built["clean_training"].uses_attack(3)
    assert built["teat"].num_examples == 500
    assert built["kdiga"].exits == "average"
    assert built["kdiga_each"].exits == "each"
    assert built["kd"].alignment_weight == 0
    assert built["kdiga_author_2021"].norm == "batch"
    attacking = [name for name in METHODS if built[name].uses_attack(3)]
    assert {*METHODS} - {*attacking} == {
        "clean_training",
        "kd",
        "kdiga",
        "kdiga_author_2021",
        "kdiga_each",
    }
    # An untrained teacher of their own, not the network that is trained.
    teacher = built["kdiga"].teacher
    assert teacher.count_params() == construct().count_params()
    names = [
        part.__class__.__name__ for _, part in built["neo_kd+kdiga"].summands
    ]
    assert names == ["NEOKD", "KDIGA"]


def test_batches_say_where_an_image_stands():
    batches = [(i, np.zeros(4)) for i in range(4)]
    placed = steps.with_positions(batches, 10)
    assert [x for x, _ in placed] == [0, 1, 2, 3]
    positions = [labels["index"] for _, labels in placed]
    for each in positions:
        assert len(set(each)) == 4
    assert {*np.concatenate(positions)} == set(range(10))


# What is shown.


def test_the_tables_show_the_figures(record):
    console = Console(width=200)
    costs, figures = [], []
    for table, rows in zip(
        method_report.build_tables(record), (costs, figures), strict=True
    ):
        with console.capture() as capture:
            console.print(table)
        rows += [" ".join(row.split()) for row in capture.get().splitlines()]
    assert "cost relative to Eq. 4 JAX" in costs
    assert f"{UNIT} 1 (unit)" in costs
    assert "neo_kd 2.00 (1.00 to 3.00)" in costs
    assert f"JAX {UNIT} 1 (unit) 2,000 1,000 4,000 9.0" in figures
    assert "neo_kd 2.00 (1.00 to 3.00) 4,000 3,000 4,000 9.0" in figures


def test_the_notes_name_the_teacher_and_a_busy_computer(record):
    notes = " ".join(method_report.notes(record))
    assert "KDIGA's teacher: an untrained network." in notes
    assert "TEAT: 10,000 examples." in notes
    for method in record["results"][0]["methods"]:
        method["others_share"] = 0.5
    assert "NOT QUIET" in " ".join(method_report.notes(record))


# The real thing.


def run_benchmark(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "apps.benchmark_methods", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_a_tiny_run_leaves_record_and_tables(tmp_path):
    backend = keras.config.backend()
    result = run_benchmark(
        "--methods=teat,kdiga",
        f"--backends={backend}",
        "--batch_size=4",
        "--attack_steps=1",
        "--num_examples=6",
        "--steps=1",
        "--warmup=1",
        "--threads=1",
        f"--workdir={tmp_path}",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    record = json.loads((tmp_path / "benchmark.json").read_text("utf-8"))
    assert record["unit"] == UNIT
    assert "untrained" in record["teacher"]
    assert record["settings"]["num_examples"] == 6
    (measured,) = record["results"]
    assert measured["backend"] == backend
    assert measured["left_out"] == []
    assert measured["versions"]["keras"] == keras.__version__
    unit, *others = measured["methods"]
    assert [each["name"] for each in others] == ["teat", "kdiga"]
    for method in (unit, *others):
        assert method["cost"]["median"] == pytest.approx(
            method["step_seconds"][0] / unit["step_seconds"][0]
        )
        assert method["first_step_seconds"] > 0
    markdown = (tmp_path / "benchmark.md").read_text("utf-8")
    for text in ("| cost relative to Eq. 4 |", "1 (unit)", "| kdiga"):
        assert text in markdown
    assert "cost relative to Eq. 4" in result.stdout


def test_an_unknown_method_is_refused(tmp_path):
    result = run_benchmark(f"--workdir={tmp_path}", "--methods=mixup")
    assert result.returncode == 1
    assert "`methods` knows" in result.stdout + result.stderr
