"""Measure one NEO-KD training step beside eager PyTorch.

    python -m apps.benchmark --workdir=runs/benchmark
    python -m apps.benchmark --models=small_cnn --attacks=max_average \\
        --backends=tensorflow --baselines=contiguous --steps=5 \\
        --nocheck_growth --workdir=runs/quick

Prints a table and writes benchmark.json (every single time), benchmark.md,
benchmark.png and the logs of all processes to the workdir.

Contestants are keras_neokd on each backend and `apps.torch_baseline`: the
same step in eager PyTorch as triple-wins does it, in both memory formats, and
in a variant that crafts for an exit with only the layers it needs. Each lives
in a process of its own, with the same number of threads, and takes one step
at a time in turn; ratios are of steps in the same round. All run on the
processor, on random images that are already in memory.
"""

import functools

from absl import app
from absl import flags

from apps.benchmarking import program
from apps.benchmarking import report
from apps.benchmarking import summary
from apps.benchmarking.contestants import ATTACKS
from apps.benchmarking.contestants import BACKENDS
from apps.benchmarking.contestants import BASELINES
from apps.benchmarking.contestants import WORKLOADS
from apps.benchmarking.contestants import Settings
from apps.benchmarking.rounds import Comparison

_LISTS = {
    "models": (WORKLOADS, "Networks to train."),
    "attacks": (ATTACKS, "Attacks that make the training examples."),
    "backends": (BACKENDS, "Backends of keras_neokd; empty for none."),
    "baselines": (
        BASELINES,
        "Variants of eager PyTorch; empty for none. Ratios refer to the "
        "faster of contiguous and channels_last. The truncated ones take part "
        "in max_average only: the average needs the whole network anyway.",
    ),
}
_FLAGS = {
    name: flags.DEFINE_list(
        name, list(known), f"Comma-separated. {text} Known: {', '.join(known)}."
    )
    for name, (known, text) in _LISTS.items()
}
_FLAGS |= program.define_flags() | {
    "check_growth": flags.DEFINE_boolean(
        "check_growth",
        True,
        "Also count the operations that each backend traces for attacks of 2 "
        "and of 20 steps: the numbers should be equal.",
    ),
}
_WORKDIR = program.define_workdir()


def run(settings, workdir, console):
    """Measure and write the record.

    Args:
        settings: `Settings`.
        workdir: existing folder, a `Path`.
        console: `program.Console` for progress.

    Returns:
        The record, a dictionary.
    """
    comparisons = {
        f"{model}, {attack}": functools.partial(Comparison, model, attack)
        for model in settings.models
        for attack in settings.attacks
    }
    return program.measure(
        settings, workdir, console, comparisons, summary.summarise
    )


def main(arguments):
    """Run the benchmark as the flags say; 1 if a contestant failed."""
    return program.run_app(
        Settings, _FLAGS, _WORKDIR.value, run, report, arguments
    )


if __name__ == "__main__":
    app.run(main)
