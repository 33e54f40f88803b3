"""From measured seconds to medians and paired ratios."""

import statistics

from apps.benchmarking.attackers import REFERENCES
from apps.benchmarking.methods import UNIT


def spread(values):
    """Return median, minimum and maximum of numbers as a dictionary."""
    return {
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
    }


def paired_speedup(baseline_seconds, seconds):
    """Compare two contestants round by round.

    Args:
        baseline_seconds: step times of the baseline, one per round.
        seconds: step times of the other, one per round.

    Returns:
        `spread` of baseline time / time; above 1 is faster than the baseline.

    Raises:
        ValueError: if the rounds are not the same.
    """
    pairs = zip(baseline_seconds, seconds, strict=True)
    return spread([baseline / own for baseline, own in pairs])


def paired_cost(unit_seconds, seconds):
    """Compare a training method with the unit of cost round by round.

    Args:
        unit_seconds: step times of the unit, one per round.
        seconds: step times of the method, one per round.

    Returns:
        `spread` of time / unit's time; above 1 is dearer than the unit.

    Raises:
        ValueError: if the rounds are not the same.
    """
    return paired_speedup(seconds, unit_seconds)


def better_baseline(runs):
    """Return the run of eager PyTorch's faster memory format, or `None`.

    Args:
        runs: list of `Run`; only those of the whole network per exit count.
    """
    candidates = [run for run in runs if run.contestant.is_baseline]
    return min(
        candidates,
        key=lambda run: statistics.median(_seconds(run)),
        default=None,
    )


def _seconds(run):
    return [step["seconds"] for step in run.steps]


def summarise(comparison):
    """Turn a `Comparison` into a dictionary of JSON values.

    Args:
        comparison: `Comparison` that has been measured.

    Returns:
        Dictionary with `model`, `attack`, `baseline` (name, or `None`),
        `multiply_adds` of a step per image and `convolution_rate` of the
        machine (`None` if unknown), `left_out` (as in `Comparison`) and
        `contestants` (dictionaries; their `convolution_share` is the time
        that the step's multiply-adds would take at that rate, relative to
        the time it took).
    """
    baseline = better_baseline(comparison.runs)
    needed, rate = _arithmetic(comparison.runs)
    batch_size = comparison.settings.batch_size
    return {
        "model": comparison.model,
        "attack": comparison.attack,
        "baseline": None if baseline is None else baseline.contestant.name,
        "multiply_adds": needed,
        "convolution_rate": rate,
        "left_out": comparison.left_out,
        "contestants": [
            {
                **_summarise_run(run, baseline, batch_size),
                "convolution_share": needed
                and batch_size
                * needed
                / rate
                / statistics.median(_seconds(run)),
            }
            for run in comparison.runs
        ],
    }


def _arithmetic(runs):
    """Return multiply-adds per image, and the best rate anyone has shown."""
    needed = [run.multiply_adds for run in runs if run.multiply_adds]
    rates = [run.convolution_rate for run in runs if run.convolution_rate]
    return (needed[0] if needed else None), max(rates, default=None)


def _summarise_run(run, baseline, batch_size):
    seconds = _seconds(run)
    speedup = None
    if baseline is not None:
        speedup = paired_speedup(_seconds(baseline), seconds)
    return {
        "name": run.contestant.name,
        "label": run.contestant.label,
        "versions": run.build["versions"],
        "images_per_second": batch_size / statistics.median(seconds),
        "speedup": speedup,
        "import_seconds": run.build["import_seconds"],
        "peak_megabytes": _peak_megabytes(run),
        "growth": _growth(run),
        "last_loss": run.steps[-1]["result"],
        **_summarise_steps(run),
    }


def summarise_methods(comparison):
    """Turn a `MethodComparison` into a dictionary of JSON values.

    Args:
        comparison: `MethodComparison` that has been measured.

    Returns:
        Dictionary with `backend`, `versions` and `peak_megabytes` of the
        process (`None` without a method), `left_out` (as in `Turns`) and
        `methods` (dictionaries; their `cost` is `None` without the unit).
    """
    runs = comparison.runs
    unit = next((run for run in runs if run.contestant.name == UNIT), None)
    return {
        "backend": comparison.backend,
        "versions": runs[0].build["versions"] if runs else None,
        "peak_megabytes": _peak_megabytes(runs[0]) if runs else None,
        "left_out": comparison.left_out,
        "methods": [
            {
                "name": run.contestant.name,
                "last_loss": run.steps[-1]["result"],
                "cost": unit and paired_cost(_seconds(unit), _seconds(run)),
                **_summarise_steps(run),
            }
            for run in runs
        ],
    }


