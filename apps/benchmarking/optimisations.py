"""The optimisations of a training step, and the plain way for each.

Every optimisation can be taken out of the library by putting the plain way in
its place, in a process that measures nothing else.
"""

import dataclasses
from collections.abc import Callable

from apps.benchmarking.contestants import BACKENDS
from apps.benchmarking.contestants import FRAMEWORK_NAMES
from apps.benchmarking.contestants import MINIMA
from apps.benchmarking.contestants import WORKLOADS
from apps.benchmarking.contestants import BaseSettings


@dataclasses.dataclass(frozen=True)
class Optimisation:
    """One of them.

    Attributes:
        before: the plain way, a few words.
        after: what is done instead.
        plain: function that returns what to replace in the library, a list
            of tuples `(owner, attribute, replacement)`.
        backends: backends that it is about.
        models: networks that it is about.
        compile_options: arguments of `compile` for the plain way.
    """

    before: str
    after: str
    plain: Callable = list
    backends: tuple = tuple(BACKENDS)
    models: tuple = tuple(WORKLOADS)
    compile_options: dict = dataclasses.field(default_factory=dict)


def _whole_network():
    from keras import ops

    from keras_neokd import model_logits
    from keras_neokd.attacks.attack import ExitLogits

    def staggered(self, exits):
        def function(images, _):
            size = ops.shape(images)[0] // len(exits)
            logits = self(images, exits)
            parts = [
                each[i * size : (i + 1) * size] for i, each in enumerate(logits)
            ]
            return (ops.concatenate(parts),)

        return ExitLogits(function, 1)

    return [(model_logits.FrozenLogits, "staggered", staggered)]


def _one_pass():
    from keras_neokd import backend

    return [(backend, "has_accelerator", lambda: True)]


def _layer_by_layer():
    from keras_neokd.graphs import frozen
    from keras_neokd.graphs import steps

    def unmerged_steps(graph, exit_names):
        return {
            call: steps.Call(graph, call)
            for calls in graph.plan(exit_names)
            for call in calls
        }

    return [(frozen, "merged_steps", unmerged_steps)]


def _padding_in_convolution():
    import tensorflow as tf

    from keras_neokd import backend

    def convolve(images, kernel, bias, strides, padding, dilation, relu):
        padding = (
            padding.upper()
            if isinstance(padding, str)
            else [(0, 0), *padding, (0, 0)]
        )
        outputs = tf.nn.conv2d(
            images, kernel, strides, padding, dilations=dilation
        )
        outputs = tf.nn.bias_add(outputs, bias)
        return tf.nn.relu(outputs) if relu else outputs

    return [(backend, "convolve", convolve)]


def _gradient_in_loop():
    import tensorflow as tf

    from keras_neokd.backend import tensorflow

    def values_and_gradient(function, x):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            values, outputs = function(x)
        return values, tape.gradient(values, x), outputs

    return [(tensorflow, "_values_and_gradient", values_and_gradient)]


def _plain_image_convolution():
    import keras

    if keras.config.backend() == "torch":
        from torch.nn import functional

        from keras_neokd.backend.torch import cpu_convolution

        owner = cpu_convolution.ImageConvolution
        return [(owner, "apply", functional.conv2d)]
    from keras_neokd.backend import tensorflow

    def convolve_image(image, kernel):
        return keras.ops.conv(
            image, kernel, padding="valid", data_format="channels_last"
        )

    return [(tensorflow, "convolve_image", convolve_image)]


def _keras_convolution():
    from keras_neokd import backend
    from keras_neokd.backend import plain

    return [(backend, "convolution", plain.convolution)]


def _keras_pooling():
    from keras_neokd import backend
    from keras_neokd.backend import plain

    return [(backend, "pool", plain.pool)]


def _optimizer_built_in_step():
    import keras

    from keras_neokd.backend import tensorflow

    def make_train_function(self, force=False):
        return keras.Model.make_train_function(self, force)

    owner = tensorflow.TrainStep
    return [(owner, "make_train_function", make_train_function)]


