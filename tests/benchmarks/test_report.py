"""Medians, paired ratios and intervals; what is shown and what is wrong."""

import json

import pytest

from benchmarks import report
from tests.benchmarks.fakes import FakeProcesses


def record_of(measurement):
    return {
        "scenario": "models",
        "plan": {"rounds": 3},
        "environment": report.environment(1),
        "rows": report.rows(measurement),
        "left_out": measurement.left_out,
    }


@pytest.fixture
def rows(measure_fake):
    """Rows of two units and a variant, with round numbers."""
    seconds = {
        "ours": [30.0, 1.0, 2.0, 1.0],
        "slow": [9.0, 4.0, 6.0, 5.0],
        "fast": [15.0, 2.0, 6.0, 3.0],
    }
    facts = {
        "ours": {"multiply_adds": 200, "convolution_rate": 100},
        "slow": {"convolution_rate": 400},
    }
    measurement = measure_fake(
        FakeProcesses(seconds, facts=facts),
        seconds,
        unit=("slow", "fast"),
        tolerance=1e-3,
        rounds=3,
    )
    return {row["variant"]: row for row in report.rows(measurement)}


# Arithmetic.


def test_ratios_are_taken_pair_by_pair():
    # The ratio of the medians would be 4 / 2 = 2.
    ratio = report.paired([4.0, 2.0, 12.0], [1.0, 2.0, 4.0])
    assert ratio == {"median": 3.0, "low": 1.0, "high": 4.0}
    with pytest.raises(ValueError, match="shorter"):
        report.paired([1.0, 2.0], [1.0])


@pytest.mark.parametrize(
    ("count", "outside"), [(1, 0), (5, 0), (8, 0), (9, 1), (12, 2), (20, 5)]
)
def test_the_interval_is_that_of_order_statistics(count, outside):
    # Tables of the sign test: 12 values leave out 2 on each side.
    found = report.spread([float(each) for each in range(count)][::-1])
    assert found["low"] == outside
    assert found["high"] == count - 1 - outside


def test_the_unit_is_the_fastest_of_the_units(rows):
    assert [name for name, row in rows.items() if row["is_unit"]] == ["fast"]


def test_the_row_of_a_variant(rows):
    row = rows["ours"]
    expected = {
        "scenario": "small",
        "ratio": {"median": pytest.approx(1 / 3), "low": 1 / 3, "high": 0.5},
        "milliseconds": {"median": 1000.0, "low": 1000.0, "high": 2000.0},
        "first_step_ratio": {"median": 2.0, "low": 2.0, "high": 2.0},
        "peak_megabytes": 300.0,
        "result": 7.0,
        "agrees": True,
        "step_seconds": [1.0, 2.0, 1.0],
        "processor_seconds": [0.5, 1.0, 0.5],
        "versions": {"jax": "1.2"},
        # 200 multiply-adds at 400 per second, in one second.
        "convolution_share": 0.5,
        "predicted_ratio": None,
    }
    assert {name: row[name] for name in expected} == expected
    # The work is the same, whoever counted it.
    assert rows["slow"]["convolution_share"] == 0.1


def test_arithmetic_predicts_the_ratio(measure_fake):
    facts = {"unit": {"multiply_adds": 2}, "b": {"multiply_adds": 6}}
    fakes = FakeProcesses({"unit": [1, 1], "b": [1, 1]}, facts=facts)
    found = report.rows(measure_fake(fakes, ("unit", "b"), rounds=1))
    assert [row["predicted_ratio"] for row in found] == [1, 3]


def test_of_other_work_nothing_is_predicted(measure_fake):
    facts = {
        "unit": {"convolution_rate": 2},
        "b": {"multiply_adds": 6, "convolution_rate": 2},
    }
    fakes = FakeProcesses({"unit": [1, 1], "b": [1, 1]}, facts=facts)
    found = report.rows(measure_fake(fakes, ("unit", "b"), rounds=1))
    assert [row["convolution_share"] for row in found] == [None, 3.0]


def test_without_the_unit_there_is_no_ratio(measure_fake):
    fakes = FakeProcesses({"unit": [], "b": [1.0, 1.0]})
    measurement = measure_fake(fakes, ("unit", "b"), rounds=1, tolerance=1e-3)
    (row,) = report.rows(measurement)
    assert row["ratio"] is row["first_step_ratio"] is row["agrees"] is None
    assert "because it died" in report.markdown(record_of(measurement))


# The check that all do the same work.


@pytest.mark.parametrize(("theirs", "agrees"), [(7.05, True), (7.2, False)])
def test_other_results_are_a_failure(measure_fake, theirs, agrees):
    fakes = FakeProcesses({"unit": [1, 1], "b": [1, 1]}, {"b": [theirs]})
    measurement = measure_fake(fakes, ("unit", "b"), rounds=1, tolerance=0.01)
    record = record_of(measurement)
    assert [row["agrees"] for row in record["rows"]] == [True, agrees]
    assert bool(report.failed(record)) is not agrees
    assert ("NOT THE SAME WORK: b of small" in report.markdown(record)) is (
        not agrees
    )


@pytest.mark.parametrize(
    ("theirs", "result", "agreement", "agrees"),
    [
        ([0.0, 1.0, 1.0, 1.0], 0.75, 0.5, True),
        ([0.0, 1.0, 1.0, 0.0], 0.5, 0.25, False),
    ],
)
def test_answers_are_compared_image_by_image(
    measure_fake, theirs, result, agreement, agrees
):
    results = {"unit": [1.0, 0.0, 1.0, 1.0], "b": theirs}
    fakes = FakeProcesses({"unit": [1, 1], "b": [1, 1]}, results)
    # A quarter of the images is more than a fifth.
    measurement = measure_fake(fakes, ("unit", "b"), rounds=1, tolerance=0.2)
    _, row = report.rows(measurement)
    assert row["result"] == result
    assert row["agreement"] == agreement
    assert row["agrees"] is agrees


# What is shown.


def test_the_table_shows_the_figures(measure_fake, tmp_path):
    fakes = FakeProcesses({"unit": [9, 1, 2, 4], "b": [18, 3, 4, 4]})
    record = record_of(measure_fake(fakes, ("unit", "b"), rounds=3))
    report.write(record, tmp_path)
    assert json.loads((tmp_path / "benchmark.json").read_text()) == record
    heading, _, unit, other = (
        (tmp_path / "benchmark.md").read_text().splitlines()[:4]
    )
    assert "| first step, s |" in heading and "agreement" not in heading
    assert "| 1 (unit) | 2,000 (1,000 to 4,000) | 9.0 | 1 (unit) |" in unit
    assert "| 2.00 (1.00 to 3.00) | 4,000 (3,000 to" in other


def test_a_busy_computer_is_pointed_out(measure_fake):
    fakes = FakeProcesses({"unit": [1, 1]})
    record = record_of(measure_fake(fakes, ("unit",), rounds=1))
    assert "NOT QUIET" not in report.markdown(record)
    record["rows"][0]["others_share"] = 0.2
    assert "up to 20% of the processor" in report.markdown(record)


def test_what_others_took_of_the_processor(measure_fake):
    measurement = measure_fake(
        FakeProcesses({"unit": [1, 1, 1]}), ("unit",), rounds=2
    )
    for step in measurement.runs[0].steps:
        step.update(others_seconds=0.1, available_seconds=2.0)
    (row,) = report.rows(measurement)
    assert row["others_share"] == pytest.approx(0.05)
