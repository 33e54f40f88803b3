"""Export a model as a TensorFlow SavedModel and check it.

    python -m apps.export --workdir=runs/x
    python -m apps.export --model=model.keras --output=saved_model

Signatures: `serving_default` and `serve` with all exits by name, and one per
exit that computes only that exit. Works from every backend where TensorFlow
is installed; the written SavedModel is reloaded and compared first.
"""

import pathlib

from absl import flags

from . import command

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a finished run.")
_MODEL = flags.DEFINE_string("model", None, "A .keras file instead.")
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder to write; default: saved_model in --workdir."
)


def main():
    """Export as the flags say."""
    command.prepare_keras()
    from . import exporting
    from .workdir import Workdir

    if _WORKDIR.value:
        run = Workdir(_WORKDIR.value)
        model = pathlib.Path(_MODEL.value or run.model)
        output = pathlib.Path(_OUTPUT.value or run.saved_model)
    elif _MODEL.value and _OUTPUT.value:
        model, output = pathlib.Path(_MODEL.value), pathlib.Path(_OUTPUT.value)
    else:
        raise ValueError("Give --workdir of a run, or --model and --output.")
    exporting.export(model, output)


if __name__ == "__main__":
    command.run(main)
