"""From measured steps to rows, and from rows to JSON and Markdown."""

import json
import operator
import os
import platform
import re
import statistics
import subprocess
from importlib import metadata
from pathlib import Path

from benchmarks import worker
from benchmarks.scenario import BACKENDS
from benchmarks.scenario import ROOT

_PACKAGES = ("keras", *BACKENDS, "torchattacks", "pyautoattack", "foolbox")
_RECORDED = ("TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS", "OMP_WAIT_POLICY")


def spread(values):
    """Return median, least and largest of numbers, as a dictionary."""
    return {
        "median": statistics.median(values),
        "low": min(values),
        "high": max(values),
    }


def paired(values, unit_values):
    """Return the `spread` of ratios of values of the same round."""
    pairs = zip(values, unit_values, strict=True)
    return spread([own / unit for own, unit in pairs])


def rows(measurement):
    """Return a dictionary of JSON values per variant that was measured.

    Args:
        measurement: a `measuring.Measurement` after `measure()`.
    """
    scenario, processes = measurement.scenario, measurement.processes
    units = [
        process
        for process in processes
        if process.variant.name in scenario.unit
    ]
    unit = min(
        units,
        key=lambda process: statistics.median(_seconds(process)),
        default=None,
    )
    return [
        {
            "scenario": scenario.name,
            "variant": process.variant.name,
            "backend": process.variant.backend,
            "other_commit": None
            if process.variant.checkout == ROOT
            else commit(process.variant.checkout),
            "is_unit": process is unit,
            "ratio": unit and paired(_seconds(process), _seconds(unit)),
            "predicted_ratio": _predicted(process, unit, scenario.tolerance),
            "milliseconds": spread([1000 * each for each in _seconds(process)]),
            "first_step_ratio": unit
            and paired(_seconds(process, "starts"), _seconds(unit, "starts")),
            "first_step_seconds": spread(_seconds(process, "starts")),
            "build_seconds": spread(_seconds(process, "builds")),
            "images_per_second": _images_per_second(process),
            "image_milliseconds": _percentiles(process.facts["image_seconds"]),
            "peak_megabytes": process.facts["peak_megabytes"],
            **_results(process, unit, scenario.tolerance),
            "step_seconds": _seconds(process),
        }
        for process in processes
    ]


def _seconds(process, phase="steps"):
    return [each["seconds"] for each in getattr(process, phase)]


def _images_per_second(process):
    count = process.facts["num_images"]
    return count and count / statistics.median(_seconds(process))


def _percentiles(seconds):
    """Return the 50th, 90th and 99th percentile in milliseconds, as text."""
    if not seconds:
        return None
    cuts = statistics.quantiles(seconds, n=100, method="inclusive")
    return " / ".join(f"{1000 * cuts[each - 1]:.3g}" for each in (50, 90, 99))


def _predicted(process, unit, tolerance):
    """Return the ratio of multiply-adds, where variants differ in work."""
    own, theirs = (
        each and each.facts["multiply_adds"] for each in (process, unit)
    )
    return own / theirs if own and theirs and tolerance is None else None


def _results(process, unit, tolerance):
    """Compare the first loss, or the answers for all images and seeds."""
    own, agreement, agrees = _answers(process), None, None
    if unit is not None:
        theirs = _answers(unit)
        limit = abs(theirs[0])
        if len(own) > 1:
            limit = 1
            agreement = statistics.mean(map(operator.eq, own, theirs))
        if tolerance is not None:
            apart = abs(statistics.mean(own) - statistics.mean(theirs))
            agrees = apart <= tolerance * limit
    return {
        "result": statistics.mean(own),
        "agrees": agrees,
        "agreement": agreement,
    }


def _answers(process):
    """Return the first loss, as later ones drift apart, or all answers."""
    first = process.starts[-1]["result"]
    if len(first) == 1:
        return first
    return [
        answer for step in process.steps for answer in step["result"]
    ] + first


def commit(checkout):
    """Return the commit of a checkout, with `-dirty` if it was changed."""
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty"]
    result = subprocess.run(
        command, capture_output=True, text=True, check=False
    )
    return result.stdout.strip() or None


