"""Arithmetic and parameters of a multi-exit model, per exit.

    for cost in keras_neokd.models.exit_costs(model):
        print(cost.name, cost.cumulative.operations, cost.own.multiply_adds)

Costs are per image and follow the counter that published MSDNet figures come
from: convolutions count one operation per multiply-add and no bias, dense
layers their weights and biases, pooling its window at every output, and
activation functions one per element; everything else (batch norm, dropout,
padding, concatenation) is free. One operation is thus a multiply-add, not two
floating-point operations. Attention, which those figures do not contain,
counts as its dense layers, its two products of matrices, and a softmax.
"""

import math
from typing import Any
from typing import NamedTuple

import keras
from keras import layers

from keras_neokd.network.arithmetic import arithmetic
from keras_neokd.network.graph import Graph


class Costs(NamedTuple):
    """Costs of one image in a part of a model.

    Attributes:
        operations: Operations by the rules of this module.
        multiply_adds: Multiply-adds of convolutions, dense layers and
            attention alone, biases left out.
        parameters: Learnable parameters, frozen ones included; running
            statistics are not.
    """

    operations: int
    multiply_adds: int
    parameters: int


class ExitCosts(NamedTuple):
    """Costs of an image that leaves at an exit.

    Attributes:
        name: Name of the exit.
        cumulative: `Costs` with the heads of all earlier exits, as published
            MSDNet figures count.
        own: `Costs` with this exit's head only, as if the heads of earlier
            exits had been skipped.
    """

    name: str
    cumulative: Costs
    own: Costs


def layer_costs(operation: keras.Operation) -> Costs:
    """Count the first call of a layer, or other operation of a model.

    Args:
        operation: A layer or operation that belongs to a functional model.

    Returns:
        A `Costs`.

    Raises:
        ValueError: If the layer's input size is unknown.

    Warns:
        UserWarning: If the layer holds weights and its arithmetic is not
            known; its parameters are counted, its operations are not. A layer
            of your own may have a method `arithmetic(shape)` that returns its
            operations and multiply-adds for one image.
    """
    inputs = keras.tree.flatten(operation.input)
    return _call_costs(operation, tuple(tuple(x.shape) for x in inputs))


def exit_costs(model: keras.Model) -> list[ExitCosts]:
    """Count what every exit of a multi-exit model costs.

    An exit needs all operations that its logits depend on. A layer called
    several times costs its arithmetic each time and its parameters once.

    Args:
        model: A functional model with `exit_names` and `exit_model(name)`,
            such as a `MultiExitModel`. Where it has a method
            `layers_up_to(exit_index)` (from 0), an exit is charged for the
            layers which that returns, even if its logits do not depend on
            them. A layer with a method `arithmetic(shape)` is asked: it
            returns operations and multiply-adds for one image, and `shape` is
            that of its input, with `None` for the batch.

    Returns:
        A list with one `ExitCosts` per exit, in depth order.

    Raises:
        ValueError: If a layer's input size is unknown.
    """
    layers_up_to = getattr(model, "layers_up_to", lambda exit_index: ())
    graph = getattr(model, "call_graph", None) or Graph(
        model.inputs,
        {name: model.exit_model(name).outputs[0] for name in model.exit_names},
    )
    known: dict[Any, Any] = {}

    def costs(names, extra):
        return _total(_calls(graph, names), extra, known)

    rows = []
    for index, name in enumerate(model.exit_names):
        extra = layers_up_to(index)
        earlier = model.exit_names[: index + 1]
        rows.append(
            ExitCosts(name, costs(earlier, extra), costs([name], extra))
        )
    return rows


def _calls(graph, names):
    """List `(operation, input shapes)` for every call that outputs need."""
    return [
        (graph.operation(call), graph.input_shapes(call))
        for calls in graph.plan(names)
        for call in calls
    ]


def _total(calls, extra_layers, known):
    """Add up calls and extra layers, the parameters of each layer once."""
    called = {id(operation) for operation, _ in calls}
    rows = [Costs(0, 0, 0)]
    counted = set()
    for operation, shapes in calls:
        key = (id(operation), shapes)
        if key not in known:
            known[key] = _call_costs(operation, shapes)
        row = known[key]
        if id(operation) in counted:
            row = row._replace(parameters=0)
        counted.add(id(operation))
        rows.append(row)
    for layer in extra_layers:
        if id(layer) not in called:
            rows.append(layer_costs(layer))
    return Costs(*(sum(column) for column in zip(*rows, strict=True)))


def _call_costs(operation, shapes):
    is_nested = isinstance(operation, keras.Model)
    if is_nested and getattr(operation, "inputs", None):
        graph = Graph(operation.inputs, dict(enumerate(operation.outputs)))
        return _total(_calls(graph, list(graph.outputs)), (), {})
    operations, multiply_adds = arithmetic(operation, shapes)
    return Costs(operations, multiply_adds, _parameters(operation))


def _parameters(operation):
    """Count learnable parameters, frozen or not."""
    if not isinstance(operation, keras.Layer) or isinstance(
        operation, layers.Normalization
    ):
        return 0
    # A frozen layer lists everything as not trainable.
    weights = operation.weights
    if operation.trainable:
        weights = operation.trainable_weights
    statistics = ()
    if isinstance(operation, layers.BatchNormalization):
        statistics = (operation.moving_mean, operation.moving_variance)
    excluded = {id(variable) for variable in statistics}
    return sum(
        math.prod(variable.shape)
        for variable in weights
        if id(variable) not in excluded
    )
