"""PyTorch: autograd, eager execution."""

import keras
import torch
from torch.nn import functional

from keras_neokd import randomness
from keras_neokd.backend.torch import cpu_convolution

# Those of images.
_FEW_CHANNELS = 3


def value_and_input_gradient(function, x):
    """Return per-example values and the gradient of their sum.

    Args:
        function: maps images `(batch, ...)` to values `(batch,)`.
        x: images.

    Returns:
        Tuple of values `(batch,)` and gradient of the shape of `x`.

    Raises:
        ValueError: if no gradient reaches the images.
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
        structure; none of them carries a gradient.

    Raises:
        ValueError: if no gradient reaches the images.
    """
    _check_gradients()
    # Evaluation runs under no_grad, and backward() would add to the
    # gradients of the weights: hence enable_grad and autograd.grad.
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        values, outputs = function(x)
        if not values.requires_grad:
            raise ValueError(_NO_GRADIENT)
        (gradient,) = torch.autograd.grad(values.sum(), x, allow_unused=True)
    if gradient is None:
        raise ValueError(_NO_GRADIENT)
    outputs = keras.tree.map_structure(lambda each: each.detach(), outputs)
    return values.detach(), gradient, outputs


_NO_GRADIENT = (
    "No gradient reaches the images, so an attack would not move them and "
    "there is nothing to align. Look for rounding, casting to integers or "
    "stop_gradient in the model."
)


def _check_gradients():
    if torch.is_inference_mode_enabled():
        raise ValueError(
            "Gradients are needed, and within torch.inference_mode() there "
            "are none: call this outside of it, or within torch.no_grad(), "
            "which gives the same numbers. Evaluation leaves it by itself."
        )


def _normal(structure):
    """Return copies of what torch.inference_mode() made, for gradients."""
    return keras.tree.map_structure(
        lambda each: (
            each.clone()
            if isinstance(each, torch.Tensor) and each.is_inference()
            else each
        ),
        structure,
    )


def differentiable_input_gradient(function, x):
    """Return the gradient of per-example values, to be differentiated again.

    Args:
        function: maps images `(batch, ...)` to values `(batch,)`.
        x: images.

    Returns:
        Gradient of the sum of the values, of the shape of `x`. A loss made
        from it has a gradient with respect to the weights.

    Raises:
        ValueError: if no gradient reaches the images.
    """
    _check_gradients()
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        values = function(x)
        if not values.requires_grad:
            raise ValueError(_NO_GRADIENT)
        (gradient,) = torch.autograd.grad(
            values.sum(), x, create_graph=True, allow_unused=True
        )
    if gradient is None:
        raise ValueError(_NO_GRADIENT)
    return gradient


def call_with_factors(function, x, factors):
    """Call a function whose gradient is computed at another scale.

    Args:
        function: maps `(batch, ...)` to a tuple of tensors `(batch, k)`.
        x: tensor `(batch, ...)`; nothing else gets a gradient.
        factors: function of the gradients of the outputs, a tuple; returns
            `(batch,)`, what to multiply them with on the way back. The
            gradient of `x` is divided by it again.

    Returns:
        The tuple.
    """
    return _Rescaled.apply(x, function, factors)


class _Rescaled(torch.autograd.Function):
    @staticmethod
    def forward(context, x, function, factors):
        if not context.needs_input_grad[0]:
            return function(x)
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            outputs = function(x)
        if not all(each.requires_grad for each in outputs):
            raise ValueError(_NO_GRADIENT)
        context.inside = x, outputs, factors
        return tuple(each.detach() for each in outputs)

    @staticmethod
    def backward(context, *gradients):
        x, outputs, factors = context.inside
        factor = factors(gradients)
        (gradient,) = torch.autograd.grad(
            outputs,
            x,
            [each * _as_column(factor, each) for each in gradients],
        )
        return gradient / _as_column(factor, gradient), None, None


def _as_column(factor, x):
    return factor.reshape((-1,) + (1,) * (x.ndim - 1))


def frozen_state(variables, noise=None):
    """Return a scope that discards every change of variables.

    Args:
        variables: all variables that code in the scope may read.
        noise: integer that numbers what random layers draw, or `None` for
            what they would draw next.
    """
    # Unlike in JAX, variables that are not listed keep their own values.
    seeds = [] if noise is None else randomness.moved_seeds(variables, noise)
    return keras.StatelessScope(seeds, initialize_variables=False)


def global_batch(local_size):
    """Return the offset of this replica's examples and the global size.

    Args:
        local_size: number of examples of the batch.

    Returns:
        `(0, local_size)`: this backend trains on one device.
    """
    return 0, local_size


def gather_replicas(x):
    """Return the rows of all replicas; gradients flow back to each.

    Args:
        x: tensor `(batch, ...)` of this replica.

    Returns:
        `x`: this backend trains on one device.
    """
    return x


def gather_processes(values):
    """Return what every process gives.

    Args:
        values: int32 array `(n,)` of this process.

    Returns:
        Array `(1, n)`: this backend trains in one process.
    """
    return values[None]


def has_accelerator():
    """Whether computation runs on something else than processors."""
    return keras.ops.zeros(()).device.type != "cpu"


