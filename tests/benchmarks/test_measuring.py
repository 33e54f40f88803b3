"""The order of the measurements, and processes that end too early."""

import pytest

from benchmarks import worker
from benchmarks.measuring import Process
from benchmarks.measuring import WorkerError
from benchmarks.scenario import Variant

pytestmark = pytest.mark.any_backend


def test_variants_take_turns_after_all_have_warmed_up(fake_processes, measure):
    asked = fake_processes({"unit": [1.0] * 9, "b": [1.0] * 9})
    measurement = measure(("unit", "b"), rounds=6, warmup=1)
    asked = [each for each in asked if each[1] != "close"]
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
    assert sorted(asked[18:]) == [("b", "facts"), ("unit", "facts")]
    assert [len(process.steps) for process in measurement.processes] == [6, 6]


def test_each_start_has_a_new_process(fake_processes, measure):
    asked = fake_processes({"unit": [9.0, 8.0, 1.0], "b": [7.0, 6.0, 1.0]})
    processes = measure(("unit", "b"), starts=2).processes
    starts = {
        r.variant.name: [s["seconds"] for s in r.starts] for r in processes
    }
    assert starts == {"unit": [9.0, 8.0], "b": [7.0, 6.0]}
    own = [request for name, request in asked if name == "b"]
    start = ["close", "build", "step"]
    assert own == [*start, *start, "step", "facts", "close"]


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_the_others_go_on_when_one_dies(fake_processes, measure, steps):
    asked = fake_processes({"unit": [1.0] * 9, "b": [1.0] * steps})
    measurement = measure(("unit", "b"), rounds=3, warmup=1)
    assert [process.variant.name for process in measurement.processes] == [
        "unit"
    ]
    assert len(measurement.processes[0].steps) == 3
    assert measurement.left_out == [
        {
            "variant": "b",
            "reason": "Left out: b of small, because it died.",
            "is_error": True,
        }
    ]
    assert ("b", "close") in asked[-2:]


def test_a_missing_package_is_no_error(monkeypatch, measure):
    monkeypatch.setattr(Variant, "missing", lambda self: ["no_such_package"])
    measurement = measure(("unit",))
    assert measurement.processes == []
    (left_out,) = measurement.left_out
    assert "because no_such_package is not installed" in left_out["reason"]
    assert not left_out["is_error"]


def test_packages_and_programs_that_are_missing():
    packages, programs = ("pytest", "no_such_package"), ("git", "no_compiler")
    variant = Variant("b", "keras", "x.X", {}, packages, programs)
    assert variant.missing() == ["no_such_package", "no_compiler"]


@pytest.mark.parametrize(
    ("threads", "message"),
    [
        (1, "ModuleNotFoundError: No module named 'benchmarks.work.nothing'"),
        # No process can have so few: it ends before it answers.
        (-(10**6), "process pool"),
    ],
)
def test_a_failed_process_is_reported(tmp_path, threads, message):
    log = tmp_path / "worker.log"
    process = Process(Variant("b", "jax", "nothing.Nothing", {}), threads, log)
    with pytest.raises(WorkerError, match=message) as error:
        process.start()
    process.close()
    assert str(log) in str(error.value)
    assert "Traceback" in log.read_text("utf-8")


def test_processes_share_threads_but_not_backends():
    first, second = (worker.environment(each, 3) for each in ("jax", "torch"))
    assert first["KERAS_BACKEND"] == "jax"
    assert second["KERAS_BACKEND"] == "torch"
    assert first["OMP_NUM_THREADS"] == second["OMP_NUM_THREADS"] == "3"


def test_a_library_from_elsewhere_is_refused(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    variant = Variant("b", "", "keras_step.KerasStep", {}, checkout=tmp_path)
    with pytest.raises(ImportError, match="keras_neokd came from"):
        worker.Worker(variant, 1).build()


def test_a_result_that_is_no_number_is_refused():
    running = worker.Worker(Variant("b", "", "x.X", {}), 1)
    running._work = type("Work", (), {"step": lambda self: [float("nan")]})()
    with pytest.raises(FloatingPointError, match="does not do its work"):
        running.step()
