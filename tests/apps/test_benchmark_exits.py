"""The benchmark of exits: its prediction, its figures, a tiny real run."""

import json
from pathlib import Path

import keras
import pytest
from rich.console import Console

from apps.benchmarking import arithmetic
from apps.benchmarking import exit_report
from apps.benchmarking import exits
from apps.benchmarking import program
from apps.benchmarking import rounds
from apps.benchmarking import summary
from apps.benchmarking.contestants import WORKLOADS
from apps.benchmarking.exits import ExitComparison
from apps.benchmarking.exits import ExitSettings
from apps.benchmarking.exits import Network
from apps.benchmarking.exits import Series
from keras_neokd.models import MSDNet
from keras_neokd.models import SmallCNN
from tests.apps.test_benchmark import finished_run
from tests.marks import slow_but_on_tensorflow

pytestmark = slow_but_on_tensorflow

TINY = {
    "tiny": Series(
        "msdnet_cifar100",
        (2, 3),
        base=1,
        step=1,
        batch_size=2,
        attack_steps=1,
    )
}


def test_the_arithmetic_of_a_step_of_small_cnn():
    # Million multiply-adds with own head only, and with all heads.
    alone, whole = 1.015 + 7.708 + 9.952, 11.135
    model = SmallCNN.mnist()
    assert arithmetic.multiply_adds(model, "max_average", 7) == pytest.approx(
        1e6 * (14 * alone + 3 * whole + 6 * whole), rel=1e-3
    )
    assert arithmetic.multiply_adds(model, "average", 7) == pytest.approx(
        1e6 * (14 * whole + 6 * whole), rel=1e-3
    )


def test_the_arithmetic_of_a_step_of_msdnet():
    needed = arithmetic.multiply_adds(MSDNet.cifar10(), "max_average", 7)
    assert needed == pytest.approx(800e6, rel=0.02)


def test_every_exit_of_a_series_has_a_class_of_its_own():
    for series in exits.SERIES.values():
        assert max(series.exits) < WORKLOADS[series.model].num_classes


@pytest.fixture
def record():
    """Two networks: three times the arithmetic takes twice the time."""
    settings = ExitSettings(("paper",), ("jax",), steps=2, threads=1)
    comparison = ExitComparison("paper", "jax", settings, Path("."), print)
    comparison.runs = [
        finished_run(Network("jax", 3), [1.0, 2.0]),
        finished_run(Network("jax", 5), [2.0, 4.0]),
    ]
    for run, needed in zip(comparison.runs, (100, 300), strict=True):
        run.multiply_adds = needed
    return {
        "settings": vars(settings),
        "environment": {"threads": 1},
        "results": [summary.summarise_exits(comparison)],
    }


def test_the_cost_stands_beside_its_prediction(record):
    first, second = record["results"][0]["networks"]
    assert first["cost"]["median"] == first["predicted_cost"] == 1
    assert second["num_exits"] == 5
    assert second["cost"] == {"median": 2.0, "min": 2.0, "max": 2.0}
    assert second["predicted_cost"] == 3
    assert second["cost_against_prediction"]["median"] == pytest.approx(2 / 3)


def test_the_table_and_the_plot_show_the_figures(record, tmp_path):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(exit_report.build_tables(record)[0])
    row = capture.get().strip().splitlines()[-1]
    for text in ("JAX", " 5 ", "3,000", "2.00", "3.00", "0.67 (0.67 to 0.67)"):
        assert text in row
    assert exit_report.plot(record, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_without_a_result_there_is_no_plot(record, tmp_path):
    record["results"][0]["networks"] = []
    assert not exit_report.plot(record, tmp_path / "plot.png")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"series": ("deep",)}, "`series` knows paper, many"),
        ({"series": ()}, "at least one name each"),
        ({"backends": ("jax", "jax")}, "names one twice"),
        ({"steps": 0}, "`steps` needs an integer >= 1"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExitSettings(**arguments)


def test_a_tiny_run_leaves_record_table_and_plot(monkeypatch, tmp_path):
    monkeypatch.setattr(rounds, "_PAUSE_SECONDS", 0)
    for module in (exits, exit_report):
        monkeypatch.setattr(module, "SERIES", TINY)
    backend = keras.config.backend()
    settings = ExitSettings(("tiny",), (backend,), steps=1, warmup=0, threads=1)
    console = program.Console()
    record = exits.run(settings, tmp_path, console)
    program.show(record, tmp_path, console, exit_report)
    (result,) = json.loads((tmp_path / "benchmark.json").read_text())["results"]
    assert result["left_out"] == []
    first, second = result["networks"]
    assert second["multiply_adds"] > first["multiply_adds"]
    assert second["milliseconds"]["median"] > 0
    assert "| tiny: base 1" in (tmp_path / "benchmark.md").read_text()
    assert (tmp_path / "benchmark.png").exists()
