"""A scenario of two variants, measured by processes that are not real."""

import pytest

from benchmarks import computer
from benchmarks import measuring
from benchmarks import processes
from benchmarks.measuring import Measurement
from benchmarks.measuring import Plan
from benchmarks.scenario import Scenario
from benchmarks.scenario import Variant


@pytest.fixture
def measure_fake(monkeypatch, tmp_path):
    """Function that measures `FakeProcesses` for variants of their names."""

    def measure(fakes, names, unit=("unit",), tolerance=None, **plan):
        monkeypatch.setattr(measuring, "PAUSE_SECONDS", 0)
        monkeypatch.setattr(Variant, "missing", lambda self: [])
        monkeypatch.setattr(processes, "Process", fakes)
        monkeypatch.setattr(computer, "processor_times", lambda: None)
        variants = tuple(Variant(each, "jax", "x.X", {}) for each in names)
        return Measurement(
            Scenario("small", variants, unit, tolerance),
            Plan(**{"warmup": 0, "threads": 1, **plan}),
            tmp_path,
            print,
        ).measure()

    return measure
