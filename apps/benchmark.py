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

from pathlib import Path

from absl import app
from absl import flags
from rich.console import Console

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
} | {
    "steps": flags.DEFINE_integer(
        "steps", 10, "Timed training steps of every contestant, at least 1."
    ),
    "warmup": flags.DEFINE_integer(
        "warmup", 2, "Untimed training steps after the first, at least 0."
    ),
    "batch_size": flags.DEFINE_integer(
        "batch_size", 128, "Images per training step."
    ),
    "attack_steps": flags.DEFINE_integer(
        "attack_steps", 7, "PGD steps of the attack."
    ),
    "threads": flags.DEFINE_integer(
        "threads",
        0,
        "Threads of every contestant; 0 for one per available core. Where a "
        "program cannot be bound to cores (macOS), JAX takes all of them.",
    ),
    "check_growth": flags.DEFINE_boolean(
        "check_growth",
        True,
        "Also count the operations that each backend traces for attacks of 2 "
        "and of 20 steps: the numbers should be equal.",
    ),
}
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder for the results; made if missing."
)
flags.mark_flag_as_required("workdir")


def run(settings, workdir, console):
    """Measure, print the table, write the results.

    Args:
        settings: `Settings`.
        workdir: existing folder, a `Path`.
        console: rich console for progress and table.

    Returns:
        The record, a dictionary.
    """
    record = {
        "schema_version": 1,
        "settings": {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in vars(settings).items()
        },
        "environment": report.environment(settings),
        "results": [],
    }
    logs = workdir / "logs"
    logs.mkdir(exist_ok=True)
    for model in settings.models:
        for attack in settings.attacks:
            _say(console, f"{model}, {attack}")
            comparison = Comparison(
                model, attack, settings, logs, lambda text: _say(console, text)
            )
            record["results"].append(summary.summarise(comparison.measure()))
            # After every comparison: an interrupted run keeps the others.
            report.write_record(record, workdir / "benchmark.json")
    return record


def _say(console, text):
    console.print(text, highlight=False, markup=False, soft_wrap=True)


def show(record, workdir, console):
    """Print the table; write it, and a plot, beside the record.

    Args:
        record: what `run` returned.
        workdir: existing folder, a `Path`.
        console: rich console.
    """
    console.print(report.build_table(record))
    for sentence in report.notes(record):
        _say(console, sentence)
    wide = Console(width=200)
    with wide.capture() as capture:
        wide.print(report.build_table(record, markdown=True))
    text = f"{capture.get().strip()}\n"
    (workdir / "benchmark.md").write_text(text, "utf-8")
    drawn = report.plot(record, workdir / "benchmark.png")
    if not drawn:
        _say(console, "No plot: Matplotlib is not installed.")
    _say(console, f"Results are in {workdir}.")


def main(arguments):
    """Run the benchmark as the flags say; 1 if a contestant failed."""
    if len(arguments) > 1:
        raise app.UsageError(f"Not a flag: {' '.join(arguments[1:])}.")
    values = {name: flag.value for name, flag in _FLAGS.items()}
    try:
        settings = Settings(
            **{
                name: tuple(value) if name in _LISTS else value
                for name, value in values.items()
            }
        )
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    workdir = Path(_WORKDIR.value)
    try:
        workdir.mkdir(parents=True, exist_ok=True)
        (workdir / "benchmark.json").touch()
    except OSError as error:
        raise app.UsageError(
            f"--workdir needs a folder that can be written to: {error}."
        ) from error
    if (workdir / "benchmark.json").stat().st_size:
        raise app.UsageError(
            f"--workdir={workdir} holds results of an earlier benchmark. Give "
            "a new folder, or remove that one."
        )
    # The table is wide, and a file or a pipe has no width to fit it to.
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)
    record = run(settings, workdir, console)
    show(record, workdir, console)
    has_failed = any(
        each["is_error"]
        for result in record["results"]
        for each in result["left_out"]
    )
    return 1 if has_failed else 0


if __name__ == "__main__":
    app.run(main)
