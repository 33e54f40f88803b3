"""Calls of a frozen network that stay calls of their own.

They compute what Keras' layers compute, without what Keras does around every
call, which for small batches takes PyTorch longer than the layer itself.
"""

import keras
from keras import layers
from keras import ops

from keras_neokd import backend
from keras_neokd.network.graph import fill
from keras_neokd.network.graph import named_results

# What layers may compute in, to be run in a form of our own.
PRECISIONS = ("float32", "bfloat16", "float16")


def single(graph, call):
    """Return the call of a graph as an object that can be called."""
    operation = graph.operation(call)
    for kind, is_of_it in (
        (_Pooling, _is_plain_pooling),
        (_Dense, _is_plain_dense),
        (_Passing, _passes_on),
        (_Moving, _only_moves),
    ):
        if is_of_it(operation):
            return kind(graph, call)
    return Call(graph, call)


class Call:
    """One call of a layer or operation, as it is.

    Attributes:
        gives_logits: whether nothing with weights is behind it.
        computes_in_16_bits: whether it convolves so where it is prepared so.
        has_weights: whether it computes with weights.
    """

    gives_logits = computes_in_16_bits = False

    def __init__(self, graph, call):
        self.call, self.merged = call, (call,)
        self.sources = set(graph.tensors_into(call))
        self._operation = graph.operation(call)
        self._arguments = graph.arguments(call)
        # Layers within a layer hear of the mode, too.
        is_layer = isinstance(self._operation, layers.Layer)
        self.has_weights = is_layer and bool(self._operation.weights)
        self._mode = {"training": False} if is_layer else {}

    def prepare(self, dtype):
        """Return what depends on weights alone: nothing, or the precision.

        Args:
            dtype: see `FrozenNetwork.freeze`.
        """
        return dtype

    def __call__(self, prepared, values):
        """Return the results by name."""
        if prepared != "float32":  # What was lowered ends here.
            values = {
                each: _in_float32(values[each], prepared)
                for each in self.sources
            }
        return self._results(self._operation, values)

    def _results(self, function, values):
        arguments = fill(self._arguments, values)
        results = function(
            *arguments.positional, **{**arguments.named, **self._mode}
        )
        return named_results(self.call, results)


class _Moving(Call):
    """A layer that moves or adds numbers, in the precision of its inputs."""

    def __init__(self, graph, call):
        super().__init__(graph, call)
        self._mode = {}

    def __call__(self, prepared, values):
        """Return the results by name."""
        layer = self._operation
        if prepared == "float32" or self.gives_logits:
            # As Keras does where it calls a layer, which takes it longer.
            values = {
                each: _autocast(values[each], layer) for each in self.sources
            }
        return self._results(layer.call, values)


class _Passing(Call):
    """A layer that changes nothing in inference, but perhaps the precision."""

    def __call__(self, prepared, values):
        """Return the result by name."""
        del prepared
        (source,) = self.sources
        result = _autocast(values[source], self._operation)
        return named_results(self.call, result)


class _Dense(Call):
    """A dense layer, without what Keras does around it in each call."""

    def prepare(self, dtype):
        """Return kernel and bias, if any, in the precision of the layer."""
        del dtype
        layer = self._operation
        weights = (layer.kernel, layer.bias)[: 1 + layer.use_bias]
        return [
            ops.cast(ops.convert_to_tensor(each), layer.compute_dtype)
            for each in weights
        ]

    def __call__(self, prepared, values):
        """Return the result by name."""
        (source,) = self.sources
        layer, (kernel, *bias) = self._operation, prepared
        result = ops.matmul(ops.cast(values[source], kernel.dtype), kernel)
        for each in bias:
            result = ops.add(result, each)
        if layer.activation is not None:
            result = layer.activation(result)
        return named_results(self.call, result)


class _Pooling(Call):
    """A pooling without padding, in the form that the backend runs fast."""

    def prepare(self, dtype):
        """Return the precision that it computes in."""
        return precision_of(self._operation, dtype, self.gives_logits)

    def __call__(self, prepared, values):
        """Return the result by name."""
        (source,) = self.sources
        layer = self._operation
        result = backend.pool(
            # As Keras does: layers before may compute in 16 bits.
            ops.cast(values[source], prepared),
            layer.pool_size,
            layer.strides,
            "average" if type(layer) is layers.AveragePooling2D else "max",
        )
        return named_results(self.call, result)


def precision_of(layer, dtype, keeps_own):
    """Return a layer's precision where inner ones in float32 use `dtype`."""
    own = layer.compute_dtype
    return dtype if own == "float32" and not keeps_own else own


def _autocast(x, layer):
    """Return a tensor in the precision of a layer, as Keras hands it over."""
    is_cast = layer.autocast and keras.backend.is_float_dtype(x.dtype)
    return ops.cast(x, layer.compute_dtype) if is_cast else x


def _in_float32(x, dtype):
    is_lowered = keras.backend.standardize_dtype(x.dtype) == dtype
    return ops.cast(x, "float32") if is_lowered else x


# Exact classes below: a subclass may compute something else.


def has_mark(layer, mark):
    """Return whether the class of a layer, not one above it, has a mark."""
    return mark in vars(type(layer))


def _is_plain_pooling(layer):
    return (
        (
            type(layer) in (layers.MaxPooling2D, layers.AveragePooling2D)
            or has_mark(layer, "is_plain_pooling")
        )
        and layer.data_format == "channels_last"
        and layer.padding == "valid"
        and layer.compute_dtype in PRECISIONS
    )


def _is_plain_dense(layer):
    return (
        type(layer) is layers.Dense
        and layer.compute_dtype in PRECISIONS
        and layer.quantization_mode is None
    )


def _passes_on(layer):
    return type(layer) is layers.Dropout and layer.compute_dtype in PRECISIONS


def _only_moves(layer):
    return is_relu(layer) or type(layer) in (
        layers.Add,
        layers.Concatenate,
        layers.Flatten,
        layers.ZeroPadding2D,
    )


def is_relu(layer):
    """Return whether an operation is a plain ReLU, in any of Keras' forms."""
    if type(layer) is layers.Activation:
        return layer.activation is keras.activations.relu
    return (
        type(layer) is layers.ReLU
        and layer.max_value is None
        and not layer.negative_slope
        and not layer.threshold
    )
