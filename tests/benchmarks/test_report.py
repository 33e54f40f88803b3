"""Medians and paired ratios; what is shown and what is wrong."""

import argparse
import json

import keras
import pytest

from benchmarks import report

pytestmark = pytest.mark.any_backend


def record_of(measurement):
    flags = argparse.Namespace(scenario="models", rounds=3, threads=1)
    record = report.new_record(flags)
    record["rows"] += report.rows(measurement)
    record["left_out"] += measurement.left_out
    return record


def test_ratios_are_taken_pair_by_pair():
    # The ratio of the medians would be 4 / 2 = 2.
    ratio = report.paired([4.0, 2.0, 12.0], [1.0, 2.0, 4.0])
    assert ratio == {"median": 3.0, "low": 1.0, "high": 4.0}
    with pytest.raises(ValueError, match="shorter"):
        report.paired([1.0, 2.0], [1.0])


def test_the_row_of_a_variant(fake_processes, measure):
    seconds = {
        "ours": [30.0, 1.0, 2.0, 1.0],
        "slow": [9.0, 4.0, 6.0, 5.0],
        "fast": [15.0, 2.0, 6.0, 3.0],
    }
    fake_processes(seconds)
    found = report.rows(
        measure(seconds, ("slow", "fast"), tolerance=1e-3, rounds=3)
    )
    rows = {row["variant"]: row for row in found}
    assert [name for name, row in rows.items() if row["is_unit"]] == ["fast"]
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
        "predicted_ratio": None,
    }
    assert {name: row[name] for name in expected} == expected


# Of the same work nothing is predicted.
@pytest.mark.parametrize(
    ("multiply_adds", "tolerance", "expected"),
    [
        ({"unit": 2, "b": 6}, None, [1, 3]),
        ({"b": 6}, None, [None, None]),
        ({"unit": 2, "b": 2}, 0.1, [None, None]),
    ],
)
def test_arithmetic_predicts_the_ratio(
    fake_processes, measure, multiply_adds, tolerance, expected
):
    seconds = {"unit": [1, 1], "b": [1, 1]}
    fake_processes(seconds, multiply_adds=multiply_adds)
    found = report.rows(measure(seconds, tolerance=tolerance))
    assert [row["predicted_ratio"] for row in found] == expected


def test_images_are_counted_and_timed(fake_processes, measure):
    seconds = {"unit": [1, 2, 2, 5], "b": [1, 1, 1, 1]}
    times = [0.001 * each for each in range(1, 102)]
    fake_processes(
        seconds, num_images={"unit": 50}, image_seconds={"unit": times}
    )
    record = record_of(measure(seconds, rounds=3))
    unit, other = record["rows"]
    assert unit["images_per_second"] == 25.0
    assert unit["image_milliseconds"] == "51 / 91 / 100"
    assert other["images_per_second"] is other["image_milliseconds"] is None
    assert "| 25 | 51 / 91 / 100 |" in report.markdown(record)


def test_without_the_unit_there_is_no_ratio(fake_processes, measure):
    fake_processes({"unit": [], "b": [1.0, 1.0]})
    measurement = measure(("unit", "b"), tolerance=1e-3)
    (row,) = report.rows(measurement)
    assert row["ratio"] is row["first_step_ratio"] is row["agrees"] is None
    assert "because it died" in report.markdown(record_of(measurement))


@pytest.mark.parametrize(("theirs", "agrees"), [(7.05, True), (7.2, False)])
def test_other_results_are_a_failure(fake_processes, measure, theirs, agrees):
    fake_processes({"unit": [1, 1], "b": [1, 1]}, {"b": [theirs]})
    record = record_of(measure(("unit", "b"), tolerance=0.01))
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
    fake_processes, measure, theirs, result, agreement, agrees
):
    results = {"unit": [1.0, 0.0, 1.0, 1.0], "b": theirs}
    fake_processes({"unit": [1, 1], "b": [1, 1]}, results)
    # A quarter of the images is more than a fifth.
    _, row = report.rows(measure(("unit", "b"), tolerance=0.2))
    assert row["result"] == result
    assert row["agreement"] == agreement
    assert row["agrees"] is agrees


def test_the_table_shows_the_figures(fake_processes, measure, tmp_path):
    fake_processes({"unit": [9, 1, 2, 4], "b": [18, 3, 4, 4]})
    record = record_of(measure(("unit", "b"), rounds=3))
    assert record["environment"]["versions"]["keras"] == keras.__version__
    report.write(record, tmp_path)
    assert json.loads((tmp_path / "benchmark.json").read_text()) == record
    heading, _, unit, other = (
        (tmp_path / "benchmark.md").read_text().splitlines()[:4]
    )
    assert "| first step, s |" in heading and "agreement" not in heading
    assert "| 1 (unit) | 2,000 (1,000 to 4,000) | 9.0 | 1 (unit) |" in unit
    assert "| 2.00 (1.00 to 3.00) | 4,000 (3,000 to" in other
