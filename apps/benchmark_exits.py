"""Measure how the cost of a NEO-KD step grows with the number of exits.

    python -m apps.benchmark_exits --workdir=runs/benchmark_exits
    python -m apps.benchmark_exits --backends=tensorflow --series=many \\
        --steps=5 --workdir=runs/quick

Prints a table and writes benchmark.json (every single time), benchmark.md,
benchmark.png and the logs of all processes to the workdir.

The max-average attack runs each exit alone, with the part of the network that
it needs. So the cost is known beforehand: the multiply-adds of the passes.
The table sets what was measured beside it. Series `paper` has 3, 5 and 7
exits as in the paper's networks for CIFAR, `many` has 5, 10 and 20 exits of a
narrow network. The networks of a series take one step at a time in turn.
"""

from absl import app
from absl import flags

from apps.benchmarking import exit_report
from apps.benchmarking import exits
from apps.benchmarking import program
from apps.benchmarking.contestants import BACKENDS
from apps.benchmarking.exits import SERIES
from apps.benchmarking.exits import ExitSettings

_FLAGS = {
    "series": flags.DEFINE_list(
        "series",
        list(SERIES),
        f"Comma-separated series of networks. Known: {', '.join(SERIES)}.",
    ),
    "backends": flags.DEFINE_list(
        "backends",
        list(BACKENDS),
        f"Comma-separated backends. Known: {', '.join(BACKENDS)}.",
    ),
}
_FLAGS |= program.define_flags(("steps", "warmup", "threads"))
_WORKDIR = program.define_workdir()


def main(arguments):
    """Run the comparison as the flags say; 1 if a network failed."""
    return program.run_app(
        ExitSettings, _FLAGS, _WORKDIR.value, exits.run, exit_report, arguments
    )


if __name__ == "__main__":
    app.run(main)