def compile_function(function, variables):
    """Return the function: PyTorch runs eagerly.

    Args:
        function: function of tensors.
        variables: all variables it reads.
    """
    del variables

    def without_gradients(*arguments):
        with torch.inference_mode(False), torch.no_grad():
            return function(*_normal(arguments))

    return without_gradients


def compile_per_example(function, variables):
    """Return the function, as `compile_function`: there is one device.

    Args:
        function: function of tensors with one row per example, or scalars.
        variables: all variables it reads.
    """
    return compile_function(function, variables)


def convolve(images, kernel, bias, strides, padding, dilation, relu=False):
    """Convolve images with weights that need no gradient, and add a bias.

    Args:
        images: `(batch, height, width, channels)`.
        kernel: `(rows, columns, channels / groups, filters)`.
        bias: `(filters,)`.
        strides: pair of integers.
        padding: `"valid"`, `"same"`, or zeros to add as
            `((top, bottom), (left, right))`.
        dilation: pair of integers.
        relu: whether negative results become 0. Defaults to False.

    Returns:
        `(batch, new height, new width, filters)`.
    """
    images, kernel, padding = _channels_first(
        images, kernel, strides, padding, dilation
    )
    groups = images.shape[1] // kernel.shape[1]
    if (
        images.shape[1] <= _FEW_CHANNELS
        and images.device.type == "cpu"
        and (groups, *dilation) == (1, 1, 1)
    ):
        outputs = cpu_convolution.ImageConvolution.apply(
            images, kernel, bias, strides, padding
        )
    else:
        outputs = functional.conv2d(
            images, kernel, bias, strides, padding, dilation, groups
        )
    if relu:
        # In place, for large results: asking for memory takes longer.
        outputs = functional.relu_(outputs)
    return outputs.permute(0, 2, 3, 1)


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
    images, kernel, padding = _channels_first(
        images, kernel, strides, padding, dilation
    )
    groups = images.shape[1] // kernel.shape[1]
    # Keras' layers before may have brought them into another order.
    images = images.contiguous(memory_format=torch.channels_last)
    outputs = functional.conv2d(
        images, kernel, None, strides, padding, dilation, groups
    )
    return outputs.permute(0, 2, 3, 1)


def _channels_first(images, kernel, strides, padding, dilation):
    """Return views of images and kernel, and zeros to add on both sides."""
    images = images.permute(0, 3, 1, 2)
    if padding == "same":
        padding = tuple(
            _same_padding(*sizes)
            for sizes in zip(
                images.shape[2:],
                kernel.shape[:2],
                strides,
                dilation,
                strict=True,
            )
        )
    elif padding == "valid":
        padding = ((0, 0), (0, 0))
    if any(before != after for before, after in padding):
        (top, bottom), (left, right) = padding
        images = functional.pad(images, (left, right, top, bottom))
        padding = ((0, 0), (0, 0))
    return images, kernel.permute(3, 2, 0, 1), [each for each, _ in padding]


def _same_padding(size, taps, stride, dilation):
    """Return the zeros before and after, as TensorFlow's "same" has them."""
    outputs = -(-size // stride)
    total = max(0, (outputs - 1) * stride + dilation * (taps - 1) + 1 - size)
    return total // 2, total - total // 2


def pool(images, size, strides, mode):
    """Pool images over windows, without padding.

    Args:
        images: `(batch, height, width, channels)`.
        size: rows and columns of a window.
        strides: pair of integers.
        mode: `"max"` or `"average"`.

    Returns:
        `(batch, new height, new width, channels)`.
    """
    # Keras copies images into another order of axes, on which PyTorch's
    # pooling, and the convolutions before and after, take several times as
    # long.
    pool = {"max": functional.max_pool2d, "average": functional.avg_pool2d}
    images = images.permute(0, 3, 1, 2)
    return pool[mode](images, size, strides).permute(0, 2, 3, 1)


def convolve_image(image, kernel):
    """Convolve one-channel images: stride 1, no padding.

    Args:
        image: `(batch, height, width, 1)`.
        kernel: `(rows, columns, 1, filters)`.

    Returns:
        `(batch, height - rows + 1, width - columns + 1, filters)`.
    """
    kernel = keras.ops.convert_to_tensor(kernel)
    return convolution(image, kernel, (1, 1), "valid", (1, 1))


class TrainStep:
    """Mixin: Keras' steps for this backend, from `training.Trainer`'s parts."""

    def train_step(self, data):
        """Craft, differentiate, update, log: one batch."""
        _check_gradients()
        batch = self._batch(data, self._train_index)
        with torch.no_grad():
            adversarial, info = self._craft_for_training(batch)
        self.zero_grad()
        result = self._objective(batch, adversarial)
        self.optimizer.scale_loss(result.loss).backward()
        weights = self.trainable_weights
        gradients = [weight.value.grad for weight in weights]
        with torch.no_grad():
            self.optimizer.apply(gradients, weights)
            return self._log_training(batch, result, info)

    def test_step(self, data):
        """Evaluate one batch, clean or under the validation attack."""
        with torch.inference_mode(False), torch.no_grad():
            return self._evaluate(self._batch(_normal(data), self._test_index))
