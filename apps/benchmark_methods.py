"""Measure what a training step of each method costs beside one of Eq. 4.

    python -m apps.benchmark_methods --workdir=runs/benchmark_methods
    python -m apps.benchmark_methods --methods=neo_kd,kdiga \\
        --backends=tensorflow --steps=5 --workdir=runs/quick

Prints two tables and writes benchmark.json (every single time), benchmark.md
and the logs of all processes to the workdir.

Methods are named as the variants of configs/methods.py, with their default
settings, and `kdiga_each` is `kdiga` with one aligned gradient per exit. On
each backend they live in one process and take one step at a time in turn;
the cost is the ratio to the step of plain adversarial training (Eq. 4) in the
same round. All train the same network on the same random images, on the
processor. KDIGA's teacher is an untrained network of the same architecture:
the time of a step does not depend on what a network has learned.
"""

import functools

from absl import app
from absl import flags

from apps.benchmarking import method_report
from apps.benchmarking import program
from apps.benchmarking import summary
from apps.benchmarking.contestants import ATTACKS
from apps.benchmarking.contestants import BACKENDS
from apps.benchmarking.contestants import WORKLOADS
from apps.benchmarking.methods import METHODS
from apps.benchmarking.methods import UNIT
from apps.benchmarking.methods import MethodSettings
from apps.benchmarking.rounds import MethodComparison

_FLAGS = {
    "methods": flags.DEFINE_list(
        "methods",
        list(METHODS),
        f"Comma-separated training methods; {UNIT}, the unit, always takes "
        f"part. Known: {', '.join(METHODS)}.",
    ),
    "backends": flags.DEFINE_list(
        "backends",
        list(BACKENDS),
        f"Comma-separated backends. Known: {', '.join(BACKENDS)}.",
    ),
    "model": flags.DEFINE_string(
        "model", "small_cnn", f"Network to train: {' or '.join(WORKLOADS)}."
    ),
    "attack": flags.DEFINE_string(
        "attack",
        "average",
        "Attack that makes the training examples, of the methods that have "
        f"any: {' or '.join(ATTACKS)}.",
    ),
    "num_examples": flags.DEFINE_integer(
        "num_examples",
        10_000,
        "Size of the data set for TEAT, which keeps predictions of all of it.",
    ),
}
_FLAGS |= program.define_flags()
_WORKDIR = program.define_workdir()


def run(settings, workdir, console):
    """Measure and write the record.

    Args:
        settings: `MethodSettings`.
        workdir: existing folder, a `Path`.
        console: `program.Console` for progress.

    Returns:
        The record, a dictionary.
    """
    comparisons = {
        backend: functools.partial(MethodComparison, backend)
        for backend in settings.backends
    }
    return program.measure(
        settings,
        workdir,
        console,
        comparisons,
        summary.summarise_methods,
        unit=UNIT,
        teacher=f"an untrained network of the same kind, {settings.model}",
    )


def main(arguments):
    """Run the comparison as the flags say; 1 if a method failed."""
    return program.run_app(
        MethodSettings, _FLAGS, _WORKDIR.value, run, method_report, arguments
    )


if __name__ == "__main__":
    app.run(main)
