"""From measured steps to rows, and from rows to JSON and Markdown."""

import json
import math
import operator
import os
import platform
import statistics
import subprocess

from benchmarks import computer
from benchmarks import processes
from benchmarks.scenario import ROOT

# Environment variables that decide about speed.
_RECORDED = ("TF_ENABLE_ONEDNN_OPTS", "XLA_FLAGS", "OMP_WAIT_POLICY")
# What other programs may take of the processor before a run counts as busy.
_QUIET_SHARE = 0.05


def spread(values):
    """Return median and interval of numbers, as a dictionary.

    The interval from `low` to `high` covers the median of what the values
    are drawn from with a probability of at least 95 %, whatever its
    distribution; of five values or fewer it is all that was measured.
    """
    ordered, count = sorted(values), len(values)
    outside, tail = 0, 2 * 0.5**count
    while tail + 2 * math.comb(count, outside + 1) * 0.5**count <= 0.05:
        outside += 1
        tail += 2 * math.comb(count, outside) * 0.5**count
    return {
        "median": statistics.median(ordered),
        "low": ordered[outside],
        "high": ordered[count - 1 - outside],
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
    scenario, runs = measurement.scenario, measurement.runs
    units = [run for run in runs if run.variant.name in scenario.unit]
    unit = min(
        units, key=lambda run: statistics.median(_seconds(run)), default=None
    )
    return [
        {
            "scenario": scenario.name,
            "variant": run.variant.name,
            "backend": run.variant.backend,
            "other_commit": None
            if run.variant.checkout == ROOT
            else commit(run.variant.checkout),
            "is_unit": run is unit,
            "ratio": unit and paired(_seconds(run), _seconds(unit)),
            "milliseconds": spread([1000 * each for each in _seconds(run)]),
            "first_step_ratio": unit
            and paired(_seconds(run, "starts"), _seconds(unit, "starts")),
            "first_step_seconds": spread(_seconds(run, "starts")),
            "build_seconds": spread(_seconds(run, "builds")),
            "peak_megabytes": run.peak_bytes / 2**20,
            "others_share": _others_share(run),
            **_results(run, unit, scenario.tolerance),
            **_arithmetic(run, unit, runs, scenario),
            "versions": run.builds[-1]["versions"],
            "step_seconds": _seconds(run),
            "processor_seconds": [
                each["processor_seconds"] for each in run.steps
            ],
        }
        for run in runs
    ]


def _seconds(run, stage="steps"):
    return [each["seconds"] for each in getattr(run, stage)]


def _others_share(run):
    """Return the share of the processor that other programs took."""
    if "others_seconds" not in run.steps[0]:
        return None
    others = sum(step["others_seconds"] for step in run.steps)
    available = sum(step["available_seconds"] for step in run.steps)
    # The system counts in ticks of about 10 ms.
    return max(0.0, others) / max(available, 0.01)


def _results(run, unit, tolerance):
    """Compare the first loss, or the answers for all images and seeds."""
    own, agreement, agrees = _answers(run), None, None
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


def _answers(run):
    """Return the results to compare: later losses drift apart."""
    first = run.starts[-1]["result"]
    if len(first) == 1:
        return first
    return [answer for step in run.steps for answer in step["result"]] + first


def _arithmetic(run, unit, runs, scenario):
    """Return the predicted ratio, and the share of a convolution's speed."""
    rates = [each.facts.get("convolution_rate", 0) for each in runs]
    counts = {each.facts.get("multiply_adds") for each in runs} - {None}
    needed = run.facts.get("multiply_adds")
    if scenario.tolerance is not None:
        # All do the same work, whoever counted it.
        needed = needed or next(iter(counts), None)
    unit_needs = unit and len(counts) > 1 and unit.facts.get("multiply_adds")
    share = None
    if needed and max(rates):
        share = needed / max(rates) / statistics.median(_seconds(run))
    return {
        "predicted_ratio": needed / unit_needs if unit_needs else None,
        "convolution_share": share,
        "convolution_rate": run.facts.get("convolution_rate"),
    }


def commit(checkout):
    """Return the commit of a checkout, with `+` if it was changed, or None."""

    def git(*arguments):
        result = subprocess.run(
            ["git", "-C", str(checkout), *arguments],
            capture_output=True,
            text=True,
            check=False,
        )
        return result.stdout.strip() if result.returncode == 0 else None

    found = git("rev-parse", "--short", "HEAD")
    return found and found + ("+" if git("status", "--porcelain") else "")


def environment(threads):
    """Describe the computer as a dictionary of JSON values."""
    variables = processes.environment("tensorflow", threads)
    return {
        "commit": commit(ROOT),
        "platform": platform.platform(),
        "processor": computer.processor_name(),
        "python": platform.python_version(),
        "available_cores": computer.available_cores(),
        "threads": threads,
        "variables": {
            name: variables[name] for name in _RECORDED if name in variables
        },
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
    ("peak, MB", "peak_megabytes", ",.0f"),
    ("of conv. peak", "convolution_share", ".0%"),
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
    where = record["environment"]
    notes = [
        f"{record['scenario']}: {where['processor']}, {where['threads']} "
        f"threads, {where['platform']}, Python {where['python']}, commit "
        f"{where['commit']}; {record['plan']['rounds']} rounds in turns.",
        "time / unit's: ratio of steps of the same round, median (95 % "
        "interval of the median, or all rounds if there are five or fewer); "
        "above 1 is slower. first step: from the built work to the end of its "
        "first step, compilation included. result: of the first step, or over "
        "all images.",
    ]
    shares = [row["others_share"] for row in found if row["others_share"]]
    if shares and max(shares) > _QUIET_SHARE:
        notes.append(
            f"NOT QUIET: other programs took up to {max(shares):.0%} of the "
            "processor during a variant's steps; measure again."
        )
    left_out = [each["reason"] for each in record["left_out"]]
    notes += [
        *left_out,
        *(each for each in failed(record) if each not in left_out),
    ]
    return "\n".join([*table, "", *(f"- {note}" for note in notes), ""])
