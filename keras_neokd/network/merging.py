"""Merge the calls of a frozen network into fewer."""

from collections import Counter

import keras
from keras import layers
from keras import ops

from keras_neokd import backend
from keras_neokd.network.graph import fill
from keras_neokd.network.graph import named_results
from keras_neokd.network.recording import Tensor


def merged_calls(graph, exit_names):
    """Return a dict from calls to merged ones, without those merged into later.

    Args:
        graph: a `Graph`.
        exit_names: names of the exits in depth order.
    """
    calls = [call for part in graph.plan(exit_names) for call in part]
    uses = _Uses(graph, calls)
    convolutions = [
        _Convolution(graph, uses, call)
        for call in calls
        if _is_plain_convolution(graph.operation(call))
    ]
    merged = {call for each in convolutions for call in each.merged}
    others = [_single(graph, call) for call in calls if call not in merged]
    return {each.call: each for each in (*convolutions, *others)}


def _single(graph, call):
    is_pooling = _is_plain_pooling(graph.operation(call))
    return (_Pooling if is_pooling else Call)(graph, call)


class _Uses:
    """Find which calls produce and which use a tensor."""

    def __init__(self, graph, calls):
        self._graph = graph
        self._counts = Counter(graph.outputs.values())
        self._takers = {}
        for call in calls:
            for tensor in graph.tensors_into(call):
                self._counts[tensor] += 1
                self._takers[tensor] = call

    def only_taker(self, call):
        """Return the one call that takes what a call gives, or `None`."""
        result = Tensor(*call, 0)
        taker = self._takers.get(result)
        return taker if self._counts[result] == 1 else None

    def only_giver(self, call):
        """Return the call that gives something to this one alone."""
        (source,) = self._graph.tensors_into(call)
        is_input = source in self._graph.inputs
        return None if is_input or self._counts[source] != 1 else source.call


class Call:
    """One call of a layer or operation, as it is."""

    def __init__(self, graph, call):
        self.call, self.merged = call, (call,)
        self.sources = set(graph.tensors_into(call))
        self._operation = graph.operation(call)
        self._arguments = graph.arguments(call)
        # Layers within a layer hear of the mode, too.
        is_layer = isinstance(self._operation, layers.Layer)
        self._mode = {"training": False} if is_layer else {}

    def prepare(self):
        """Nothing depends on weights alone."""

    def __call__(self, prepared, values):
        """Return the results by name."""
        arguments = fill(self._arguments, values)
        results = self._operation(
            *arguments.positional, **{**arguments.named, **self._mode}
        )
        return named_results(self.call, results)


class _Pooling(Call):
    """A pooling without padding, in the form that the backend runs fast."""

    def __call__(self, prepared, values):
        """Return the result by name."""
        (source,) = self.sources
        layer = self._operation
        result = backend.pool(
            # As Keras does: layers before may compute in 16 bits.
            ops.cast(values[source], layer.compute_dtype),
            layer.pool_size,
            layer.strides,
            "average" if type(layer) is layers.AveragePooling2D else "max",
        )
        return named_results(self.call, result)


class _Convolution:
    """A convolution, with the padding before and what follows it.

    Batch norm in inference is `scale * x + shift` per channel, which the
    kernel and the bias of the convolution take up.
    """

    def __init__(self, graph, uses, call):
        self._layer = graph.operation(call)
        self._padding = self._layer.padding
        merged, (source,) = [call], graph.tensors_into(call)
        before = uses.only_giver(call)
        if before and _is_padding_of(graph.operation(before), self._layer):
            self._padding = graph.operation(before).padding
            (source,) = graph.tensors_into(before)
            merged.insert(0, before)

        def taken_up(test):
            """Merge what follows, if it is of this kind, and return it."""
            following = uses.only_taker(merged[-1])
            if following is None or not test(graph.operation(following)):
                return None
            merged.append(following)
            return graph.operation(following)

        self._has_relu = self._layer.activation is keras.activations.relu
        self._batch_norm = None
        if not self._has_relu:
            self._batch_norm = taken_up(_is_batch_norm)
            self._has_relu = taken_up(_is_relu) is not None
        self.call, self.merged = merged[-1], tuple(merged)
        self.sources = {source}
        self._source = source
        self._result = Tensor(*self.call, 0)

    def prepare(self):
        """Return the kernel and the bias, batch norm included."""
        kernel = ops.convert_to_tensor(self._layer.kernel)
        bias = ops.zeros((kernel.shape[-1],), kernel.dtype)
        if self._layer.use_bias:
            bias = ops.convert_to_tensor(self._layer.bias)
        if self._batch_norm is None:
            return kernel, bias
        scale, shift = _scale_and_shift(self._batch_norm)
        return kernel * scale, bias * scale + shift

    def __call__(self, prepared, values):
        """Return the result by name."""
        result = backend.convolve(
            # As Keras does: layers before may compute in 16 bits.
            ops.cast(values[self._source], self._layer.compute_dtype),
            *prepared,
            strides=self._layer.strides,
            padding=self._padding,
            dilation=self._layer.dilation_rate,
            relu=self._has_relu,
        )
        return {self._result: result}


def _scale_and_shift(batch_norm):
    variance = ops.convert_to_tensor(batch_norm.moving_variance)
    scale = ops.rsqrt(variance + batch_norm.epsilon)
    if batch_norm.scale:
        scale = scale * ops.convert_to_tensor(batch_norm.gamma)
    shift = -ops.convert_to_tensor(batch_norm.moving_mean) * scale
    if batch_norm.center:
        shift = shift + ops.convert_to_tensor(batch_norm.beta)
    return scale, shift


# Exact classes below: a subclass may compute something else.


def _is_plain_convolution(layer):
    return (
        (type(layer) is layers.Conv2D or hasattr(layer, "is_plain_conv2d"))
        and layer.data_format == "channels_last"
        and layer.padding in ("valid", "same")
        and layer.compute_dtype == "float32"
        and layer.activation
        in (keras.activations.linear, keras.activations.relu)
    )


def _is_plain_pooling(layer):
    return (
        type(layer) in (layers.MaxPooling2D, layers.AveragePooling2D)
        and layer.data_format == "channels_last"
        and layer.padding == "valid"
        and layer.compute_dtype == "float32"
    )


def _is_padding_of(layer, convolution):
    return (
        type(layer) is layers.ZeroPadding2D
        and layer.data_format == "channels_last"
        and convolution.padding == "valid"
    )


def _is_batch_norm(layer):
    return (
        type(layer) is layers.BatchNormalization
        and layer.axis in (-1, 3)
        and layer.compute_dtype == "float32"
    )


def _is_relu(layer):
    if type(layer) is layers.Activation:
        return layer.activation is keras.activations.relu
    return (
        type(layer) is layers.ReLU
        and layer.max_value is None
        and not layer.negative_slope
        and not layer.threshold
    )
