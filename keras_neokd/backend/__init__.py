"""The only framework code of the library: one module per Keras backend.

Each module offers the functions below and `TrainStep`; what they do is said
here, once. `plain` holds what Keras does well enough, `kernels` replaces forms
that a framework is slow at, `precision` is for layers that compute in 16 bits.
"""

import importlib

import keras

_NAME = keras.config.backend()
if _NAME not in ("tensorflow", "jax", "torch"):
    raise ImportError(
        "keras_neokd trains with the Keras backends tensorflow, jax and "
        f"torch; KERAS_BACKEND is {_NAME!r}."
    )
_own = importlib.import_module(f"keras_neokd.backend.{_NAME}")


class TrainStep(_own.TrainStep):
    """Mixin of `keras.Model`: Keras' `train_step` and `test_step`.

    They hand the state of Keras' loop over to `training_step.run(data)` and
    `testing_step.run(data)` of the model, see `training.step`.
    """


def update_weights(model, loss):
    """Differentiate a loss, and move the weights of a model.

    It is called within Keras' `train_step`.

    Args:
        model: a compiled `keras.Model`.
        loss: function without arguments; the attribute `loss` of its result
            is the scalar to differentiate.

    Returns:
        The result.
    """
    return _own.update_weights(model, loss)


# Gradients with respect to images. Except on JAX, which calls it zero, they
# raise a ValueError if no gradient reaches the images.


def value_and_input_gradient(function, x):
    """Return per-example values and the gradient of their sum.

    Args:
        function: maps images `(batch, ...)` to values `(batch,)`.
        x: images.

    Returns:
        Tuple of values `(batch,)` and gradient of the shape of `x`.
    """
    return value_gradient_and_outputs(lambda x: (function(x), ()), x)[:2]


def value_gradient_and_outputs(function, x):
    """Return values, the gradient of their sum, and other outputs.

    Args:
        function: maps images `(batch, ...)` to a tuple: values `(batch,)`,
            and a structure of tensors to hand on.
        x: images.

    Returns:
        Tuple of values `(batch,)`, gradient of the shape of `x`, and the
        structure; none of them carries a gradient under PyTorch.
    """
    return _own.value_gradient_and_outputs(function, x)


def differentiable_input_gradient(function, x):
    """Return a gradient whose own gradient can reach the weights.

    Args:
        function: maps images `(batch, ...)` to values `(batch,)`.
        x: images.

    Returns:
        Gradient of the sum of the values, of the shape of `x`.
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

    Returns:
        The tuple.
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
    """Return the place of this replica's examples in the global batch.

    JAX compiles a step for the global batch, and PyTorch trains on one
    device: both are the only replica.

    Args:
        local_size: number of examples on this replica.

    Returns:
        Tuple of integers or scalar tensors `(offset, global_size)`.
    """
    return _own.global_batch(local_size)


def gather_replicas(x):
    """Return the rows of all replicas; gradients flow back to each.

    Args:
        x: tensor `(batch, ...)` of this replica.

    Returns:
        `(global batch, ...)`.
    """
    return _own.gather_replicas(x)


def gather_processes(values):
    """Return what every process gives; all have to call it at the same place.

    Only JAX trains in several processes.

    Args:
        values: int32 array `(n,)` of this process.

    Returns:
        Tensor `(processes, n)`. The device may still be at work on it.
    """
    return _own.gather_processes(values)


def has_accelerator():
    """Tell whether computation runs on something else than processors."""
    return _own.has_accelerator()


def compile_function(function, variables):
    """Compile a function of tensors; PyTorch runs it as it is.

    Args:
        function: function of tensors.
        variables: all variables it reads; it must not change any.
    """
    return _own.compile_function(function, variables)


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

    Returns:
        `(batch, new height, new width, filters)`.
    """
    return _own.convolution(images, kernel, strides, padding, dilation)


def convolve(images, kernel, bias, strides, padding, dilation, relu=False):
    """Convolve images with weights that need no gradient, and add a bias.

    Args:
        images, kernel, strides, dilation: as in `convolution`.
        bias: `(filters,)`.
        padding: `"valid"`, `"same"`, or zeros to add as
            `((top, bottom), (left, right))`.
        relu: whether negative results become 0. Defaults to False.

    Returns:
        `(batch, new height, new width, filters)`.
    """
    return _own.convolve(images, kernel, bias, strides, padding, dilation, relu)


def pool(images, size, strides, mode):
    """Pool images over windows, without padding.

    Args:
        images: `(batch, height, width, channels)`.
        size: rows and columns of a window.
        strides: pair of integers.
        mode: `"max"` or `"average"`.

    Returns:
        `(batch, new height, new width, channels)`. Of equal maxima the first
        one of a window gets the gradient.
    """
    return _own.pool(images, size, strides, mode)
