"""Measure a scenario and write a report.

    python -m benchmarks.run models --workdir=runs/models
    python -m benchmarks.run models --only=small_cnn,tensorflow \\
        --attack_steps=2 --rounds=3 --workdir=runs/quick
    python -m benchmarks.run models --only=small_cnn --starts=5 \\
        --against=../other_checkout --workdir=runs/against

Each variant lives in a process of its own, with the same number of threads,
and takes one step at a time in turn; ratios are of steps in the same round.
All run on the processor. `--against` times every variant of keras_neokd from
this checkout beside the same one from another. Prints a table and writes
benchmark.md, benchmark.json (every single time) and the logs of all processes
to the workdir. The exit status is 1 if a variant failed or did other work than
the unit.
"""

import argparse
import dataclasses
import fractions
import inspect
import sys
import textwrap
from pathlib import Path

from benchmarks import report
from benchmarks.measuring import Measurement
from benchmarks.measuring import Plan
from benchmarks.scenario import against
from benchmarks.scenario import chosen
from benchmarks.scenarios import SCENARIOS
from benchmarks.scenarios import Options


def _fraction(text):
    return float(fractions.Fraction(text))


def _names(text):
    return tuple(filter(None, text.split(",")))


def _parser():
    kinds = "\n\n".join(
        f"{name}\n{textwrap.indent(inspect.cleandoc(each.__doc__), '    ')}"
        for name, each in SCENARIOS.items()
    )
    settings = "\n\n".join(
        inspect.cleandoc(each.__doc__).replace("Attributes:", "Options:")
        for each in (Plan, Options)
    )
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=f"{__doc__}\n{kinds}\n\n{settings}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("scenario", choices=SCENARIOS)
    for name, read, default, text in (
        ("workdir", Path, None, "new folder for the results"),
        ("only", _names, (), "names of scenarios and variants to measure"),
        ("unit", _names, (), "variants whose fastest is the unit of time"),
        ("against", Path, None, "checkout to measure beside this one"),
    ):
        parser.add_argument(
            f"--{name}",
            type=read,
            default=default,
            help=text,
            required=name == "workdir",
        )
    for each in dataclasses.fields(Plan) + dataclasses.fields(Options):
        read = _fraction if each.type is float else each.type
        parser.add_argument(f"--{each.name}", type=read, default=each.default)
    return parser


def _from(settings_class, flags):
    names = [each.name for each in dataclasses.fields(settings_class)]
    return settings_class(**{name: getattr(flags, name) for name in names})


def _scenarios(flags):
    """Return the scenarios that the flags describe."""
    found = chosen(SCENARIOS[flags.scenario](_from(Options, flags)), flags.only)
    if flags.against is not None:
        found = against(found, flags.against)
    if flags.unit:
        found = [dataclasses.replace(each, unit=flags.unit) for each in found]
        known = {each.name for s in found for each in s.variants}
        if not known.issuperset(flags.unit):
            raise ValueError(
                f"`unit` needs names out of {', '.join(sorted(known))}; "
                f"received {', '.join(flags.unit)}."
            )
    return found


def _make_workdir(folder):
    folder.mkdir(parents=True, exist_ok=True)
    if (folder / "benchmark.json").exists():
        raise ValueError(
            f"{folder} holds results of an earlier benchmark. Give a new "
            "folder, or remove that one."
        )
    (folder / "logs").mkdir(exist_ok=True)


def main(arguments=None):
    """Measure as the flags say; return the exit status."""
    parser = _parser()
    flags = parser.parse_args(arguments)
    try:
        plan = _from(Plan, flags)
        scenarios = _scenarios(flags)
        _make_workdir(flags.workdir)
    except (OSError, ValueError) as error:
        parser.error(str(error))
    record = {
        "schema_version": 2,
        "scenario": flags.scenario,
        "options": dataclasses.asdict(_from(Options, flags)),
        "plan": dataclasses.asdict(plan),
        "environment": report.environment(plan.threads),
        "rows": [],
        "left_out": [],
    }
    for scenario in scenarios:
        print(scenario.name, flush=True)
        measurement = Measurement(
            scenario,
            plan,
            flags.workdir / "logs",
            lambda text: print(text, flush=True),
        ).measure()
        record["rows"] += report.rows(measurement)
        record["left_out"] += measurement.left_out
        # After every scenario: an interrupted run keeps the others.
        report.write(record, flags.workdir)
    print(report.markdown(record))
    print(f"Results are in {flags.workdir}.")
    return 1 if report.failed(record) else 0


if __name__ == "__main__":
    sys.exit(main())
