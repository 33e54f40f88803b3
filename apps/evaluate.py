r"""Measure the accuracy of every exit, clean and under attack.

    python -m apps.evaluate --workdir=runs/x
    python -m apps.evaluate --model=model.keras \
        --config=configs/mnist.py:neo_kd --config.evaluate.num_examples=1000 \
        --results=out/results.json

By default PGD-50 against the average of the exits, max-average, and each
exit alone. Prints a table; writes results.json and robustness.png (beside
it). An interrupted evaluation goes on with the same command.
"""

import pathlib

from absl import flags

from apps import command

_CONFIG = command.define_config()
_WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of a finished run; --config defaults to its own."
)
_MODEL = flags.DEFINE_string("model", None, "A .keras file instead.")
_RESULTS = flags.DEFINE_string(
    "results", None, "JSON file to write; default: results.json in --workdir."
)


def main():
    """Evaluate as the flags say."""
    config = command.config_of(_CONFIG)
    command.prepare_keras()
    from apps import evaluating
    from apps.workdir import Workdir

    if _WORKDIR.value:
        run = Workdir(_WORKDIR.value)
        config = config or run.read_config()
        model = pathlib.Path(_MODEL.value or run.model)
        results = pathlib.Path(_RESULTS.value or run.results)
    elif _MODEL.value and config and _RESULTS.value:
        model, results = (
            pathlib.Path(_MODEL.value),
            pathlib.Path(_RESULTS.value),
        )
    else:
        raise ValueError(
            "Give --workdir of a run, or --model, --config and --results."
        )
    evaluating.evaluate(
        config, model, results, results.with_name("robustness.png")
    )


if __name__ == "__main__":
    command.run(main)
