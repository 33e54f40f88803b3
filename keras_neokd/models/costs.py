"""Arithmetic and parameters of a multi-exit model, per exit.

    for cost in keras_neokd.models.exit_costs(model):
        print(cost.name, cost.cumulative.operations, cost.own.multiply_adds)

Costs are per image and follow the counter that published MSDNet figures come
from: convolutions count one operation per multiply-add and no bias, dense
layers their weights and biases, pooling its window at every output, and
activation functions one per element; everything else (batch norm, dropout,
padding, concatenation) is free. One operation is thus a multiply-add, not two
floating-point operations.
"""

import math
import warnings
from typing import NamedTuple

import keras
from keras import layers

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_POOLINGS = (
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
)
_GLOBAL_POOLINGS = (
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
)
_ACTIVATIONS = (
    layers.ELU,
    layers.LeakyReLU,
    layers.PReLU,
    layers.ReLU,
    layers.Softmax,
)
# Names of the operations that `keras.ops.relu` and its like put into a graph;
# their classes are not public.
_ACTIVATION_OPERATIONS = ("Gelu", "LeakyRelu", "Relu", "Relu6", "Silu")
# Layers that hold weights and are free by the counter's rules.
_FREE_WITH_WEIGHTS = (
    layers.BatchNormalization,
    layers.GroupNormalization,
    layers.LayerNormalization,
    layers.Normalization,
    layers.RMSNormalization,
)


class Costs(NamedTuple):
    """What one image costs in a part of a model.

    Attributes:
        operations: Operations by the rules of this module.
        multiply_adds: Multiply-adds of convolutions and dense layers alone,
            biases left out.
        parameters: Learnable parameters, frozen ones included; running
            statistics are not.
    """

    operations: int
    multiply_adds: int
    parameters: int


