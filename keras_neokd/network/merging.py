"""Merge the calls of a frozen network into fewer."""

from collections import Counter

import keras
from keras import layers
from keras import ops

from keras_neokd import backend
from keras_neokd.network.recording import Tensor
from keras_neokd.network.single_calls import PRECISIONS
from keras_neokd.network.single_calls import has_mark
from keras_neokd.network.single_calls import is_relu
from keras_neokd.network.single_calls import precision_of
from keras_neokd.network.single_calls import single


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
    others = [single(graph, call) for call in calls if call not in merged]
    made = {each.call: each for each in (*convolutions, *others)}
    exits = {graph.outputs[name].call for name in exit_names}
    _keep_logits([made[call] for call in calls if call in made], exits)
    return made


def _keep_logits(calls, exits):
    """Mark the calls that give logits, which bfloat16 would round.

    Args:
        calls: merged ones, each after those whose results it takes.
        exits: set of the calls that give logits.
    """
    for each in reversed(calls):
        if each.call in exits:
            each.gives_logits = True
            if not each.has_weights:
                exits = exits | {source.call for source in each.sources}


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


class _Convolution:
    """A convolution, with the padding before and what follows it.

    Batch norm in inference is `scale * x + shift` per channel, which the
    kernel and the bias of the convolution take up, in float32.

    Attributes: see `Call`.
    """

    gives_logits = False
    has_weights = True

    def __init__(self, graph, uses, call):
        self._layer = graph.operation(call)
        self._padding = self._layer.padding
        dtype = self._layer.compute_dtype
        merged, (source,) = [call], graph.tensors_into(call)
        before = uses.only_giver(call)
        if before and _is_padding_of(graph.operation(before), self._layer):
            self._padding = graph.operation(before).padding
            (source,) = graph.tensors_into(before)
            merged.insert(0, before)

        def taken_up(test):
            """Merge what follows, if it is of this kind, and return it."""
            following = uses.only_taker(merged[-1])
            if following is None:
                return None
            layer = graph.operation(following)
            if not test(layer) or layer.compute_dtype != dtype:
                return None
            merged.append(following)
            return layer

        self._has_relu = self._layer.activation is keras.activations.relu
        self._batch_norm = None
        if not self._has_relu:
            # In float16, kernel, bias and sum could overflow by the scale.
            if dtype != "float16":
                self._batch_norm = taken_up(_is_batch_norm)
            self._has_relu = taken_up(is_relu) is not None
        self.call, self.merged = merged[-1], tuple(merged)
        self.sources = {source}
        self._source = source
        self._result = Tensor(*self.call, 0)

    def prepare(self, dtype):
        """Return kernel and bias, batch norm included, and the result's type.

        In 16 bits the bias is rounded, too: kernels add one of their own type,
        and one of float32 would be a pass of its own.
        """
        own = precision_of(self._layer, dtype, not self.computes_in_16_bits)
        kernel, bias = (ops.cast(each, own) for each in self._kernel_and_bias())
        return kernel, bias, precision_of(self._layer, dtype, self.gives_logits)

    @property
    def computes_in_16_bits(self):
        """See `Call`; TensorFlow lacks gradients of dilated ones."""
        return not self.gives_logits and self._layer.dilation_rate == (1, 1)

    def _kernel_and_bias(self):
        kernel = _float32(self._layer.kernel)
        bias = ops.zeros((kernel.shape[-1],), "float32")
        if self._layer.use_bias:
            bias = _float32(self._layer.bias)
        if self._batch_norm is None:
            return kernel, bias
        scale, shift = _scale_and_shift(self._batch_norm)
        return kernel * scale, bias * scale + shift

    def __call__(self, prepared, values):
        """Return the result by name."""
        kernel, bias, dtype = prepared
        result = backend.convolve(
            # As Keras does: layers before may compute in 16 bits.
            ops.cast(values[self._source], kernel.dtype),
            kernel,
            bias,
            strides=self._layer.strides,
            padding=self._padding,
            dilation=self._layer.dilation_rate,
            relu=self._has_relu,
        )
        return {self._result: ops.cast(result, dtype)}


def _float32(variable):
    return ops.cast(ops.convert_to_tensor(variable), "float32")


def _scale_and_shift(batch_norm):
    variance = _float32(batch_norm.moving_variance)
    scale = ops.rsqrt(variance + batch_norm.epsilon)
    if batch_norm.scale:
        scale = scale * _float32(batch_norm.gamma)
    shift = -_float32(batch_norm.moving_mean) * scale
    if batch_norm.center:
        shift = shift + _float32(batch_norm.beta)
    return scale, shift


# Exact classes below: a subclass may compute something else.


def _is_plain_convolution(layer):
    return (
        (type(layer) is layers.Conv2D or has_mark(layer, "is_plain_conv2d"))
        and layer.data_format == "channels_last"
        and layer.padding in ("valid", "same")
        and layer.compute_dtype in PRECISIONS
        and layer.activation
        in (keras.activations.linear, keras.activations.relu)
    )


def _is_padding_of(layer, convolution):
    return (
        type(layer) is layers.ZeroPadding2D
        and layer.data_format == "channels_last"
        and convolution.padding == "valid"
        and layer.compute_dtype == convolution.compute_dtype
    )


def _is_batch_norm(layer):
    return (
        type(layer) is layers.BatchNormalization
        or has_mark(layer, "is_plain_batch_norm")
    ) and layer.axis in (-1, 3)
