"""Measure what an evaluation costs beside torchattacks and foolbox.

    python -m apps.benchmark_attacks --run=runs/x \\
        --workdir=runs/benchmark_attacks
    python -m apps.benchmark_attacks --run=runs/x --attacks=pgd \\
        --attackers=tensorflow,torchattacks --num_examples=250 \\
        --workdir=runs/quick

Prints a table and writes benchmark.json (every single time), benchmark.md and
the logs of all processes to the workdir.

Everybody attacks the last exit of the model of a run (a SmallCNN) with the
same settings, on the same test images: keras_neokd on each backend, and the
other tools on a plain PyTorch copy of the network, foolbox also on the Keras
model under TensorFlow. Each lives in a process of its own with the same number
of threads, and evaluates all images in turn; ratios are of evaluations in the
same round. The others' accuracies should be ours, but for the random starts.
docs/adapters.md says how to install the tools.
"""

import dataclasses
import functools

from absl import app
from absl import flags

from apps.benchmarking import attack_report
from apps.benchmarking import program
from apps.benchmarking import summary
from apps.benchmarking.attackers import ATTACKERS
from apps.benchmarking.attackers import ATTACKS
from apps.benchmarking.attackers import AttackSettings
from apps.benchmarking.rounds import AttackComparison
from apps.flag_values import NumberParser

_DEFAULTS = {
    field.name: field.default for field in dataclasses.fields(AttackSettings)
}
_FLAGS = {
    "run": flags.DEFINE_string("run", None, "Folder of a run of a SmallCNN."),
    "attackers": flags.DEFINE_list(
        "attackers",
        list(ATTACKERS),
        f"Comma-separated. Known: {', '.join(ATTACKERS)}.",
    ),
    "attacks": flags.DEFINE_list(
        "attacks", list(ATTACKS), f"Comma-separated. Known: {ATTACKS}."
    ),
    "epsilon": flags.DEFINE(
        NumberParser(), "epsilon", _DEFAULTS["epsilon"], "L-infinity radius."
    ),
    "step_size": flags.DEFINE(
        NumberParser(), "step_size", _DEFAULTS["step_size"], "Step of PGD."
    ),
    "num_steps": flags.DEFINE_integer(
        "num_steps", _DEFAULTS["num_steps"], "Steps of both attacks."
    ),
    "num_examples": flags.DEFINE_integer(
        "num_examples", _DEFAULTS["num_examples"], "First test images."
    ),
    "batch_size": flags.DEFINE_integer(
        "batch_size", _DEFAULTS["batch_size"], "Images at a time."
    ),
    "steps": flags.DEFINE_integer(
        "steps", _DEFAULTS["steps"], "Timed evaluations of everybody."
    ),
    "warmup": flags.DEFINE_integer(
        "warmup", _DEFAULTS["warmup"], "Untimed evaluations after the first."
    ),
    "threads": flags.DEFINE_integer(
        "threads", 0, "Threads of everybody; 0 for one per available core."
    ),
}
flags.mark_flag_as_required("run")
_WORKDIR = program.define_workdir()


def run(settings, workdir, console):
    """Measure and write the record.

    Args:
        settings: `AttackSettings`.
        workdir: existing folder, a `Path`.
        console: `program.Console` for progress.

    Returns:
        The record, a dictionary.
    """
    comparisons = {
        attack: functools.partial(AttackComparison, attack)
        for attack in settings.attacks
    }
    return program.measure(
        settings, workdir, console, comparisons, summary.summarise_attacks
    )


def main(arguments):
    """Run the comparison as the flags say; 1 if an attacker failed."""
    return program.run_app(
        AttackSettings, _FLAGS, _WORKDIR.value, run, attack_report, arguments
    )


if __name__ == "__main__":
    app.run(main)
