"""The order of the measurements, and processes that end too early."""

import pytest

from benchmarks import processes
from benchmarks import worker
from benchmarks.measuring import Measurement
from benchmarks.measuring import Plan
from benchmarks.processes import Process
from benchmarks.processes import WorkerError
from benchmarks.scenario import ROOT
from benchmarks.scenario import Scenario
from benchmarks.scenario import Variant
from tests.benchmarks.fakes import FakeProcesses


def test_variants_take_turns_after_all_have_warmed_up(measure_fake):
    fakes = FakeProcesses({"unit": [1.0] * 9, "b": [1.0] * 9})
    measurement = measure_fake(fakes, ("unit", "b"), rounds=6, warmup=1)
    asked = fakes.asked
    for first in (0, 2):
        name = asked[first][0]
        assert asked[first : first + 2] == [(name, "build"), (name, "step")]
    assert sorted(asked[4:6]) == [("b", "step"), ("unit", "step")]
    orders = [tuple(asked[first : first + 2]) for first in range(6, 18, 2)]
    for order in orders:
        assert sorted(order) == [("b", "step"), ("unit", "step")]
    # Each comes first in one of two rounds.
    for first, second in zip(orders[::2], orders[1::2], strict=True):
        assert first == second[::-1]
    assert sorted(asked[18:22]) == [
        (name, each) for name in ("b", "unit") for each in ("facts", "memory")
    ]
    assert [len(run.steps) for run in measurement.runs] == [6, 6]


def test_each_start_has_a_new_process(measure_fake):
    fakes = FakeProcesses({"unit": [9.0, 8.0, 1.0], "b": [7.0, 6.0, 1.0]})
    runs = measure_fake(fakes, ("unit", "b"), rounds=1, starts=2).runs
    starts = {r.variant.name: [s["seconds"] for s in r.starts] for r in runs}
    assert starts == {"unit": [9.0, 8.0], "b": [7.0, 6.0]}
    assert fakes.asked.count(("b", "build")) == 2
    first, second = (
        i for i, each in enumerate(fakes.asked) if each == ("b", "build")
    )
    assert ("b", "close") in fakes.asked[first:second]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_others_go_on_when_one_dies(measure_fake, steps):
    fakes = FakeProcesses({"unit": [1.0] * 9, "b": [1.0] * steps})
    measurement = measure_fake(fakes, ("unit", "b"), rounds=3, warmup=1)
    assert [run.variant.name for run in measurement.runs] == ["unit"]
    assert len(measurement.runs[0].steps) == 3
    assert measurement.left_out == [
        {
            "variant": "b",
            "reason": "Left out: b of small, because it died.",
            "is_error": True,
        }
    ]


def test_a_missing_package_is_no_error(tmp_path):
    scenario = Scenario(
        "small",
        (Variant("b", "jax", "x.X", {}, ("no_such_package",)),),
        ("b",),
    )
    measurement = Measurement(scenario, Plan(), tmp_path, print).measure()
    assert measurement.runs == []
    (left_out,) = measurement.left_out
    assert "because no_such_package is not installed" in left_out["reason"]
    assert not left_out["is_error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rounds": 0}, "`rounds` needs an integer >= 1, received 0"),
        ({"warmup": -1}, "`warmup` needs an integer >= 0, received -1"),
        ({"starts": 0}, "`starts` needs an integer >= 1"),
        ({"threads": 10**6}, "`threads` needs an integer >= 0 and <= "),
    ],
)
def test_a_plan_that_is_not_possible_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        Plan(**arguments)


def test_a_dead_process_is_reported_with_its_last_words(tmp_path):
    log = tmp_path / "worker.log"
    variant = Variant("b", "torch", "nothing.Nothing", {})
    with Process(variant, 1, log) as process:
        with pytest.raises(WorkerError) as error:
            process.ask("build")
    assert "because its process ended with status 1" in str(error.value)
    assert "No module named 'benchmarks.work.nothing'" in str(error.value)
    assert str(log) in str(error.value)


def test_a_library_from_elsewhere_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(worker, "_limit_threads", lambda *_: None)
    monkeypatch.syspath_prepend(tmp_path)
    spec = {"backend": "", "threads": 1, "work": "keras_step.KerasStep"}
    with pytest.raises(ImportError, match="keras_neokd came from"):
        worker.Worker({**spec, "checkout": str(tmp_path)})


def test_a_result_that_is_no_number_is_refused(monkeypatch):
    monkeypatch.setattr(worker, "_limit_threads", lambda *_: None)
    work = type("Work", (), {"step": lambda self: [float("nan")]})
    spec = {"backend": "", "threads": 1, "work": "workloads.X"}
    running = worker.Worker({**spec, "checkout": str(ROOT)})
    running._work = work()
    with pytest.raises(FloatingPointError, match="does not do its work"):
        running.answer("step")


def test_processes_share_threads_but_not_backends():
    first = processes.environment("jax", 3)
    second = processes.environment("torch", 3)
    assert first["KERAS_BACKEND"] == "jax"
    assert second["KERAS_BACKEND"] == "torch"
    assert first["OMP_NUM_THREADS"] == second["OMP_NUM_THREADS"] == "3"
