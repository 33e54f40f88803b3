"""Load the weights of a file that others may have made into a model.

Keras finds a file's arrays by kind and order of the layers and ignores arrays
that are left over: the first half of a deeper network would load without a
word. So the shapes of all arrays are compared first, and, where the file tells
them, the arguments that no shape shows, such as a normalisation.
"""

import collections
import json
import pathlib

import keras

from keras_neokd.base.typing import PathLike
from keras_neokd.serving import model_files

_ENDINGS = (".weights.h5", ".keras")
# Names of all layers of an exit's head begin so, in every model.
_HEAD = "exit_"
# Arguments that may differ between a file and the model that takes its
# weights. Shapes decide about images of another size.
_FREE = {
    "name",
    "trainable",
    "initialization",
    "precision",
    "dropout",
    "input_shape",
}


def load_weights(model: keras.Model, path: PathLike) -> None:
    """Load weights into a model of the same architecture.

    Args:
        model: a built model.
        path: `.weights.h5` or `.keras` file, as Keras writes them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such file, of another architecture, or not
            safe to load.
    """
    path = _checked_path(path)
    stored, wanted = _stored_shapes(path), collections.Counter(_shapes(model))
    if stored != wanted:
        raise ValueError(
            f"The weights in {path} are not those of {_described(model)}. "
            f"Shapes only in the file: {_listed(stored - wanted)}; only in "
            f"the model: {_listed(wanted - stored)}. Build the model as it was "
            "when the file was written; `load_matching_weights` is for models "
            "of which only the number of classes or the exits differ."
        )
    if path.suffix == ".keras":
        _check_arguments(model, path)
    model.load_weights(path)


def load_matching_weights(
    source: keras.Model, model: keras.Model, path: PathLike, keep_heads: bool
) -> list[str]:
    """Load the weights of another model, as far as the two are alike.

    Args:
        source: model of the file's architecture; the weights go through it.
        model: the model that gets them, with layers of the same names.
        path: as in `load_weights`.
        keep_heads: whether heads take the layers that fit; otherwise they
            all start fresh.

    Returns:
        A list with the names of the layers that start fresh: all of them
        belong to heads.

    Raises:
        FileNotFoundError, ValueError: as `load_weights`, or if the models
            differ in more than their heads.
    """
    load_weights(source, path)
    known = {layer.name: layer for layer in source.layers}
    fresh = []
    for layer in model.layers:
        if not layer.weights:
            continue
        is_head = layer.name.startswith(_HEAD)
        other = known.get(layer.name)
        if other is not None and _shapes(other) == _shapes(layer):
            if keep_heads or not is_head:
                layer.set_weights(other.get_weights())
                continue
        if not is_head:
            raise ValueError(
                f"Layer {layer.name!r} of {_described(model)} is not in "
                f"{_described(source)}: only heads may start fresh."
            )
        fresh.append(layer.name)
    return fresh


def _checked_path(path):
    path = pathlib.Path(path).expanduser()
    if not path.name.endswith(_ENDINGS):
        raise ValueError(
            f"Weights are loaded from a file that ends in {_ENDINGS[0]} or "
            f"{_ENDINGS[1]}, received {str(path)!r}."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of weights {str(path)!r}.")
    return path


def _check_arguments(model, path):
    """Raise if the file's model was built with other arguments."""
    stored = model_files.read_config(path)
    name = keras.saving.get_registered_name(type(model))
    if stored.get("registered_name") != name:
        return  # Nothing to compare.
    ours = json.loads(json.dumps(model.get_config()))
    differences = [
        f"{key} there {json.dumps(stored['config'][key])}, here "
        f"{json.dumps(value)}"
        for key, value in ours.items()
        if key not in _FREE and stored["config"].get(key, value) != value
    ]
    if differences:
        raise ValueError(
            f"The weights in {path} are of a model with other options: "
            f"{'; '.join(differences)}. With these they would mean something "
            "else. Build the model as it was when the file was written."
        )


def _stored_shapes(path):
    """Count the shapes of a file's arrays of layers."""
    return collections.Counter(
        shape
        for name, shape in model_files.check_weights(path).items()
        # The state of random generators is no weight.
        if name.startswith("layers/") and "seed_generator" not in name
    )


def _shapes(layer):
    return [tuple(weight.shape) for weight in layer.weights]


def _listed(shapes):
    """Name a few shapes."""
    names = [str(shape) for shape in sorted(shapes)]
    return ", ".join(names[:4]) + (", ..." if names[4:] else "") or "none"


def _described(model):
    num_classes = model.outputs[0].shape[-1]
    return (
        f"model {model.name!r} ({len(model.outputs)} exits, {num_classes} "
        "classes)"
    )