class ExitCosts(NamedTuple):
    """What an image costs that leaves at an exit.

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


def layer_costs(operation):
    """Count what one layer, or other operation of a functional model, costs.

    A layer that is called more than once is counted for its first call.

    Args:
        operation: A layer or operation that belongs to a functional model.

    Returns:
        A `Costs`.

    Raises:
        ValueError: If the layer's input size is unknown.

    Warns:
        UserWarning: If the layer holds weights and is of a kind whose
            arithmetic is not known; its parameters are counted, its
            operations are not.
    """
    inputs = keras.tree.flatten(operation.input)
    return _call_costs(operation, tuple(inputs[0].shape) if inputs else None)


def exit_costs(model):
    """Count what every exit of a multi-exit model costs.

    An exit needs all operations that its logits depend on. A layer called
    several times costs its arithmetic each time and its parameters once.

    Args:
        model: A functional model with `exit_names` and `exit_model(name)`,
            such as a `MultiExitModel`. Where it defines a method
            `_stage_layers(exit_index)`, exit number `exit_index` (from 0) is
            charged for the layers which that returns even if its logits do
            not depend on them.

    Returns:
        A list with one `ExitCosts` per exit, in depth order.

    Raises:
        ValueError: If a layer's input size is unknown.
    """
    stage_layers = getattr(model, "_stage_layers", lambda exit_index: ())
    outputs = [model.exit_model(name).outputs[0] for name in model.exit_names]
    known = {}
    rows = []
    for index, name in enumerate(model.exit_names):
        extra = stage_layers(index)
        cumulative = _calls(model.inputs, outputs[: index + 1])
        own = _calls(model.inputs, outputs[index])
        rows.append(
            ExitCosts(
                name,
                _total(cumulative, extra, known),
                _total(own, extra, known),
            )
        )
    return rows


def _calls(inputs, outputs):
    """List `(operation, input shape)` for every call between the tensors."""
    graph = keras.Model(inputs, outputs)
    operations = {operation.name: operation for operation in graph.operations}
    calls = []
    # `layer.input` knows a layer's first call only, the config knows them all.
    for entry in graph.get_config()["layers"]:
        operation = operations[entry["name"]]
        # An input layer is called by nobody.
        nodes = entry["inbound_nodes"] or [{"args": (), "kwargs": {}}]
        calls += [(operation, _first_shape(node)) for node in nodes]
    return calls


def _first_shape(node):
    """Return the shape of the first tensor in a serialised call, or None."""
    arguments = [*node["args"], *node["kwargs"].values()]
    while arguments:
        argument = arguments.pop(0)
        if isinstance(argument, (list, tuple)):
            arguments = [*argument, *arguments]
        elif isinstance(argument, dict):
            if argument.get("class_name") == "__keras_tensor__":
                return tuple(argument["config"]["shape"])
            arguments = [*argument.values(), *arguments]
    return None


def _total(calls, extra_layers, known):
    """Add up calls and extra layers, the parameters of each layer once."""
    called = {id(operation) for operation, _ in calls}
    rows = []
    counted = set()
    for operation, shape in calls:
        key = (id(operation), shape)
        if key not in known:
            known[key] = _call_costs(operation, shape)
        row = known[key]
        if id(operation) in counted:
            row = row._replace(parameters=0)
        counted.add(id(operation))
        rows.append(row)
    for layer in extra_layers:
        if id(layer) not in called:
            rows.append(layer_costs(layer))
    return Costs(*(sum(column) for column in zip(*rows, strict=True)))


def _call_costs(operation, shape):
    """Count one call of an operation on an input of a shape."""
    if isinstance(operation, keras.Model) and getattr(
        operation, "inputs", None
    ):
        return _total(_calls(operation.inputs, operation.outputs), (), {})
    operations, multiply_adds = _arithmetic(operation, shape)
    return Costs(operations, multiply_adds, _parameters(operation))


def _arithmetic(operation, shape):
    """Return operations and multiply-adds of one call."""
    kernel = _kernel(operation)
    if kernel is not None:
        weights, channels = kernel
        elements = _output_elements(operation, shape)
        multiply_adds = elements // channels * weights
        operations = multiply_adds + _activation(operation, elements)
        if isinstance(operation, layers.Dense) and operation.use_bias:
            operations += elements
        return operations, multiply_adds
    if isinstance(operation, _POOLINGS):
        window = math.prod(operation.pool_size)
        return _output_elements(operation, shape) * window, 0
    if isinstance(operation, layers.Activation):
        return _activation(operation, _elements(operation, shape)), 0
    if (
        isinstance(operation, _ACTIVATIONS + _GLOBAL_POOLINGS)
        or type(operation).__name__ in _ACTIVATION_OPERATIONS
    ):
        return _elements(operation, shape), 0
    if _has_unknown_arithmetic(operation):
        warnings.warn(
            f"Layer `{operation.name}` ({type(operation).__name__}) holds "
            "weights, but how much it calculates is not known: its "
            "operations are counted as 0.",
            UserWarning,
            stacklevel=2,
        )
    return 0, 0


def _kernel(operation):
    """Return a layer's weights per output position and output channels.

    None for operations that are neither a convolution nor a dense layer.
    """
    if isinstance(operation, _CONVOLUTIONS):
        return math.prod(operation.kernel.shape), operation.filters
    if isinstance(operation, _DEPTHWISE):
        shape = operation.kernel.shape
        return math.prod(shape), math.prod(shape[-2:])
    if isinstance(operation, _SEPARABLE):
        depthwise = math.prod(operation.depthwise_kernel.shape)
        pointwise = math.prod(operation.pointwise_kernel.shape)
        return depthwise + pointwise, operation.filters
    if isinstance(operation, layers.Dense):
        return math.prod(operation.kernel.shape), operation.units
    return None


def _activation(operation, elements):
    """Return the operations of a layer's `activation` argument."""
    return 0 if operation.activation is keras.activations.linear else elements


def _output_elements(operation, shape):
    """Return the number of output elements per image."""
    _elements(operation, shape)
    return math.prod(operation.compute_output_shape(shape)[1:])


def _elements(operation, shape):
    """Return the number of input elements per image, all sizes known."""
    if shape is None or None in shape[1:]:
        raise ValueError(
            f"The input size of layer `{operation.name}` is unknown, so its "
            f"cost is too: received the shape {shape}. Build the model with "
            "a fixed `input_shape`."
        )
    return math.prod(shape[1:])


def _has_unknown_arithmetic(operation):
    """Tell whether a layer holds weights without being free."""
    return (
        isinstance(operation, keras.Layer)
        and bool(operation.weights)
        and not isinstance(operation, _FREE_WITH_WEIGHTS)
    )


def _parameters(operation):
    """Count learnable parameters, whether frozen or not."""
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
