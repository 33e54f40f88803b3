"""Hold the only framework code of the library: one module per Keras backend.

Each module offers the functions below and `TrainStep`; this file is their one
description. `plain` holds what Keras does well enough, `kernels` replaces forms
that a framework is slow at, `precision` is for layers that compute in 16
bits, `speed` tells which precision is fast.
"""

import importlib
from typing import Any

import keras

_NAME = keras.config.backend()
if _NAME not in ("tensorflow", "jax", "torch"):
    raise ImportError(
        "keras_neokd trains with the Keras backends tensorflow, jax and "
        f"torch; KERAS_BACKEND is {_NAME!r}."
    )
_own: Any = importlib.import_module(f"keras_neokd.backend.{_NAME}")


class TrainStep(_own.TrainStep):
    """Mixin of `keras.Model`: Keras' `train_step` and `test_step`.

    They hand the state of Keras' loop over to `training_step.run(data)` and
    `testing_step.run(data)` of the model, see `training.step`.
    """


def update_weights(model, loss):
    """Differentiate a loss, update the weights, and return the loss' result.

    Args:
        model: a compiled `keras.Model`, within its `train_step`.
        loss: function without arguments; the attribute `loss` of its result
            is the scalar to differentiate.
    """
    return _own.update_weights(model, loss)


# Gradients of images. If none reaches them, JAX calls it zero, and the others
# raise a ValueError.


def value_and_input_gradient(function, x):
    """Return per-example values `(batch,)`, and the gradient of their sum.

    Args:
        function: maps images `(batch, ...)` to values `(batch,)`.
        x: images.
    """
    return value_gradient_and_outputs(lambda x: (function(x), ()), x)[:2]


def value_gradient_and_outputs(function, x):
    """Return values, the gradient of their sum, and other outputs.

    None of them carries a gradient under PyTorch.

    Args:
        function: maps images `(batch, ...)` to a tuple: values `(batch,)`,
            and a structure of tensors to hand on.
        x: images.
    """
    return _own.value_gradient_and_outputs(function, x)


def differentiable_input_gradient(function, x):
    """Return the input gradient, differentiable with respect to weights.

    Args:
        function, x: as in `value_and_input_gradient`.
    """
    return _own.differentiable_input_gradient(function, x)


def call_with_factors(function, x, factors):
    """Call a function and rescale its gradient for each example.

    Args:
        function: maps `(batch, ...)` to a tuple of tensors `(batch, k)`.
        x: tensor `(batch, ...)`; nothing else gets a gradient.
        factors: function of the gradients of the outputs, a tuple; returns
            `(batch,)`, what to multiply them with on the way back. The
            gradient of `x` is divided by it again.
    """
    return _own.call_with_factors(function, x, factors)


# State, devices and compiled functions.


def frozen_state(variables, noise=None):
    """Return a scope that discards every change of variables.

    Args:
        variables: all variables that code in the scope may read.
        noise: integer that numbers what random layers draw, or `None` for
            what they would draw next.
    """
    return _own.frozen_state(variables, noise)


def global_batch(local_size):
    """Return the place `(offset, global_size)` of a replica's examples.

    JAX compiles a step for the global batch, and PyTorch trains on one
    device: both are the only replica.

    Args:
        local_size: number of examples on this replica.
    """
    return _own.global_batch(local_size)


def gather_replicas(x):
    """Return a tensor of the rows of all replicas, the same on each of them.

    Gradients flow back to each replica.

    Args:
        x: tensor `(batch, ...)` of this replica.
    """
    return _own.gather_replicas(x)


def gather_processes(values):
    """Return the values of every process, a tensor `(processes, n)`.

    All processes call it at the same place; only JAX trains in several. The
    device may still be at work on the tensor.

    Args:
        values: int32 array `(n,)` of this process.
    """
    return _own.gather_processes(values)


def has_accelerator():
    """Return whether computation runs on something else than processors."""
    return _own.has_accelerator()


def convolves_16_bits():
    """Return whether convolutions in 16 bits run in 16 bits.

    If not, the convolutions of the library take and give numbers of 16 bits
    and compute in float32. That is so for JAX on processors, whose kernels
    for 16 bits take five times as long as those for float32.
    """
    return _own.convolves_16_bits()


def compiles_shapes():
    """Return whether each shape of arrays is compiled anew.

    PyTorch runs functions as they are, so batches need no filling up.
    """
    return _own.compiles_shapes()


def placement():
    """Return the object that says where compiled functions run, or `None`."""
    return _own.placement()


def compile_function(function, variables):
    """Compile a function of tensors; PyTorch runs it as it is.

    Args:
        function: function of tensors.
        variables: all variables it reads; it must not change any.
    """
    return _own.compile_function(function, variables)


def call_in_numpy(function, x, shape):
    """Call a function of an array, also within a compiled function.

    Args:
        function: maps a NumPy array to a float32 one; nothing of it carries
            a gradient.
        x: tensor of any type.
        shape: of the result.
    """
    return _own.call_in_numpy(function, x, shape)


def compile_per_example(function, variables):
    """Compile a function of examples; devices share each batch.

    Args:
        function: function of tensors with one row per example, or scalars;
            returns tensors with one row per example, none of which depends
            on other examples.
        variables: all variables it reads; it must not change any.
    """
    return _own.compile_per_example(function, variables)


# Layers.


def convolution(images, kernel, strides, padding, dilation):
    """Convolve images with weights that are trained.

    Args:
        images: `(batch, height, width, channels)`.
        kernel: `(rows, columns, channels / groups, filters)`.
        strides: pair of integers.
        padding: `"valid"` or `"same"`.
        dilation: pair of integers.
    """

    def convolve(images, kernel):
        return _own.convolution(images, kernel, strides, padding, dilation)

    return _in_fast_precision(convolve, images, kernel)


def convolve(images, kernel, bias, strides, padding, dilation, relu=False):
    """Convolve images with weights that need no gradient, and add a bias.

    Args:
        images, kernel, strides, dilation: as in `convolution`.
        bias: `(filters,)`.
        padding: `"valid"`, `"same"`, or zeros to add as
            `((top, bottom), (left, right))`.
        relu: whether negative results become 0. Defaults to False.
    """

    def convolve(*tensors):
        return _own.convolve(*tensors, strides, padding, dilation, relu)

    return _in_fast_precision(convolve, images, kernel, bias)


def _in_fast_precision(convolve, *tensors):
    dtype = keras.backend.standardize_dtype(tensors[0].dtype)
    if dtype not in ("bfloat16", "float16") or convolves_16_bits():
        return convolve(*tensors)
    outputs = convolve(*(keras.ops.cast(each, "float32") for each in tensors))
    return keras.ops.cast(outputs, dtype)


def pool(images, size, strides, mode):
    """Pool images over windows, without padding.

    Of equal maxima the first one of a window gets the gradient.

    Args:
        images: `(batch, height, width, channels)`.
        size: rows and columns of a window.
        strides: pair of integers.
        mode: `"max"` or `"average"`.
    """
    return _own.pool(images, size, strides, mode)


def batch_norm(images, scale, offset, epsilon):
    """Normalize images by the mean and variance of their batch.

    Args:
        images: `(batch, rows, columns, channels)`, float32 or float64.
        scale, offset: `(channels,)`, what the results are multiplied with and
            what is added then.
        epsilon: number that is added to the variance.

    Returns:
        Tuple of the results, the mean and the variance `(channels,)`; only
        the results carry a gradient.
    """
    return _own.batch_norm(images, scale, offset, epsilon)
