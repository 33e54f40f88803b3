"""Export of multi-exit models as TensorFlow SavedModels.

    export_saved_model(model, "saved_model")   # or model.export("saved_model")
    loaded = tf.saved_model.load("saved_model")
    loaded.signatures["serving_default"](images)   # {"exit_1": ..., ...}
    loaded.signatures["exit_1"](images)            # computes exit_1 only

A SavedModel is written by TensorFlow, under the JAX and PyTorch backends in a
second process, so it is made of ordinary TensorFlow operations and is the same
whichever backend trained the model. `keras_neokd.deploy` writes the files of
other runtimes.
"""

import importlib.util
import pathlib
from typing import Any

import keras
import numpy as np

from keras_neokd.base import writing
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import PathLike
from keras_neokd.network import multi_exit
from keras_neokd.network.multi_exit import MultiExitModel
from keras_neokd.serving import tensorflow_process

# Largest difference between exported and original logits, relative to the
# largest logit where that exceeds 1.
_TOLERANCE = 1e-4
_NUM_CHECKED_IMAGES = 4
_ALL_EXITS = ("serve", "serving_default")


def export_saved_model(
    model: MultiExitModel,
    path: PathLike,
    images: Array | None = None,
    input_signature: Any = None,
) -> dict[str, float]:
    """Write a SavedModel, reload it, and compare all its endpoints.

    The signatures `serving_default` and `serve` return all exits by name;
    one signature per exit, named like it, computes that exit only. All take
    float32 images `(batch, height, width, channels)` in [0, 1].

    Args:
        model: a `MultiExitModel`. Under JAX and PyTorch without layers of
            your own: load the `.keras` file under TensorFlow where they are
            imported, and export there.
        path: folder to write; one that holds a SavedModel is replaced.
        images: array `(n, height, width, channels)` in [0, 1] to compare
            on, a few are enough. Defaults to random images, 4 where the
            batch is free; needed where images may have any size.
        input_signature: shape that the signatures accept, as the shape of one
            `keras.InputSpec`, alone or in a list; `None` in it is free.
            Defaults to a free batch of the images that the model takes.

    Returns:
        Dict from signature names to the largest difference of its logits
        from `model.predict`.

    Raises:
        ImportError: if TensorFlow is not installed.
        TypeError: if `model` is not a `MultiExitModel`, or `input_signature`
            has no shape.
        ValueError: if `path` holds something else, an exit has the name of a
            signature of all exits, or shapes do not fit.
        RuntimeError: if the second process fails, or the reloaded SavedModel
            gives other logits; `path` is then left as it was.
    """
    path = pathlib.Path(path)
    _check(model, path)
    shape = _signature_shape(model, input_signature)
    images = _images_to_compare(images, shape)
    expected = model.predict(images, verbose=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    with writing.unfinished(path, is_folder=True) as folder:
        free = [-1 if size is None else size for size in shape]
        np.savez(folder / "request.npz", images=images, shape=free)
        tensorflow_process.call(write_and_answer, model, folder)
        with np.load(folder / "answers.npz", allow_pickle=False) as answers:
            differences = _compare(expected, answers, model)
        writing.move_folder(folder / "saved_model", path)
    return differences


def export_model(model, path, format, verbose, input_signature, options):
    """Do what `MultiExitModel.export` says; arguments and errors are its."""
    if format != "tf_saved_model":
        _check_format(model, format)
        # A model without what training needs.
        outputs = {
            name: model.exit_model(name).output for name in model.exit_names
        }
        return keras.Model(model.input, outputs, name=model.name).export(
            path,
            format=format,
            verbose=verbose,
            input_signature=input_signature,
            **options,
        )
    if options:
        raise TypeError(
            "A SavedModel is written by TensorFlow under every backend, so "
            f"`export` takes no further options for it: received "
            f"{sorted(options)}. Leave them out."
        )
    differences = export_saved_model(
        model, path, input_signature=input_signature
    )
    if verbose or verbose is None:
        print(
            f"SavedModel in {path}, reloaded: its logits differ from those of "
            f"the model by at most {max(differences.values()):.1e}."
        )
    return differences


def _check_format(model, format):
    """Refuse what Keras writes without an error and nothing can use."""
    if format == "onnx" and keras.config.backend() == "jax":
        raise ValueError(
            "Keras writes ONNX files under JAX whose convolutions and pooling "
            "ONNX Runtime and OpenVINO do not run. Load the model's .keras "
            "file with KERAS_BACKEND=tensorflow and export there."
        )
    integers = {"int8", "uint8"} & {each.dtype for each in model.variables}
    if format == "openvino" and integers:
        raise ValueError(
            "Keras writes OpenVINO files of quantized models that give other "
            f"logits: received weights of {sorted(integers)}. Export the "
            "model as it was before `quantize`."
        )


def _signature_shape(model, input_signature):
    """Return the shape of images, batch first, that signatures accept."""
    if input_signature is None:
        return (None, *model.input_shape[1:])
    specs = keras.tree.flatten(input_signature)
    if len(specs) != 1 or getattr(specs[0], "shape", None) is None:
        raise TypeError(
            "`input_signature` needs one keras.InputSpec with the shape of "
            f"the images, received {input_signature!r}."
        )
    shape, dtype = tuple(specs[0].shape), getattr(specs[0], "dtype", None)
    dtype = keras.backend.standardize_dtype(dtype or "float32")
    if dtype != "float32" or not _fits(shape, model.input_shape):
        raise ValueError(
            "`input_signature` needs float32 images that the model takes, of "
            f"shape {model.input_shape}; received {dtype} of shape {shape}."
        )
    return shape


def _images_to_compare(images, shape):
    """Return float32 images that fit `shape`, random ones for `None`."""
    if images is None:
        if None in shape[1:]:
            raise ValueError(
                "The model takes images of any size, so `images` to compare "
                f"on are needed; its input shape is {shape}. Call "
                "export_saved_model(model, path, images)."
            )
        size = (shape[0] or _NUM_CHECKED_IMAGES, *shape[1:])
        return np.random.default_rng(0).random(size, "float32")
    images = np.asarray(images, "float32")
    if not _fits(images.shape, shape) or not len(images):
        raise ValueError(
            "`images` to compare on need at least one image and the shape "
            f"{shape}, received shape {images.shape}."
        )
    return images


def _fits(shape, pattern):
    """Return whether a shape equals another where that one is not `None`."""
    return len(shape) == len(pattern) and all(
        wanted in (None, size)
        for size, wanted in zip(shape, pattern, strict=True)
    )


def _check(model, path):
    if not isinstance(model, multi_exit.MultiExitModel):
        raise TypeError(
            "`export_saved_model` needs a MultiExitModel, received "
            f"{model!r}. Convert a functional model with "
            "MultiExitModel.from_functional."
        )
    clashes = set(_ALL_EXITS) & set(model.exit_names)
    if clashes:
        raise ValueError(
            f"No exit may be called {sorted(clashes)}: these are the names "
            "of the signatures of all exits. Give `exit_names` when the "
            "model is built."
        )
    if importlib.util.find_spec("tensorflow") is None:
        raise ImportError(
            "A SavedModel is written by TensorFlow, which is not installed: "
            'run `pip install "keras-neokd[export]"`. The model itself can '
            "be kept with model.save(...) and exported elsewhere."
        )
    is_empty = path.is_dir() and not any(path.iterdir())
    is_saved_model = (path / "saved_model.pb").exists()
    if path.exists() and not is_empty and not is_saved_model:
        raise ValueError(
            f"{path} exists and is not a SavedModel, so it is not replaced. "
            "Give a folder that does not exist yet."
        )


def write_and_answer(model, folder):
    """Write a SavedModel as `request.npz` asks, and its answers to that."""
    import tensorflow as tf

    with np.load(folder / "request.npz", allow_pickle=False) as request:
        images = request["images"]
        shape = [None if size < 0 else int(size) for size in request["shape"]]
    target = str(folder / "saved_model")
    # Without `track`: endpoints bring their variables along, and tracking the
    # model as well would store every weight twice.
    archive = keras.export.ExportArchive()
    signature = [keras.InputSpec(dtype="float32", shape=shape, name="images")]

    def all_exits(images):
        return model(images, training=False)

    archive.add_endpoint("serve", all_exits, signature)
    for name in model.exit_names:
        archive.add_endpoint(name, _one_exit(model, name), signature)
    archive.write_out(target, verbose=False)

    loaded = tf.saved_model.load(target)
    answers = {
        f"{endpoint}/{name}": logits.numpy()
        for endpoint, function in loaded.signatures.items()
        for name, logits in function(tf.constant(images)).items()
    }
    np.savez(folder / "answers.npz", **answers)


def _one_exit(model, name):
    exit_model = model.exit_model(name)

    def one_exit(images):
        return {name: exit_model(images, training=False)}

    return one_exit


def _compare(expected, answers, model):
    """Return the largest difference per signature; raise if one is large."""
    names = model.exit_names
    wanted = [(name, name) for name in names]
    wanted += [(endpoint, name) for endpoint in _ALL_EXITS for name in names]
    missing = {"/".join(pair) for pair in wanted} ^ set(answers.files)
    if missing:
        raise RuntimeError(
            "The reloaded SavedModel has other signatures than written: "
            f"{sorted(missing)} differ. Nothing was exported."
        )
    differences = {}
    for endpoint, name in wanted:
        original = np.asarray(expected[name])
        difference = np.abs(answers[f"{endpoint}/{name}"] - original).max()
        allowed = _TOLERANCE * max(1.0, np.abs(original).max())
        if not difference <= allowed:
            raise RuntimeError(
                f"Signature {endpoint!r} of the reloaded SavedModel answers "
                f"other logits than the model for {name!r}: they differ by "
                f"{difference:.2g}, at most {allowed:.2g} is expected. Nothing "
                "was exported."
            )
        largest = max(differences.get(endpoint, 0.0), float(difference))
        differences[endpoint] = largest
    return differences
