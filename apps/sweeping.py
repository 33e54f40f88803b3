"""Do the runs of a sweep one after the other, and put them in one table."""

import pathlib
import signal
import statistics
import subprocess
import sys

from keras_neokd.base import writing
from keras_neokd.training.callbacks import STOPPED_STATUS

from . import attacking
from . import config_files
from . import ending
from . import tables
from . import workdir
from .reporting import grouping
from .reporting import records

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


def sweep(sweep_file, path, only=(), modules=()):
    """Train and evaluate all runs of a sweep.

    Args:
        sweep_file: name or path, see `read_sweep`.
        path: folder of the sweep; each run has a folder in it.
        only: beginnings of the names of the runs to do; empty for all.
        modules: names or paths of modules that every run imports; as of
            `--import`.

    Returns:
        List of rows, one dict per finished run of the sweep, also of those
        that `only` leaves out.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no sweep, or no run has such a name.
        RuntimeError: if runs failed; the others are done all the same.
    """
    path = pathlib.Path(path).expanduser()
    runs, evaluations = read_sweep(sweep_file)
    imports = [f"--import={each}" for each in modules]
    chosen = [name for name in runs if not only or name.startswith(tuple(only))]
    if not chosen:
        raise ValueError(
            f"No run of {sweep_file} begins with one of {list(only)}: "
            f"expected the beginning of one of {', '.join(runs)}."
        )
    workdir.check_writable(path)
    failed, rows = [], []
    for number, name in enumerate(chosen, start=1):
        print(f"--- run {number} of {len(chosen)}: {name}", flush=True)
        flags = [flag.replace("{workdir}", str(path)) for flag in runs[name]]
        run = workdir.Workdir(path / name)
        if not _train_and_evaluate(run, flags, evaluations, imports):
            failed.append(name)
            continue
        finished = [each for each in runs if each not in failed]
        rows = _rows(path, finished, evaluations)
        workdir.write_json(path / "summary.json", rows)
        summary = _summary(path, rows, evaluations)
        writing.write_text(path / "summary.md", summary)
    print(_summary(path, rows, evaluations))
    if failed:
        raise RuntimeError(
            f"{len(failed)} of {len(chosen)} runs failed: "
            f"{', '.join(failed)}. What they said is above; the same command "
            "tries them again."
        )
    return rows


def _rows(path, names, evaluations):
    """Return the rows of those runs that have all results."""
    rows = []
    for name in names:
        run = workdir.Workdir(path / name)
        if all(_results(run, each).exists() for each in evaluations):
            try:
                rows.append({"run": name, **summarize(run, evaluations)})
            except ValueError as error:
                # The others need not be done again.
                print(f"WARNING: The summary leaves out {name}: {error}")
    return rows


def _summary(path, rows, evaluations):
    """Return the rows as a Markdown table, with any `attacking.note`."""
    found = [
        records.read_file(_results(workdir.Workdir(path / row["run"]), each))
        for row in rows
        for each in evaluations
    ]
    entries = [entry for record in found for entry in record["attacks"]]
    most = max((len(record["exits"]) for record in found), default=0)
    return tables.markdown(rows, attacking.note(entries, most))


def read_sweep(sweep_file):
    """Return the flags of a sweep's runs and of its evaluations, by name.

    Args:
        sweep_file: name or path of a Python file, see `apps.sweep`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no sweep.
    """
    found = config_files.find(sweep_file, "--sweep", ".sweeps")
    if not hasattr(found, "get_runs"):
        raise ValueError(
            f"--sweep={sweep_file} has no function get_runs(), see "
            "apps/sweep.py."
        )
    get_evaluations = getattr(found, "get_evaluations", lambda: {"": []})
    return found.get_runs(), get_evaluations()


def _train_and_evaluate(run, flags, evaluations, imports):
    commands = [["train", *flags]]
    commands += [
        ["evaluate", f"--results={_results(run, name)}", *changes]
        for name, changes in evaluations.items()
    ]
    for app, *arguments in commands:
        program = [sys.executable, "-m", f"{__package__}.{app}"]
        given = [f"--workdir={run.path}", *imports, *arguments]
        status = _run([*program, *given])
        if status == STOPPED_STATUS:
            sys.exit(status)  # Who stopped the run wants the sweep to stop.
        if status:
            return False
    return True


def _run(command):
    """Run a program, pass SIGTERM and SIGINT on, and end it with this process.

    Ctrl-C reaches both at once, and twice means without delay: so the program
    always gets a SIGTERM from here.

    Returns:
        Its exit status; `STOPPED_STATUS` where this program was told to stop.
    """
    told = []

    def pass_on(number, frame):
        del frame
        told.append(number)
        if process is not None:
            process.terminate()

    process = None
    earlier = {each: signal.signal(each, pass_on) for each in _SIGNALS}
    try:
        with subprocess.Popen(command, **ending.options()) as process:
            if told:  # Before there was anything to pass it on to.
                process.terminate()
            status = process.wait()
    finally:
        for each, handler in earlier.items():
            signal.signal(each, handler)
    return STOPPED_STATUS if told else status


def _results(run, evaluation):
    if not evaluation:
        return run.results
    return run.path / evaluation / run.results.name


def summarize(run, evaluations):
    """Return the results of a finished run, a dict of plain values.

    Args:
        run: a `workdir.Workdir` with results.
        evaluations: names of the evaluations.

    Returns:
        Accuracies in %, per exit and on average, for every attack of every
        evaluation (clean images count once); loss of the first and the last
        epoch; seconds of training, and images per second without the first
        epoch, which compiles; without a history, accuracies alone.

    Raises:
        ValueError: if a record or the history is damaged.
    """
    history = run.read_history()
    row = {}
    for evaluation in evaluations:
        record = records.read_file(_results(run, evaluation))
        row["method"] = record["method"]
        for attack in record["attacks"]:
            name = attack["name"]
            if name != "clean" and evaluation:
                name = f"{name} {evaluation}"
            accuracies = grouping.accuracies(attack, 1)
            mean = sum(accuracies) / len(accuracies)
            row[name] = round(100 * mean, 2)
            row[f"{name} exits"] = "/".join(
                f"{100 * value:.1f}" for value in accuracies
            )
    if not history:
        return row  # None could be written.
    return {**row, **_training(history, run.history)}


def _training(history, path):
    """Return losses, seconds and speed of a training from its history."""
    row = {}
    try:
        for name, number in (("first", 0), ("last", -1)):
            row[f"loss of {name} epoch"] = round(history[number]["loss"], 4)
        row["training seconds"] = round(
            sum(each["seconds"] for each in history)
        )
        # The first epoch compiles.
        speed = statistics.median(
            each["images_per_second"] for each in history[1:] or history
        )
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is damaged: expected the numbers loss, seconds and "
            f"images_per_second in every row ({error}). Remove it, and the "
            "summary is made without it."
        ) from error
    return {**row, "images per second": round(speed)}