def new_record(flags):
    """Return a record without rows: what is measured, where and how."""
    processor = platform.processor() or platform.machine()
    described = Path("/proc/cpuinfo")
    if described.exists():
        found = re.search(r"model name\s*: (.+)", described.read_text())
        processor = found[1] if found else processor
    variables = {**os.environ, **worker.environment("tensorflow", 0)}
    installed = metadata.packages_distributions()
    return {
        "schema_version": 3,
        "flags": {name: str(each) for name, each in vars(flags).items()},
        "environment": {
            "commit": commit(ROOT),
            "platform": platform.platform(),
            "processor": processor,
            "python": platform.python_version(),
            "versions": {
                name: metadata.version(installed[name][0])
                for name in _PACKAGES
                if name in installed
            },
            # Those that decide about speed.
            "variables": {name: variables.get(name) for name in _RECORDED},
        },
        "rows": [],
        "left_out": [],
    }


def failed(record):
    """Return sentences on what went wrong: failures and other results."""
    sentences = [
        each["reason"] for each in record["left_out"] if each["is_error"]
    ]
    return sentences + [
        f"NOT THE SAME WORK: {row['variant']} of {row['scenario']} has the "
        f"result {row['result']:.6g}, which is not that of the unit."
        for row in record["rows"]
        if row["agrees"] is False
    ]


def write(record, folder):
    """Write benchmark.json and benchmark.md, each whole or not at all."""
    for name, text in (
        ("benchmark.json", json.dumps(record, indent=1) + "\n"),
        ("benchmark.md", markdown(record)),
    ):
        new = folder / f"{name}.new"
        new.write_text(text, "utf-8")
        os.replace(new, folder / name)


# Heading, key of the row and format; columns without a value in any row are
# left out. Intervals and numbers have a format of numbers.
_COLUMNS = (
    ("scenario", "scenario", ""),
    ("variant", "variant", ""),
    ("other commit", "other_commit", ""),
    ("time / unit's", "ratio", ".2f"),
    ("predicted", "predicted_ratio", ".2f"),
    ("ms", "milliseconds", ",.0f"),
    ("first step, s", "first_step_seconds", ".1f"),
    ("first / unit's", "first_step_ratio", ".2f"),
    ("build, s", "build_seconds", ".1f"),
    ("images / s", "images_per_second", ",.0f"),
    ("image, ms: p50 / p90 / p99", "image_milliseconds", ""),
    ("peak, MB", "peak_megabytes", ",.0f"),
    ("result", "result", ".4f"),
    ("same work", "agrees", ""),
    ("agreement", "agreement", ".2%"),
)


def _cell(row, key, form):
    value = row[key]
    if value is None:
        return ""
    if row["is_unit"] and key in ("ratio", "first_step_ratio"):
        return "1 (unit)"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    if not isinstance(value, dict):
        return format(value, form)
    median, low, high = (format(each, form) for each in value.values())
    return median if low == high else f"{median} ({low} to {high})"


def markdown(record):
    """Return the table of a record with its notes."""
    found = record["rows"]
    columns = [
        (heading, key, form)
        for heading, key, form in _COLUMNS
        if any(row[key] is not None for row in found)
    ]
    lines = [
        [heading for heading, *_ in columns],
        ["---" for _ in columns],
        *([_cell(row, *each) for _, *each in columns] for row in found),
    ]
    table = [f"| {' | '.join(cells)} |" for cells in lines]
    where, flags = record["environment"], record["flags"]
    missing = [each for each in record["left_out"] if not each["is_error"]]
    notes = [
        f"{flags['scenario']}: {where['processor']}, {flags['threads']} "
        f"threads, {where['platform']}, Python {where['python']}, commit "
        f"{where['commit']}; {flags['rounds']} rounds in turns.",
        "time / unit's: ratio of steps of the same round, median (minimum to "
        "maximum over rounds); above 1 is slower. first step: from the built "
        "work to the end of its first step, compilation included. result: of "
        "the first step, or over all images.",
        *(each["reason"] for each in missing),
        *failed(record),
    ]
    return "\n".join([*table, "", *(f"- {note}" for note in notes), ""])
