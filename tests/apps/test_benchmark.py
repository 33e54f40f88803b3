"""The benchmark: its arithmetic, who takes turns when, a tiny real run."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest
from rich.console import Console

from apps.benchmarking import contestants
from apps.benchmarking import processes
from apps.benchmarking import report
from apps.benchmarking import rounds
from apps.benchmarking import summary
from apps.benchmarking.contestants import BACKENDS
from apps.benchmarking.contestants import BASELINES
from apps.benchmarking.contestants import Settings
from tests.marks import slow_but_on_tensorflow

pytestmark = slow_but_on_tensorflow

ROOT = Path(__file__).resolve().parents[2]
MEBIBYTE = 2**20


def finished_run(contestant, seconds, operations=()):
    """A `Run` whose steps took the given seconds."""
    run = rounds.Run(contestant)
    run.build = {
        "import_seconds": 1.0,
        "construction_seconds": 2.0,
        "versions": {contestant.framework: "1.2"},
    }
    run.first = {"seconds": 30.0}
    run.steps = [
        {
            "seconds": each,
            "processor_seconds": 1.5 * each,
            "result": 7.0,
            "others_seconds": 0.1 * each,
            "available_seconds": 2 * each,
        }
        for each in seconds
    ]
    run.peak_bytes = 300 * MEBIBYTE
    run.growth = {
        attack_steps: {"operations": count, "seconds": 1.0}
        for attack_steps, count in zip((2, 20), operations, strict=False)
    }
    return run


def finished_comparison(runs, settings):
    comparison = rounds.Comparison(
        "small_cnn", "max_average", settings, Path("."), print
    )
    comparison.runs = runs
    return comparison


@pytest.fixture
def record():
    """A record of three contestants, with round numbers."""
    settings = Settings(batch_size=100, steps=3, threads=1)
    runs = [
        finished_run(BACKENDS["tensorflow"], [1.0, 2.0, 1.0], (500, 500)),
        finished_run(BASELINES["contiguous"], [4.0, 6.0, 5.0]),
        finished_run(BASELINES["channels_last"], [2.0, 6.0, 3.0]),
        finished_run(BASELINES["truncated_contiguous"], [0.5, 0.5, 0.5]),
    ]
    runs[0].multiply_adds = 2_000_000
    for run, rate in zip(runs, (1e8, 4e8, 2e8, 3e8), strict=True):
        run.convolution_rate = rate
    comparison = finished_comparison(runs, settings)
    return {
        "settings": vars(settings),
        "environment": report.environment(settings),
        "results": [summary.summarise(comparison)],
    }


# Arithmetic.


def test_the_speedup_is_taken_pair_by_pair():
    # The ratio of the medians would be 4 / 2 = 2.
    speedup = summary.paired_speedup([4.0, 2.0, 12.0], [1.0, 2.0, 4.0])
    assert speedup == {"median": 3.0, "min": 1.0, "max": 4.0}


def test_a_speedup_needs_the_same_rounds():
    with pytest.raises(ValueError, match="shorter"):
        summary.paired_speedup([1.0, 2.0], [1.0])


def test_the_baseline_is_the_faster_format_of_the_whole_network(record):
    assert record["results"][0]["baseline"] == "eager_channels_last"


def test_without_eager_pytorch_there_is_no_speedup():
    runs = [
        finished_run(BACKENDS["jax"], [1.0]),
        finished_run(BASELINES["truncated_contiguous"], [1.0]),
    ]
    result = summary.summarise(finished_comparison(runs, Settings()))
    assert result["baseline"] is None
    assert [each["speedup"] for each in result["contestants"]] == [None, None]


def test_the_record_of_a_contestant(record):
    contestant = record["results"][0]["contestants"][0]
    expected = {
        "name": "tensorflow",
        "label": "keras_neokd on TensorFlow",
        "versions": {"tensorflow": "1.2"},
        "images_per_second": 100.0,
        "milliseconds": {"median": 1000.0, "min": 1000.0, "max": 2000.0},
        "speedup": {"median": 3.0, "min": 2.0, "max": 3.0},
        "import_seconds": 1.0,
        "construction_seconds": 2.0,
        "first_step_seconds": 30.0,
        "peak_megabytes": 300.0,
        "last_loss": 7.0,
        "step_seconds": [1.0, 2.0, 1.0],
        "processor_seconds": [1.5, 3.0, 1.5],
        "others_share": pytest.approx(0.05),
        "growth": {
            "attack_steps": [2, 20],
            "operations": [500, 500],
            "seconds": [1.0, 1.0],
            "grows": False,
        },
        # 100 images of 2 million at 400 million per second, in one second.
        "convolution_share": 0.5,
    }
    assert contestant == expected


def test_without_keras_neokd_the_arithmetic_is_unknown():
    runs = [finished_run(BASELINES["contiguous"], [1.0])]
    runs[0].convolution_rate = 1e8
    result = summary.summarise(finished_comparison(runs, Settings()))
    assert result["multiply_adds"] is None
    assert result["contestants"][0]["convolution_share"] is None


def test_growth_is_noticed():
    run = finished_run(BACKENDS["jax"], [1.0], (500, 3200))
    result = summary.summarise(finished_comparison([run], Settings()))
    assert result["contestants"][0]["growth"]["grows"]


# Settings and contestants.


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"models": ("resnet",)}, "knows small_cnn, msdnet_.*resnet"),
        ({"attacks": ("pgd",)}, "`attacks` knows max_average, average"),
        ({"backends": ("numpy",)}, "`backends` knows tensorflow, jax, torch"),
        ({"baselines": ("nchw",)}, "`baselines` knows contiguous, channels"),
        ({"backends": ("jax", "jax")}, "names one twice: jax, jax"),
        ({"models": ()}, "at least one name each"),
        ({"backends": (), "baselines": ()}, "Nobody takes part"),
        ({"steps": 0}, "`steps` needs an integer >= 1, received 0"),
        ({"warmup": -1}, "`warmup` needs an integer >= 0, received -1"),
        ({"threads": 10**6}, "at most one thread per available core"),
    ],
)
def test_wrong_settings_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Settings(**arguments)


def test_a_truncated_baseline_takes_no_part_in_the_average_attack(
    monkeypatch,
):
    monkeypatch.setattr(contestants, "is_installed", lambda framework: True)
    present, _ = contestants.takes_part(Settings(), "average")
    assert [each.name for each in present] == [
        "tensorflow",
        "jax",
        "torch",
        "eager_contiguous",
        "eager_channels_last",
    ]


def test_a_missing_framework_is_left_out_with_a_sentence(monkeypatch, tmp_path):
    monkeypatch.setattr(contestants, "is_installed", lambda framework: False)
    said = []
    comparison = rounds.Comparison(
        "small_cnn",
        "average",
        Settings(backends=("jax",), baselines=("contiguous",), steps=1),
        tmp_path,
        said.append,
    ).measure()
    assert comparison.runs == []
    assert comparison.left_out == [
        {
            "name": "jax",
            "reason": "Left out: keras_neokd on JAX, because JAX is not "
            'installed (pip install "keras-neokd[jax]").',
            "is_error": False,
        },
        {
            "name": "eager_contiguous",
            "reason": "Left out: eager PyTorch, contiguous, because PyTorch "
            'is not installed (pip install "keras-neokd[torch]").',
            "is_error": False,
        },
    ]
    assert any("because JAX is not installed" in line for line in said)


# Turns.


class FakeWorker:
    """A process that writes down who was asked what."""

    def __init__(self, name, asked, dies_at):
        self._name, self._asked, self._dies_at = name, asked, dies_at

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        pass

    def ask(self, request):
        self._asked.append((self._name, request))
        if self._asked.count((self._name, "step")) == self._dies_at:
            raise processes.WorkerError(f"Left out: {self._name}, it died.")
        return {
            "seconds": 1.0,
            "processor_seconds": 1.0,
            "result": 1.0,
            "construction_seconds": 1.0,
            "peak_bytes": 1,
            "rate": 1.0,
            "multiply_adds": 1,
        }


@pytest.fixture
def measure_fake(monkeypatch, tmp_path):
    """Function that measures with fake processes; returns who was asked."""

    def measure(dies_at=()):
        asked = []
        monkeypatch.setattr(rounds, "_PAUSE_SECONDS", 0)
        monkeypatch.setattr(contestants, "is_installed", lambda name: True)
        monkeypatch.setattr(
            processes,
            "start",
            lambda contestant, *_: FakeWorker(
                contestant.name, asked, dict(dies_at).get(contestant.name)
            ),
        )
        settings = Settings(
            backends=("jax", "torch"),
            baselines=(),
            steps=3,
            warmup=1,
            check_growth=False,
        )
        comparison = rounds.Comparison(
            "small_cnn", "average", settings, tmp_path, print
        )
        return comparison.measure(), asked

    return measure


def test_contestants_take_turns_after_all_have_warmed_up(measure_fake):
    comparison, asked = measure_fake()
    assert asked[:6] == [
        *[("jax", request) for request in ("build", "step", "step")],
        *[("torch", request) for request in ("build", "step", "step")],
    ]
    orders = [asked[first : first + 2] for first in (6, 8, 10)]
    for order in orders:
        assert sorted(order) == [("jax", "step"), ("torch", "step")]
    # None always comes first.
    assert len({tuple(order) for order in orders}) == 2
    assert asked[12:] == [
        *[("jax", each) for each in ("memory", "convolve", "arithmetic")],
        *[("torch", each) for each in ("memory", "convolve", "arithmetic")],
    ]
    assert [len(run.steps) for run in comparison.runs] == [3, 3]


@pytest.mark.parametrize("dies_at", [1, 4])
def test_the_others_go_on_when_one_dies(measure_fake, dies_at):
    comparison, _ = measure_fake({"jax": dies_at})
    assert [run.contestant.name for run in comparison.runs] == ["torch"]
    assert len(comparison.runs[0].steps) == 3
    assert comparison.left_out == [
        {"name": "jax", "reason": "Left out: jax, it died.", "is_error": True}
    ]


def test_a_dead_process_is_reported_with_its_last_words(tmp_path):
    log = tmp_path / "worker.log"
    environment = processes.environment("torch", 1)
    with processes.WorkerProcess("me", {}, environment, log) as worker:
        with pytest.raises(processes.WorkerError) as error:
            worker.ask("build")
    assert "me, because its process ended with status 1" in str(error.value)
    assert "KeyError: 'threads'" in str(error.value)
    assert str(log) in str(error.value)


def test_processes_share_threads_but_not_backends():
    first = processes.environment("jax", 3)
    second = processes.environment("torch", 3)
    assert first["KERAS_BACKEND"] == "jax"
    assert second["KERAS_BACKEND"] == "torch"
    assert first["OMP_NUM_THREADS"] == second["OMP_NUM_THREADS"] == "3"


# What is shown.


def test_the_table_shows_the_figures(record):
    console = Console(width=200)
    with console.capture() as capture:
        console.print(report.build_tables(record)[0])
    lines = capture.get().splitlines()
    row = next(line for line in lines if "keras_neokd on TensorFlow" in line)
    for text in ("100.0", "1,000", "3.00 (2.00 to 3.00)", "50%", "500 / 500"):
        assert text in row
    assert any(
        "channels last" in line and "1 (baseline)" in line for line in lines
    )


def test_a_busy_computer_is_pointed_out(record):
    assert any("NOT QUIET" in sentence for sentence in report.notes(record))
    for contestant in record["results"][0]["contestants"]:
        contestant["others_share"] = 0.01
    assert "NOT QUIET" not in " ".join(report.notes(record))


# The real thing.


@pytest.fixture(scope="module")
def tiny_run(tmp_path_factory):
    """Folder, record and output of one tiny run of the program."""
    if not contestants.is_installed("torch"):
        pytest.skip("the baseline needs PyTorch")
    workdir = tmp_path_factory.mktemp("benchmark") / "new" / "folder"
    result = run_benchmark(
        "--models=small_cnn",
        "--attacks=max_average",
        f"--backends={keras.config.backend()}",
        "--baselines=contiguous",
        "--batch_size=8",
        "--steps=1",
        "--warmup=0",
        "--attack_steps=2",
        # More threads than idle cores make eager PyTorch crawl.
        "--threads=1",
        f"--workdir={workdir}",
    )
    assert result.returncode == 0, result.stdout + result.stderr
    record = json.loads((workdir / "benchmark.json").read_text("utf-8"))
    return workdir, record, result.stdout


def run_benchmark(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "apps.benchmark", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def test_a_tiny_run_measures_both_contestants(tiny_run):
    _, record, _ = tiny_run
    (result,) = record["results"]
    assert result["left_out"] == []
    assert result["baseline"] == "eager_contiguous"
    ours, eager = result["contestants"]
    assert ours["name"] == keras.config.backend()
    assert ours["versions"]["keras"] == keras.__version__
    (ratio,) = {*ours["speedup"].values()}
    assert ratio == pytest.approx(
        eager["step_seconds"][0] / ours["step_seconds"][0]
    )
    for contestant in (ours, eager):
        for name in (
            "images_per_second",
            "import_seconds",
            "construction_seconds",
            "first_step_seconds",
            "processor_seconds",
            "last_loss",
        ):
            assert contestant[name], name
        assert 50 < contestant["peak_megabytes"] < 5000


def test_tracing_does_not_grow_with_the_attack(tiny_run):
    _, record, _ = tiny_run
    growth = record["results"][0]["contestants"][0]["growth"]
    assert growth["attack_steps"] == [2, 20]
    assert not growth["grows"]
    is_eager = keras.config.backend() == "torch"
    assert (growth["operations"][0] == 0) == is_eager


def test_a_tiny_run_leaves_table_and_plot(tiny_run):
    workdir, record, output = tiny_run
    assert "1 (baseline)" in output
    markdown = (workdir / "benchmark.md").read_text("utf-8").splitlines()
    rows = [line for line in markdown if line.startswith("| small_cnn")]
    assert len(rows) == len(record["results"][0]["contestants"])
    if contestants.is_installed("matplotlib"):
        assert (workdir / "benchmark.png").stat().st_size > 10_000


def test_wrong_flags_and_folders_are_refused(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "earlier").mkdir()
    (tmp_path / "earlier" / "benchmark.json").write_text("{}")
    for arguments, message in (
        ([f"--workdir={tmp_path}/earlier"], "holds results of an earlier"),
        (["--models=resnet"], "`models` knows small_cnn, msdnet_cifar10"),
        ([f"--workdir={tmp_path}/file/x"], "needs a folder that can be"),
        (["extra"], "Not a flag: extra"),
    ):
        result = run_benchmark(f"--workdir={tmp_path}", *arguments)
        assert result.returncode == 1
        assert message in result.stdout + result.stderr