def summarise_exits(comparison):
    """Turn an `ExitComparison` into a dictionary of JSON values.

    Args:
        comparison: `ExitComparison` that has been measured.

    Returns:
        Dictionary with `series`, `backend`, `left_out` (as in `Turns`) and
        `networks` (dictionaries). Costs are relative to the first network
        that was measured.
    """
    runs = comparison.runs
    return {
        "series": comparison.series,
        "backend": comparison.backend,
        "left_out": comparison.left_out,
        "networks": [_summarise_network(run, runs[0]) for run in runs],
    }


def _summarise_network(run, unit):
    cost = paired_cost(_seconds(unit), _seconds(run))
    predicted = run.multiply_adds / unit.multiply_adds
    return {
        "name": run.contestant.name,
        "num_exits": run.contestant.num_exits,
        "versions": run.build["versions"],
        "multiply_adds": run.multiply_adds,
        "cost": cost,
        "predicted_cost": predicted,
        "cost_against_prediction": {
            name: value / predicted for name, value in cost.items()
        },
        "peak_megabytes": _peak_megabytes(run),
        **_summarise_steps(run),
    }


def summarise_optimisations(comparison):
    """Turn an `OptimisationComparison` into a dictionary of JSON values.

    Args:
        comparison: `OptimisationComparison` that has been measured.

    Returns:
        Dictionary with `model`, `backend`, `versions`, `left_out` (as in
        `Turns`) and `variants` (dictionaries; `without` is `None` for the
        step as it is, and `gain` the time of a variant over that one's,
        `None` if it failed).
    """
    runs = comparison.runs
    whole = next((run for run in runs if run.contestant.without is None), None)
    return {
        "model": comparison.model,
        "backend": comparison.backend,
        "versions": runs[0].build["versions"] if runs else None,
        "left_out": comparison.left_out,
        "variants": [
            {
                "without": run.contestant.without,
                "gain": whole and paired_cost(_seconds(whole), _seconds(run)),
                "peak_megabytes": _peak_megabytes(run),
                "last_loss": run.steps[-1]["result"],
                **_summarise_steps(run),
            }
            for run in runs
        ],
    }


def summarise_attacks(comparison):
    """Turn an `AttackComparison` into a dictionary of JSON values.

    Args:
        comparison: `AttackComparison` that has been measured.

    Returns:
        Dictionary with `attack`, `left_out` (as in `Turns`) and `attackers`
        (dictionaries; `speedup` by the name of a reference).
    """
    count = comparison.settings.num_examples
    references = {
        run.contestant.name: run
        for run in comparison.runs
        if run.contestant.name in REFERENCES
    }
    return {
        "attack": comparison.attack,
        "left_out": comparison.left_out,
        "attackers": [
            {
                "name": run.contestant.name,
                "label": run.contestant.label,
                "versions": run.build["versions"],
                "robust_accuracy": run.steps[-1]["result"],
                "images_per_second": count / statistics.median(_seconds(run)),
                "speedup": {
                    name: paired_speedup(_seconds(other), _seconds(run))
                    for name, other in references.items()
                },
                "peak_megabytes": _peak_megabytes(run),
                **_summarise_steps(run),
            }
            for run in comparison.runs
        ],
    }


def _summarise_steps(run):
    seconds = _seconds(run)
    return {
        "milliseconds": spread([1000 * each for each in seconds]),
        "construction_seconds": run.build["construction_seconds"],
        "first_step_seconds": run.first["seconds"],
        "step_seconds": seconds,
        "processor_seconds": [step["processor_seconds"] for step in run.steps],
        "others_share": _others_share(run),
    }


def _peak_megabytes(run):
    return run.peak_bytes / 2**20


def _others_share(run):
    """Return the share of the processor that other programs took."""
    if "others_seconds" not in run.steps[0]:
        return None
    others = sum(step["others_seconds"] for step in run.steps)
    available = sum(step["available_seconds"] for step in run.steps)
    # The system counts in ticks of about 10 ms.
    return max(0.0, others) / max(available, 0.01)


def _growth(run):
    """Compare the operations traced for a short and a long attack."""
    if len(run.growth) < 2:
        return None
    counts = [answer["operations"] for answer in run.growth.values()]
    return {
        "attack_steps": list(run.growth),
        "operations": counts,
        "seconds": [answer["seconds"] for answer in run.growth.values()],
        "grows": max(counts) > counts[0],
    }
