"""The optimisations of a training step, and the plain way for each.

Every optimisation can be taken out of the library by putting the plain way in
its place, in a process that measures nothing else. This reaches into private
parts of the library: with another checkout it may not fit.
"""

import dataclasses
import pkgutil

_MSDNETS = ("msdnet_cifar10", "msdnet_cifar100")
_ALL = ("tensorflow", "jax", "torch")


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """An optimisation that can be taken out.

    Attributes:
        backends: backends that have it.
        place: dotted name in keras_neokd of what to replace; "" for nothing.
        plain: what to put there: a function, or the dotted name of one.
        models: networks that it is about.
        compile_options: arguments of `compile` for the plain way.
    """

    backends: tuple
    place: str = ""
    plain: object = None
    models: tuple = ("small_cnn", *_MSDNETS)
    compile_options: dict = dataclasses.field(default_factory=dict)

    def take_out(self, replace=setattr):
        """Put the plain way in its place, for good, by `replace`."""
        if self.place:
            owner, _, attribute = f"keras_neokd.{self.place}".rpartition(".")
            plain = self.plain
            if isinstance(plain, str):
                plain = pkgutil.resolve_name(plain)
            replace(pkgutil.resolve_name(owner), attribute, plain)


def _through_whole_network(self, exits):
    """Run the candidates for each exit through the whole network."""
    from keras import ops

    from keras_neokd.attacks import ExitLogits

    def function(images, _):
        size = ops.shape(images)[0] // len(exits)
        logits = self(images, exits)
        parts = [
            each[i * size : (i + 1) * size] for i, each in enumerate(logits)
        ]
        return (ops.concatenate(parts),)

    return ExitLogits(function, 1)


def _layer_by_layer(graph, exit_names):
    """Merge nothing into convolutions."""
    from keras_neokd.network import single_calls

    return {
        call: single_calls.Call(graph, call)
        for calls in graph.plan(exit_names)
        for call in calls
    }


def _padded_by_tensorflow(
    images, kernel, bias, strides, padding, dilation, relu
):
    """Let the convolution pad by itself."""
    import tensorflow as tf

    if isinstance(padding, str):
        padding = padding.upper()
    else:
        padding = [(0, 0), *padding, (0, 0)]
    outputs = tf.nn.conv2d(images, kernel, strides, padding, dilations=dilation)
    outputs = tf.nn.bias_add(outputs, bias)
    return tf.nn.relu(outputs) if relu else outputs


def _gradient_in_loop(function, x):
    """Take the gradient within the attack's loop."""
    import tensorflow as tf

    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        values, outputs = function(x)
    return values, tape.gradient(values, x), outputs


def _optimizer_built_in_step(self, force=False):
    """Build the optimizer within the first step, which is traced twice."""
    import keras

    return keras.Model.make_train_function(self, force)


def _xla_convolution(images, kernel, strides, padding):
    """Leave a convolution and its gradients to XLA."""
    from jax import lax

    return lax.conv_general_dilated(
        images,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


OPTIMISATIONS = {
    # Each candidate runs the layers that its exit needs.
    "own_layers": Optimisation(
        _ALL,
        "network.model_logits.FrozenLogits.staggered",
        _through_whole_network,
    ),
    # On processors a pass per exit, whose batch fits better into caches.
    "pass_per_exit": Optimisation(
        _ALL, "backend.has_accelerator", lambda: True
    ),
    # Padding, batch norm and ReLU are merged into convolutions, and weights
    # prepared once per attack.
    "merged": Optimisation(
        _ALL, "network.frozen.merged_calls", _layer_by_layer
    ),
    # Padding is an operation of its own: the gradient is left to oneDNN.
    "padding_apart": Optimisation(
        ("tensorflow",),
        "backend.convolve",
        _padded_by_tensorflow,
        models=_MSDNETS,
    ),
    # The gradient is a function of its own, which oneDNN's pass rewrites.
    "own_function": Optimisation(
        ("tensorflow",),
        "backend.tensorflow.value_gradient_and_outputs",
        _gradient_in_loop,
    ),
    # A matrix product and a sum of shifted rows.
    "image_convolution": Optimisation(
        ("tensorflow",),
        "backend.kernels.tensorflow_convolution.fits",
        lambda *arguments: False,
        models=("small_cnn",),
    ),
    # The same.
    "image_gradient": Optimisation(
        ("torch",),
        "backend.kernels.torch_convolution.convolve",
        "torch.nn.functional.conv2d",
    ),
    # No copies under PyTorch, comparisons instead of XLA's gradient.
    "pooling": Optimisation(
        ("jax", "torch"),
        "backend.pool",
        "keras_neokd.backend.plain.pool",
        models=("small_cnn",),
    ),
    # No copies.
    "training_convolution": Optimisation(
        ("torch",),
        "backend.convolution",
        "keras_neokd.backend.plain.convolution",
        models=_MSDNETS,
    ),
    # One operation instead of a dozen, and as many in the gradient.
    "batch_norm": Optimisation(
        ("tensorflow", "torch"),
        "backend.batch_norm",
        "keras_neokd.backend.plain.batch_norm",
        models=_MSDNETS,
    ),
    # The optimizer is built before the first step.
    "built_optimizer": Optimisation(
        ("tensorflow",),
        "backend.tensorflow.TrainStep.make_train_function",
        _optimizer_built_in_step,
    ),
    # `jit_compile="auto"` is without XLA on processors.
    "no_xla": Optimisation(
        ("tensorflow",), compile_options={"jit_compile": True}
    ),
    # Forms of convolutions that XLA runs fast on processors.
    "cpu_convolution": Optimisation(
        ("jax",), "backend.kernels.jax_convolution.convolve", _xla_convolution
    ),
}