def _plain_convolution():
    from jax import lax

    from keras_neokd.backend.jax import cpu_convolution

    def convolve(images, kernel, strides, padding):
        return lax.conv_general_dilated(
            images,
            kernel,
            strides,
            padding,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    return [(cpu_convolution, "convolve", convolve)]


OPTIMISATIONS = {
    "own_layers": Optimisation(
        "the candidates for all exits run through the whole network",
        "each runs the layers that its exit needs",
        _whole_network,
    ),
    "pass_per_exit": Optimisation(
        "the candidates for all exits share one staggered pass, as on "
        "accelerators",
        "on processors a pass per exit, whose batch fits better into caches",
        _one_pass,
    ),
    "merged": Optimisation(
        "layer by layer",
        "padding, batch norm and ReLU merged into convolutions, weights "
        "prepared once per attack",
        _layer_by_layer,
    ),
    "padding_apart": Optimisation(
        "convolutions that pad by themselves",
        "padding as an operation of its own, which leaves the gradient to "
        "oneDNN",
        _padding_in_convolution,
        backends=("tensorflow",),
        models=("msdnet_cifar10", "msdnet_cifar100"),
    ),
    "own_function": Optimisation(
        "the gradient within the attack's loop",
        "the gradient as a function of its own, which oneDNN's pass rewrites",
        _gradient_in_loop,
        backends=("tensorflow",),
    ),
    "image_convolution": Optimisation(
        "the framework's gradient of the first convolution",
        "a matrix product and a sum of shifted rows",
        _plain_image_convolution,
        backends=("tensorflow", "torch"),
        models=("small_cnn",),
    ),
    "pooling": Optimisation(
        "Keras' max pooling",
        "no copies under PyTorch; comparisons instead of XLA's gradient under "
        "JAX",
        _keras_pooling,
        backends=("jax", "torch"),
        models=("small_cnn",),
    ),
    "training_convolution": Optimisation(
        "Keras' `Conv2D` in the training pass",
        "`Convolution`, which makes no copies",
        _keras_convolution,
        backends=("torch",),
        models=("msdnet_cifar10", "msdnet_cifar100"),
    ),
    "built_optimizer": Optimisation(
        "the optimizer built within the first step, which is traced twice",
        "the optimizer built before it",
        _optimizer_built_in_step,
        backends=("tensorflow",),
    ),
    "no_xla": Optimisation(
        "`jit_compile=True` (XLA)",
        '`jit_compile="auto"`, which is without XLA on processors',
        backends=("tensorflow",),
        compile_options={"jit_compile": True},
    ),
    "cpu_convolution": Optimisation(
        "XLA's convolutions and their gradients",
        "forms of them that XLA runs fast on processors",
        _plain_convolution,
        backends=("jax",),
    ),
}


def take_out(name):
    """Put the plain way in the place of an optimisation, for good.

    Args:
        name: a key of `OPTIMISATIONS`.
    """
    for owner, attribute, replacement in OPTIMISATIONS[name].plain():
        setattr(owner, attribute, replacement)


@dataclasses.dataclass(frozen=True)
class OptimisationSettings(BaseSettings):
    """What one run of the comparison does.

    Args:
        models: names, keys of `WORKLOADS`.
        backends: names, keys of `BACKENDS`.
        optimisations: names, keys of `OPTIMISATIONS`.
        steps: timed steps of every contestant, >= 1.
        warmup: untimed steps after the first, >= 0.
        batch_size: images per step, >= 1.
        attack_steps: PGD steps, >= 1.
        threads: threads of every contestant; 0 for one per core.

    Raises:
        ValueError: if a name is unknown, a number out of range, or nothing
            is to be measured.
    """

    models: tuple = ("small_cnn", "msdnet_cifar10")
    backends: tuple = tuple(BACKENDS)
    optimisations: tuple = tuple(OPTIMISATIONS)
    steps: int = 10
    warmup: int = 2
    batch_size: int = 128
    attack_steps: int = 7
    threads: int = 0

    def __post_init__(self):
        known = {
            "models": WORKLOADS,
            "backends": BACKENDS,
            "optimisations": OPTIMISATIONS,
        }
        for name, names in known.items():
            self.check_names(name, getattr(self, name), names)
            if not getattr(self, name):
                raise ValueError(
                    f"`{name}` needs at least one name out of "
                    f"{', '.join(names)}; received none."
                )
        self.check_numbers(MINIMA)

    def contestants(self, model, backend):
        """Return the step as it is and its plainer forms, `Variant`s."""
        found = [
            name
            for name in self.optimisations
            if backend in OPTIMISATIONS[name].backends
            and model in OPTIMISATIONS[name].models
        ]
        return [Variant(backend, name) for name in (None, *found)]


@dataclasses.dataclass(frozen=True)
class Variant:
    """The step on one backend, as it is or without one optimisation.

    Attributes:
        framework: Keras' backend.
        without: key of `OPTIMISATIONS`; `None` for the step as it is.
    """

    framework: str
    without: str | None

    @property
    def name(self):
        """Key in the record, and in the name of the log."""
        suffix = "" if self.without is None else f"-without-{self.without}"
        return f"{self.framework}{suffix}"

    @property
    def label(self):
        """What messages show."""
        suffix = "" if self.without is None else f", without {self.without}"
        return f"{FRAMEWORK_NAMES[self.framework]}{suffix}"

    # What `processes.start` asks of a contestant.
    memory_format = None
    truncated = False
