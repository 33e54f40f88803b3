"""Start from the weights of a file: a pre-trained student.

Keras finds a file's arrays by kind and order of the layers, and does not mind
arrays that are left over: the first half of a deeper network would load
without a word. So the shapes of all arrays are compared first.
"""

import collections
import io
import pathlib
import zipfile

import h5py

_ENDINGS = (".weights.h5", ".keras")
# Names of all layers of an exit's head begin so, in every model.
_HEAD = "exit_"


def load(model, path):
    """Load weights into a model of the same architecture.

    Args:
        model: a built model.
        path: `.weights.h5` or `.keras` file, as Keras writes them.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such file, or of another architecture.
    """
    path = _checked_path(path)
    stored, wanted = _stored_shapes(path), collections.Counter(_shapes(model))
    if stored != wanted:
        raise ValueError(
            f"The weights in {path} are not those of {_described(model)}. "
            f"Shapes only in the file: {_listed(stored - wanted)}; only in "
            f"the model: {_listed(wanted - stored)}. Set model.name, "
            "model.constructor and model.options as they were when the file "
            "was written, and model.weights_of where only the number of "
            "classes or the exits differ."
        )
    model.load_weights(path)


def load_from(source, model, path, keep_heads):
    """Load the weights of another model, as far as the two are alike.

    Args:
        source: model of the file's architecture; the weights go through it.
        model: the model that gets them, with layers of the same names.
        path: as in `load`.
        keep_heads: whether heads take the layers that fit; otherwise they
            all start fresh.

    Returns:
        A list with the names of the layers that start fresh: all of them
        belong to heads.

    Raises:
        FileNotFoundError, ValueError: as `load`, or if the models differ in
            more than their heads.
    """
    load(source, path)
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
            f"`model.weights` needs a file that ends in {_ENDINGS[0]} or "
            f"{_ENDINGS[1]}, received {str(path)!r}."
        )
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file of weights {str(path)!r}: correct "
            "`model.weights`, or leave it out to start from random weights."
        )
    return path


def _stored_shapes(path):
    """Count the shapes of a file's arrays of layers."""
    shapes = collections.Counter()

    def visit(name, item):
        # The state of random generators is no weight.
        is_weight = name.startswith("layers/") and "seed_generator" not in name
        if is_weight and isinstance(item, h5py.Dataset):
            shapes[item.shape] += 1

    try:
        with h5py.File(_hdf5_of(path), "r") as file:
            file.visititems(visit)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ValueError(
            f"{path} is not a file of weights as Keras 3 writes them, or it "
            f"is damaged: {error}"
        ) from error
    return shapes


def _hdf5_of(path):
    if path.suffix == ".h5":
        return path
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read("model.weights.h5"))


def _shapes(layer):
    return [tuple(weight.shape) for weight in layer.weights]


def _listed(shapes):
    """Name a few shapes."""
    names = [str(shape) for shape in sorted(shapes)]
    return ", ".join(names[:4]) + (", ..." if names[4:] else "") or "none"


def _described(model):
    return (
        f"model {model.name!r} ({model.num_exits} exits, "
        f"{model.num_classes} classes)"
    )
