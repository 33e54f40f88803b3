"""Scenarios that are measured by processes that are not real."""

import argparse

import pytest

from benchmarks import measuring
from benchmarks.measuring import Process
from benchmarks.scenario import Scenario
from benchmarks.scenario import Variant


@pytest.fixture
def fake_processes(monkeypatch):
    """Function that lets processes answer without doing anything.

    It takes the times of the steps by name of a variant, after the last of
    which the process dies, the results of its steps ([7.0] otherwise) and
    facts (None otherwise). Returns a list that will hold who was asked what.
    """

    def install(seconds, results=None, **facts):
        asked = []
        times = {name: iter(each) for name, each in seconds.items()}

        def ask(process, request):
            name = process.variant.name
            asked.append((name, request))
            if request == "build":
                return {"seconds": 2.0}
            if request == "facts":
                kinds = ("multiply_adds", "num_images", "image_seconds")
                found = {kind: facts.get(kind, {}).get(name) for kind in kinds}
                return {"peak_megabytes": 300.0, **found}
            for spent in times[name]:
                result = (results or {}).get(name, [7.0])
                return {"seconds": spent, "result": result}
            raise measuring.WorkerError("because it died.")

        def close(process):
            asked.append((process.variant.name, "close"))

        monkeypatch.setattr(Process, "ask", ask)
        monkeypatch.setattr(Process, "close", close)
        monkeypatch.setattr(Variant, "missing", lambda self: [])
        monkeypatch.setattr(measuring, "PAUSE_SECONDS", 0)
        return asked

    return install


@pytest.fixture
def measure(tmp_path):
    """Function that measures variants with names."""

    def measure(names, unit=("unit",), tolerance=None, **options):
        variants = tuple(Variant(each, "jax", "x.X", {}) for each in names)
        numbers = {"rounds": 1, "warmup": 0, "starts": 1, "threads": 1}
        return measuring.Measurement(
            Scenario("small", variants, unit, tolerance),
            argparse.Namespace(**{**numbers, **options}),
            tmp_path,
        ).measure()

    return measure
