"""Put exits on a classifier that was trained with one.

resnet = keras.applications.ResNet50(classifier_activation=None)
model = add_exits(
    resnet,
    at=["conv2_block3_out", "conv3_block4_out"],
    preprocessing=lambda x: keras.applications.resnet.preprocess_input(
        255 * x
    ),
)
model.compile("adam", method="clean_training")   # trains the new heads
"""

import difflib
from collections.abc import Callable
from collections.abc import Sequence

import keras

from keras_neokd.base import checks
from keras_neokd.base.typing import Tensor
from keras_neokd.network.graph import Graph
from keras_neokd.network.graph import fill
from keras_neokd.network.graph import named_results
from keras_neokd.network.multi_exit import MultiExitModel

# Pooling before the classes, by the rank of the features.
_POOLINGS = {
    2: None,
    3: keras.layers.GlobalAveragePooling1D,
    4: keras.layers.GlobalAveragePooling2D,
}


def add_exits(
    model: keras.Model,
    at: Sequence[str],
    preprocessing: Callable[[Tensor], Tensor] | None = None,
    head: Callable[[Tensor, int], Tensor] | None = None,
    freeze: bool = True,
    name: str | None = None,
) -> MultiExitModel:
    """Return a multi-exit model whose last exit is a trained classifier.

    The layers of the classifier are shared, those of functional models within
    it, such as a backbone, as well; every new exit has a head of its own, which
    has to be trained.

    Args:
        model: functional classifier with one input of images and one output
            of logits.
        at: list of names of layers after whose results the new exits stand, in
            depth order.
        preprocessing: function of images `(batch, height, width, channels)` in
            [0, 1], made of Keras layers and operations; returns what `model`
            takes. It becomes part of the new model. Defaults to None: `model`
            takes images in [0, 1].
        head: function of features and the number of classes; returns logits.
            Defaults to None: mean over all places, and a dense layer.
        freeze: stop training of the classifier's layers, in `model`, too, so
            that the last exit stays as it is. Defaults to True.
        name: name of the new model. Defaults to that of `model`.

    Returns:
        A `MultiExitModel` with the exits `exit_1`, `exit_2` and so on.

    Raises:
        TypeError: if `model` is not a functional Keras model.
        ValueError: if it has no layer of a name, or its input, its output or
            features do not fit.
    """
    _check(model, at)
    checks.boolean("freeze", freeze)
    images = keras.Input(model.input_shape[1:], name="images")
    given = images if preprocessing is None else preprocessing(images)
    results: dict[str, list[Tensor]] = {}
    (logits,) = _applied(model, [given], results)
    num_classes = logits.shape[-1]
    exits = []
    for number, layer in enumerate(at):
        features = _features(results, layer)
        if head is None:
            new = f"exit_{number + 1}"
            exits.append(_head(features, num_classes, _free(new, results)))
        else:
            exits.append(head(features, num_classes))
    found = MultiExitModel(images, [*exits, logits], name=name or model.name)
    if freeze:
        model.trainable = False
    return found


def _applied(model, tensors, results):
    """Call all layers of a functional model on other tensors.

    Args:
        model: a functional `keras.Model`.
        tensors: list of Keras tensors, one per input.
        results: dict to fill: list of what each layer gave, by its name.

    Returns:
        List of Keras tensors, one per output.
    """
    outputs = dict(enumerate(model.outputs))
    graph = Graph(model.inputs, outputs)
    values = dict(zip(graph.inputs, tensors, strict=True))
    for calls in graph.plan(outputs):
        for call in calls:
            operation, arguments = graph.operation(call), graph.arguments(call)
            filled = fill(arguments, values)
            if _is_functional(operation):
                given = [values[each] for each in graph.tensors_into(call)]
                found = _applied(operation, given, results)
            else:
                found = operation(*filled.positional, **filled.named)
            results.setdefault(operation.name, []).append(found)
            values.update(named_results(call, found))
    return [values[graph.outputs[number]] for number in outputs]


def _is_functional(operation):
    return isinstance(operation, keras.Model) and bool(
        getattr(operation, "outputs", None)
    )


def _features(results, name):
    """Return what the layer of a name gave."""
    found = results.get(name, [])
    if not found:
        close = difflib.get_close_matches(name, results, cutoff=0.4)
        raise ValueError(
            f"`at` needs names of layers of the model, received {name!r}. "
            f"Names like it: {', '.join(close) or 'none'}; all are in "
            "[each.name for each in model.layers]."
        )
    tensors = keras.tree.flatten(found)
    if len(tensors) != 1:
        raise ValueError(
            f"Layer {name!r} gives {len(tensors)} tensors, and an exit stands "
            "behind one: name a layer that is called once, with one result."
        )
    return tensors[0]


def _free(name, taken):
    """Return a name with which no name of a layer begins."""
    while any(each.startswith(name) for each in taken):
        name = f"new_{name}"
    return name


def _head(features, num_classes, name):
    rank = len(features.shape)
    if rank not in _POOLINGS:
        raise ValueError(
            f"An exit needs features of rank 2 to 4, received shape "
            f"{tuple(features.shape)}. Give a `head` that takes them."
        )
    if _POOLINGS[rank] is not None:
        features = _POOLINGS[rank](name=f"{name}_pooling")(features)
    return keras.layers.Dense(num_classes, name=f"{name}_logits")(features)


def _check(model, at):
    if not isinstance(model, keras.Model) or not _is_functional(model):
        raise TypeError(
            f"`add_exits` needs a functional keras.Model, received {model!r}."
        )
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ValueError(
            "`add_exits` needs a classifier with one input and one output, "
            f"received {len(model.inputs)} and {len(model.outputs)}. For a "
            "model with several exits already: MultiExitModel.from_functional."
        )
    at = checks.sequence("at", at, "names of layers")
    if not at:
        raise ValueError("`at` needs at least one name of a layer.")
