"""Count what one call of a layer computes, by the rules of `costs`."""

import math
import warnings

import keras
from keras import layers

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
_SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
_POOLINGS, _GLOBAL_POOLINGS = (
    tuple(
        getattr(layers, f"{scope}{kind}Pooling{axes}D")
        for kind in ("Average", "Max")
        for axes in (1, 2, 3)
    )
    for scope in ("", "Global")
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


def arithmetic(operation, shapes):
    """Return operations and multiply-adds of one call.

    A layer with a method `arithmetic(shape)` is asked.

    Args:
        operation: A layer or operation that belongs to a functional model.
        shapes: Shapes of the tensors that it is called on, in order.

    Raises, warns: as `costs.layer_costs`.
    """
    shape = shapes[0] if shapes else None
    kernel = _kernel(operation)
    if kernel is not None:
        weights, channels = kernel
        elements = _output_elements(operation, shape)
        multiply_adds = elements // channels * weights
        operations = multiply_adds + _activation(operation, elements)
        if isinstance(operation, layers.Dense) and operation.use_bias:
            operations += elements
        return operations, multiply_adds
    if hasattr(operation, "arithmetic"):
        _elements(operation, shape)
        return operation.arithmetic(shape)
    if isinstance(operation, layers.MultiHeadAttention) and len(shape) == 3:
        return _multi_head_attention(operation, shapes)
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
    has_weights = isinstance(operation, keras.Layer) and operation.weights
    if has_weights and not isinstance(operation, _FREE_WITH_WEIGHTS):
        warnings.warn(
            f"Layer `{operation.name}` ({type(operation).__name__}) holds "
            "weights, but how much it calculates is not known: its "
            "operations are counted as 0.",
            UserWarning,
            stacklevel=2,
        )
    return 0, 0


def _kernel(operation):
    """Return the weights per output position and the output channels."""
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


def _multi_head_attention(operation, shapes):
    """Return operations and multiply-adds of Keras' attention layer."""
    for shape in shapes[:2]:
        _elements(operation, shape)
    # Keys are as many as values, which are the second argument.
    queries, keys = shapes[0][1], shapes[1][1]
    weights = biases = 0
    for layer, tokens in (
        (operation.query_dense, queries),
        (operation.key_dense, keys),
        (operation.value_dense, keys),
        (operation.output_dense, queries),
    ):
        weights += tokens * math.prod(layer.kernel.shape)
        if operation.use_bias:
            biases += tokens * math.prod(layer.bias.shape)
    pairs = operation.num_heads * queries * keys
    multiply_adds = weights + pairs * (operation.key_dim + operation.value_dim)
    return multiply_adds + pairs + biases, multiply_adds


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
