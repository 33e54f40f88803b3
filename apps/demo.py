"""Train, attack, export and compare in a few minutes, without a download.

    python -m apps.demo --workdir=runs/demo

Trains a small network on the digits of scikit-learn with NEO-KD and with
plain adversarial training, attacks both, exports the first, and prints one
table. Each step is what `apps.train`, `apps.evaluate` and `apps.export` do
with `configs/digits.py`; the same command goes on where it was interrupted.
"""

import importlib.util
import pathlib
import time

from absl import flags

from . import command
from . import config_files

_WORKDIR = flags.DEFINE_string("workdir", "runs/demo", "Folder to write.")
_METHODS = ("neo_kd", "adversarial_training")


def demonstrate(configs, folder):
    """Train, evaluate and compare; export the first model.

    Args:
        configs: dict from a title to a whole config; the data are the same.
        folder: `pathlib.Path` to write to, one folder per title.
    """
    from . import evaluating
    from . import plots
    from . import tables
    from . import training
    from .reporting import layout

    start = time.monotonic()
    runs, records = {}, {}
    for title, config in configs.items():
        runs[title] = training.train(config, folder / title)
        records[title] = evaluating.evaluate(
            config,
            runs[title].model,
            runs[title].results,
            runs[title].robustness,
        )
    curves = folder / "learning_curves.png"
    names = [each["name"] for each in next(iter(records.values()))["exits"]]
    plots.learning_curves(
        {title: (run.read_history(), names) for title, run in runs.items()},
        curves,
    )
    comparison = folder / "robustness.png"
    plots.robustness(records, comparison)
    saved_model = _export(next(iter(runs.values())))
    print()
    tables.show(layout.overview(records))
    print(f"Learning curves:  {curves}")
    print(f"Robustness:       {comparison}")
    print(f"SavedModel:       {saved_model}")
    print(f"Models, records:  {', '.join(str(r.path) for r in runs.values())}")
    print(f"Wall time:        {time.monotonic() - start:.0f} s")


def _export(run):
    from . import export

    if importlib.util.find_spec("tensorflow") is None:
        return "not written, because TensorFlow is not installed"
    export.export(run.model, run.saved_model)
    return run.saved_model


def main():
    """Run the demonstration."""
    command.prepare_keras()
    demonstrate(
        {method: config_files.load(f"digits:{method}") for method in _METHODS},
        pathlib.Path(_WORKDIR.value),
    )


if __name__ == "__main__":
    command.run(main)
