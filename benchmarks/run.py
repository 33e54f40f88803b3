"""Measure a scenario and write a report.

    python -m benchmarks.run models --workdir=runs/models
    python -m benchmarks.run models --only=small_cnn,tensorflow \\
        --attack_steps=2 --rounds=3 --workdir=runs/quick
    python -m benchmarks.run models --only=small_cnn --starts=5 \\
        --against=../other_checkout --workdir=runs/against

Each variant lives in a process of its own, with the same number of threads,
and takes one step at a time in turn; ratios are of steps in the same round.
All run on the processor. Prints a table and writes benchmark.md, benchmark.json
(every single time) and the logs of all processes to the workdir. The exit
status is 1 if a variant failed or did other work than the unit.
"""

import argparse
import fractions
import inspect
import os
import sys
import textwrap
from pathlib import Path

from benchmarks import report
from benchmarks import scenario
from benchmarks.measuring import Measurement
from benchmarks.scenarios import SCENARIOS

_CORES = os.cpu_count()
if hasattr(os, "sched_getaffinity"):
    _CORES = len(os.sched_getaffinity(0))


def _names(text):
    return tuple(filter(None, text.split(",")))


def _fraction(text):
    return float(fractions.Fraction(text))


def _whole(least, most=None):
    def read(text):
        number = int(text)
        if number < least or most is not None and number > most:
            limit = "" if most is None else f" and <= {most}"
            raise argparse.ArgumentTypeError(
                f"needs an integer >= {least}{limit}, received {text}"
            )
        return number

    return read


def flags(arguments=None):
    """Return the values of flags, and the parser for further errors."""
    kinds = "\n\n".join(
        f"{name}\n{textwrap.indent(inspect.cleandoc(each.__doc__), '    ')}"
        for name, each in SCENARIOS.items()
    )
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=f"{__doc__}\n{kinds}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("scenario", choices=SCENARIOS)
    parser.add_argument(
        "--workdir", type=Path, required=True, help="new folder"
    )
    for name, read, default, text in (
        ("only", _names, (), "names of scenarios and variants to measure"),
        ("unit", _names, (), "variants whose fastest is the unit of time"),
        ("against", Path, None, "checkout whose variants are the unit"),
        ("rounds", _whole(1), 10, "timed steps"),
        ("warmup", _whole(0), 2, "untimed steps after the first"),
        ("starts", _whole(1), 1, "processes whose first step is timed"),
        ("threads", _whole(1, _CORES), _CORES, "threads of each process"),
        ("batch_size", _whole(1), None, "images at a time"),
        ("attack_steps", _whole(1), None, "steps of the attack"),
        ("epsilon", _fraction, 0.3, "L-infinity radius of evaluations"),
        ("epsilon_l2", _fraction, 2.0, "L2 radius of evaluations"),
        ("num_queries", _whole(1), None, "of Square, also in AutoAttack"),
        ("exit", str, "exit_1", "exit that `parity` attacks"),
        ("model", Path, None, "file; SmallCNN where tools attack it, too"),
        ("images", Path, None, ".npz file with `images` and `labels`"),
    ):
        parser.add_argument(f"--{name}", type=read, default=default, help=text)
    return parser.parse_args(arguments), parser


def main(arguments=None):
    """Measure as the flags say; return the exit status."""
    options, parser = flags(arguments)
    logs = options.workdir / "logs"
    try:
        rows = SCENARIOS[options.scenario](options)
        rows = scenario.chosen(rows, options.only, options.unit)
        if options.against is not None:
            rows = scenario.against(rows, options.against)
        logs.mkdir(parents=True, exist_ok=True)
        if (options.workdir / "benchmark.json").exists():
            raise ValueError(
                f"{options.workdir} holds results of an earlier benchmark. "
                "Give a new folder, or remove that one."
            )
    except (OSError, ValueError) as error:
        parser.error(str(error))
    record = report.new_record(options)
    for each in rows:
        print(each.name, flush=True)
        measurement = Measurement(each, options, logs).measure()
        record["rows"] += report.rows(measurement)
        record["left_out"] += measurement.left_out
        # After every scenario: an interrupted run keeps the others.
        report.write(record, options.workdir)
    print(report.markdown(record))
    print(f"Results are in {options.workdir}.")
    return 1 if report.failed(record) else 0


if __name__ == "__main__":
    sys.exit(main())
