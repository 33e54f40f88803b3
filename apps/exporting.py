"""What `apps.export` does: write a SavedModel and say what is in it."""

from keras_neokd.serving import model_files
from keras_neokd.serving.export import export_saved_model

from . import workdir


def export(model_path, output):
    """Write, reload and compare a SavedModel.

    Args:
        model_path: the `.keras` file.
        output: folder to write.

    Raises:
        ImportError: if TensorFlow is not installed.
        OSError: if a file is missing or cannot be written.
        RuntimeError: if the SavedModel gives other numbers.
        ValueError: if `output` holds something else, or the model's file is
            none or not safe to load.
    """
    if not model_path.exists():
        raise FileNotFoundError(
            f"There is no model at {model_path}: train it first, or finish "
            "training."
        )
    workdir.check_writable(output.parent)
    model = model_files.load(model_path)
    differences = export_saved_model(model, output)
    print(
        f"SavedModel in {output}, reloaded and compared with {model_path} on "
        "random images. Signatures, and the largest difference of a logit:"
    )
    for name, difference in differences.items():
        print(f"  {name}: {difference:.1e}")
