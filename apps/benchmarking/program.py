"""What all benchmarks do around their work: flags, folder, console."""

from pathlib import Path

import rich.console
from absl import app
from absl import flags

from apps.benchmarking import report

# --help lists the flags under the program that asks for them.
flags.disclaim_key_flags()


def define_flags(
    names=("steps", "warmup", "batch_size", "attack_steps", "threads"),
):
    """Define flags of settings that several have; return a dictionary.

    Args:
        names: which of them; all by default.
    """
    return {name: _DEFINITIONS[name]() for name in names}


_DEFINITIONS = {
    "steps": lambda: flags.DEFINE_integer(
        "steps", 10, "Timed training steps of every contestant, at least 1."
    ),
    "warmup": lambda: flags.DEFINE_integer(
        "warmup", 2, "Untimed training steps after the first, at least 0."
    ),
    "batch_size": lambda: flags.DEFINE_integer(
        "batch_size", 128, "Images per training step."
    ),
    "attack_steps": lambda: flags.DEFINE_integer(
        "attack_steps", 7, "PGD steps of the attack."
    ),
    "threads": lambda: flags.DEFINE_integer(
        "threads",
        0,
        "Threads of every contestant; 0 for one per available core. Where "
        "a program cannot be bound to cores (macOS), JAX takes all of "
        "them.",
    ),
}


def define_workdir():
    """Define the flag --workdir, which has to be given; return its holder."""
    holder = flags.DEFINE_string(
        "workdir", None, "Folder for the results; made if missing."
    )
    flags.mark_flag_as_required("workdir")
    return holder


def read_settings(settings_class, holders, arguments):
    """Return the settings that the flags describe.

    Args:
        settings_class: subclass of `BaseSettings`.
        holders: the flags by name of the setting.
        arguments: what is left of the command line, its program first.

    Raises:
        app.UsageError: if a flag is wrong.
    """
    if len(arguments) > 1:
        raise app.UsageError(f"Not a flag: {' '.join(arguments[1:])}.")
    values = {name: holder.value for name, holder in holders.items()}
    try:
        return settings_class(
            **{
                name: tuple(value) if isinstance(value, list) else value
                for name, value in values.items()
            }
        )
    except ValueError as error:
        raise app.UsageError(str(error)) from error


def make_workdir(name):
    """Make the folder for the results; return its `Path`.

    Raises:
        app.UsageError: if that is not possible, or the folder has results.
    """
    workdir = Path(name)
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
    return workdir


class Console(rich.console.Console):
    """A console that is wide where a file or a pipe has no width."""

    def __init__(self):
        super().__init__()
        if not self.is_terminal:
            super().__init__(width=200)

    def say(self, text):
        """Print a line of text as it is."""
        self.print(text, highlight=False, markup=False, soft_wrap=True)


def run_app(settings_class, holders, workdir, run, module, arguments):
    """Measure and show as the flags say; 1 if a contestant failed.

    Args:
        settings_class, holders, arguments: as in `read_settings`.
        workdir: name of the folder for the results.
        run: function of settings, folder and console that returns a record.
        module: as in `show`.
    """
    settings = read_settings(settings_class, holders, arguments)
    folder = make_workdir(workdir)
    console = Console()
    record = run(settings, folder, console)
    show(record, folder, console, module)
    return exit_status(record)


def measure(settings, workdir, console, comparisons, summarise, **more):
    """Measure one comparison after the other and write the record.

    Args:
        settings: of the benchmark.
        workdir: existing folder, a `Path`.
        console: `Console` for progress.
        comparisons: dict from a title to a function of settings, folder for
            logs and `say`, that returns a `rounds.Turns`.
        summarise: function from a measured comparison to a dictionary.
        **more: further entries of the record.

    Returns:
        The record, a dictionary.
    """
    record = report.new_record(settings, **more)
    logs = workdir / "logs"
    logs.mkdir(exist_ok=True)
    for title, compare in comparisons.items():
        console.say(title)
        comparison = compare(settings, logs, console.say)
        record["results"].append(summarise(comparison.measure()))
        # After every comparison: an interrupted run keeps the others.
        report.write_record(record, workdir / "benchmark.json")
    return record


def show(record, workdir, console, module):
    """Print the tables; write them, and a plot, beside the record.

    Args:
        record: what was measured.
        workdir: existing folder, a `Path`.
        console: `Console`.
        module: its `build_tables` and `notes`, and `plot` where there is one,
            know the record.
    """
    for table in module.build_tables(record):
        console.print(table)
    for sentence in module.notes(record):
        console.say(sentence)
    tables = module.build_tables(record, markdown=True)
    report.write_tables(tables, workdir / "benchmark.md")
    if hasattr(module, "plot"):
        drawn = module.plot(record, workdir / "benchmark.png")
        if not drawn:
            console.say("No plot: Matplotlib is not installed.")
    console.say(f"Results are in {workdir}.")


def exit_status(record):
    """Return 1 if a contestant failed, else 0."""
    has_failed = any(
        each["is_error"]
        for result in record["results"]
        for each in result["left_out"]
    )
    return 1 if has_failed else 0
