"""Measure what each optimisation of the training step brings.

    python -m apps.benchmark_optimisations \\
        --workdir=runs/benchmark_optimisations
    python -m apps.benchmark_optimisations --models=small_cnn \\
        --backends=jax --optimisations=merged --steps=5 --workdir=runs/quick

Prints a table and writes benchmark.json (every single time), benchmark.md,
benchmark.png and the logs of all processes to the workdir.

The step of NEO-KD with the max-average attack is measured as it is and with
the plain way in the place of one optimisation, each in a process of its own.
They take one step at a time in turn; ratios are of steps in the same round.
"""

from absl import app
from absl import flags

from apps.benchmarking import optimisation_report
from apps.benchmarking import optimisation_turns
from apps.benchmarking import program
from apps.benchmarking.contestants import BACKENDS
from apps.benchmarking.contestants import WORKLOADS
from apps.benchmarking.optimisations import OPTIMISATIONS
from apps.benchmarking.optimisations import OptimisationSettings

_LISTS = {
    "models": (OptimisationSettings.models, WORKLOADS, "Networks to train."),
    "backends": (tuple(BACKENDS), BACKENDS, "Backends."),
    "optimisations": (
        tuple(OPTIMISATIONS),
        OPTIMISATIONS,
        "Optimisations to take out, one at a time; a backend or a network "
        "that one is not about goes without.",
    ),
}
_FLAGS = {
    name: flags.DEFINE_list(
        name,
        list(default),
        f"Comma-separated. {text} Known: {', '.join(known)}.",
    )
    for name, (default, known, text) in _LISTS.items()
}
_FLAGS |= program.define_flags()
_WORKDIR = program.define_workdir()


def main(arguments):
    """Run the comparison as the flags say; 1 if a contestant failed."""
    return program.run_app(
        OptimisationSettings,
        _FLAGS,
        _WORKDIR.value,
        optimisation_turns.run,
        optimisation_report,
        arguments,
    )


if __name__ == "__main__":
    app.run(main)
