r"""Measure the accuracy of every exit, clean and under attack.

    python -m apps.evaluate --workdir=runs/x
    python -m apps.evaluate --workdir=runs/x \
        --config.evaluate.epsilon=0.1 --results=runs/x/epsilon_0.1.json
    python -m apps.evaluate --model=model.keras \
        --config=configs/mnist.py:neo_kd --config.evaluate.num_examples=1000 \
        --results=out/results.json

    python -m apps.evaluate --workdir=runs/x \
        --config.evaluate.diagnostics="('local_linearity','smoothing')"

    python -m apps.evaluate --workdir=runs/x --full --report=runs/x/report

By default PGD-50 against the average of the exits, max-average, and each
exit alone; with --full every attack and every protocol. Prints a table;
writes results.json and robustness.png (beside it), and what `apps.report`
makes of the results to --report. An interrupted evaluation goes on with the
same command; more attacks, protocols and diagnostics (docs/diagnostics.md) may
be asked for later.
"""

import pathlib

from absl import flags

from . import command
from . import config_files

# Its keys can be set without a file, for a run that has a config.
_CONFIG = command.define_config(default="default")
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of a finished run; its config is used."
)
_MODEL = flags.DEFINE_string("model", None, "A .keras file instead.")
_RESULTS = flags.DEFINE_string(
    "results", None, "JSON file to write; default: results.json in --workdir."
)
_FULL = flags.DEFINE_boolean(
    "full",
    False,
    "Every attack and every protocol that the run has everything for, "
    "whatever the config says; see docs/evaluation.md.",
)
_REPORT = flags.DEFINE_string(
    "report", None, "Folder for tables, figures and a page of the results."
)


def main():
    """Evaluate as the flags say."""
    config = _CONFIG.value
    from . import distributing
    from . import evaluating
    from . import run_config
    from .reporting import writing
    from .workdir import Workdir

    check_data = None
    if _WORKDIR.value:
        run = Workdir(_WORKDIR.value)
        config = _config_of_run(run)
        if not _are_other_data(config.data, run_config.read(run).data):
            check_data = run.check_data
        model = pathlib.Path(_MODEL.value or run.model)
        results = pathlib.Path(_RESULTS.value or run.results)
    elif _MODEL.value and _CONFIG.is_given and _RESULTS.value:
        model = pathlib.Path(_MODEL.value)
        results = pathlib.Path(_RESULTS.value)
    else:
        raise ValueError(
            "Give --workdir of a run, or --model, --config and --results."
        )
    with distributing.scope(config, max_processes=1):
        record = evaluating.evaluate(
            config,
            model,
            results,
            results.with_name("robustness.png"),
            is_full=_FULL.value,
            check_data=check_data,
        )
    if _REPORT.value:
        title = f"{record['method']} on {record['data']['name']}"
        written = writing.write([results], pathlib.Path(_REPORT.value), title)
        print(f"Wrote {', '.join(str(path) for path in written)}.")


def _are_other_data(section, trained):
    """Return whether the user means other images than those of training.

    A known data set in another folder is the same one, and its validation
    images must be those that were not trained on.
    """
    from . import data_facts

    is_moved = section.dir != trained.dir
    return section.name != trained.name or (
        is_moved and data_facts.place_matters(section.name)
    )


# Validation images set thresholds: those of the run, never ones it has learned.
_OF_TRAINING = (
    "model.",
    "method.",
    "optimizer.",
    "train.",
    "data.validation_size",
    "data.num_train",
)


def _config_of_run(run):
    """Return the run's config, with the changes of the command line."""
    if _CONFIG.is_given:
        raise ValueError(
            "With --workdir the config is that of the run: leave "
            "--config=FILE out. --config.KEY=VALUE still works."
        )
    from . import run_config

    config = run_config.read(run)
    defaults = config_files.load("default")
    with config.unlocked():
        # What it was trained on need not be there now.
        config.distribution = defaults.distribution
    for key, value in _CONFIG.changes.items():
        if key.startswith(_OF_TRAINING):
            raise ValueError(
                f"--config.{key} says how a model is trained, and the one in "
                f"{run.path} already is. Leave it out."
            )
        config.update_from_flattened_dict({key: value})
    return config


if __name__ == "__main__":
    command.run(main)
