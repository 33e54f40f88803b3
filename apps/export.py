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


def export(model_path, output):
    """Write, reload and compare a SavedModel.

    Args:
        model_path: `pathlib.Path` of the `.keras` file.
        output: `pathlib.Path` of the folder to write.

    Raises:
        ImportError: if TensorFlow is not installed.
        OSError: if a file is missing or cannot be written.
        RuntimeError: if the SavedModel gives other numbers.
        ValueError: if `output` holds something else, or the model's file is
            none or not safe to load.
    """
    import keras_neokd

    from . import workdir

    if not model_path.exists():
        raise FileNotFoundError(
            f"There is no model at {model_path}: train it first, or finish "
            "training."
        )
    workdir.check_writable(output.parent)
    model = keras_neokd.load(model_path)
    differences = keras_neokd.export_saved_model(model, output)
    print(
        f"SavedModel in {output}, reloaded and compared with {model_path} on "
        "random images. Signatures, and the largest difference of a logit:"
    )
    for name, difference in differences.items():
        print(f"  {name}: {difference:.1e}")


def main():
    """Export as the flags say."""
    command.prepare_keras()
    from .workdir import Workdir

    chosen = flags.FLAGS
    if chosen.workdir:
        run = Workdir(chosen.workdir)
        model = pathlib.Path(chosen.model or run.model)
        output = pathlib.Path(chosen.output or run.saved_model)
    elif chosen.model and chosen.output:
        model, output = pathlib.Path(chosen.model), pathlib.Path(chosen.output)
    else:
        raise ValueError("Give --workdir of a run, or --model and --output.")
    export(model, output)


if __name__ == "__main__":
    flags.DEFINE_string("workdir", None, "Folder of a finished run.")
    flags.DEFINE_string("model", None, "A .keras file instead.")
    flags.DEFINE_string(
        "output", None, "Folder to write; default: saved_model in --workdir."
    )
    command.run(main)
