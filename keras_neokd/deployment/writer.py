"""Write the files of an artefact, where Keras runs on TensorFlow."""

import json
import pathlib
import shutil
import warnings

import numpy as np
from keras import ops

from keras_neokd.base import versions
from keras_neokd.base import writing
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.deployment import formats
from keras_neokd.deployment import graphs
from keras_neokd.network.multi_exit import MultiExitModel

REQUEST = "request.json"
REPRESENTATIVE = "representative.npy"
FILES = "artefact"
VERSIONS = "versions.json"


def write(model: MultiExitModel, folder: pathlib.Path) -> None:
    """Write what `request.json` in a folder asks for into a new one in it.

    Args:
        model: a `MultiExitModel`.
        folder: `pathlib.Path` with the request: a dict of `format`, `form`,
            `policy` (its config, or None), `exit` (a name, or None) and
            `precision`; beside it perhaps the representative images.

    The versions of what wrote it go into `versions.json`.

    Raises:
        RuntimeError: if a converter fails.
    """
    request = json.loads((folder / REQUEST).read_text("utf-8"))
    kind, policy = formats.BY_NAME[request["format"]], request["policy"]
    if policy is not None:
        policy = ExitPolicy.from_config(policy)
    (folder / FILES).mkdir()
    saved_model = folder / "saved_model"
    examples = _images(folder / REPRESENTATIVE)
    built = graphs.build(model, request["form"], policy, request["exit"])
    for number, graph in enumerate(built):
        target = folder / FILES / f"{graph.name}{kind.ending}"
        try:
            function = _save(graph, saved_model)
            with warnings.catch_warnings():
                # That TensorFlow's interpreter, which converters use, moves.
                warnings.simplefilter("ignore", UserWarning)
                kind.write(saved_model, target, request["precision"], examples)
        except Exception as error:
            # Converters have errors of their own.
            raise RuntimeError(
                f"{kind.name!r} has no form for the part {graph.name!r} of "
                f"model {model.name!r}: {_short(error)}"
            ) from error
        if number + 1 < len(built):
            examples = _handed_on(function, graph, examples)
    modules = versions.of_modules(
        "keras", "keras_neokd", "numpy", *kind.writers
    )
    writing.write_text(folder / VERSIONS, json.dumps(modules))


def _images(path):
    """Return the inputs of the first graph for each representative image."""
    if not path.exists():
        return []
    images = np.load(path, allow_pickle=False)
    return [{"images": image[None]} for image in images]


def _handed_on(function, graph, examples):
    """Return the inputs of the next stage, from those of a stage."""
    found = []
    for example in examples:
        tensors = [ops.convert_to_tensor(example[x.name]) for x in graph.inputs]
        outputs = function(*tensors)
        names = graphs.handed_on(len(outputs))
        values = [outputs[name] for name in names if name in outputs]
        names = graphs.taken_over(len(values))
        values = map(ops.convert_to_numpy, values)
        found.append(dict(zip(names, values, strict=True)))
    return found


def _save(graph, path):
    """Write a graph as a SavedModel in the place of the one before.

    Returns:
        The function of tensors that was written.
    """
    import tensorflow as tf

    if path.exists():
        shutil.rmtree(path)
    signature = [
        tf.TensorSpec(each.shape, each.dtype, each.name)
        for each in graph.inputs
    ]
    function = tf.function(
        graph.compute, input_signature=signature, autograph=False
    )
    tf.saved_model.save(
        tf.Module(),
        str(path),
        signatures={"serving_default": function.get_concrete_function()},
    )
    return function


def _short(error):
    """Return the end of a message, which may hold a whole graph."""
    return f"{type(error).__name__}: {str(error).strip()[-600:]}"
