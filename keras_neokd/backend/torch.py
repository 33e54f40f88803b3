"""PyTorch: autograd, eager execution."""

from typing import Any

import keras
import torch
from torch.nn import functional

from keras_neokd.backend import plain
from keras_neokd.backend.kernels import torch_convolution
from keras_neokd.backend.plain import as_column
from keras_neokd.backend.plain import convolves_16_bits as convolves_16_bits
from keras_neokd.backend.plain import frozen_state as frozen_state
from keras_neokd.backend.plain import gather_processes as gather_processes
from keras_neokd.backend.plain import gather_replicas as gather_replicas
from keras_neokd.backend.plain import global_batch as global_batch
from keras_neokd.backend.plain import present
from keras_neokd.base.typing import Mixin


class TrainStep(Mixin):
    def train_step(self, data: Any) -> Any:
        """Train on one batch; called by Keras."""
        _check_gradients()
        with torch.no_grad():
            return self.training_step.run(data)

    def test_step(self, data: Any) -> Any:
        """Evaluate one batch; called by Keras."""
        with torch.inference_mode(False), torch.no_grad():
            return self.testing_step.run(_normal(data))


def update_weights(model, loss):
    model.zero_grad()
    with torch.enable_grad():
        result = loss()
        model.optimizer.scale_loss(result.loss).backward()
    weights = model.trainable_weights
    model.optimizer.apply([weight.value.grad for weight in weights], weights)
    return result


def value_gradient_and_outputs(function, x):
    _check_gradients()
    # Evaluation runs under no_grad, and backward() would add to the
    # gradients of the weights: hence enable_grad and autograd.grad.
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        values, outputs = function(x)
        gradient = _gradient(values, x)
    outputs = keras.tree.map_structure(lambda each: each.detach(), outputs)
    return values.detach(), gradient, outputs


def differentiable_input_gradient(function, x):
    _check_gradients()
    with torch.enable_grad():
        x = x.detach().requires_grad_(True)
        return _gradient(function(x), x, create_graph=True)


def _gradient(values, x, create_graph=False):
    gradient = None
    if values.requires_grad:
        (gradient,) = torch.autograd.grad(
            values.sum(), x, create_graph=create_graph, allow_unused=True
        )
    return present(gradient)


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


def call_with_factors(function, x, factors):
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
            present(None)
        context.inside = x, outputs, factors
        return tuple(each.detach() for each in outputs)

    @staticmethod
    def backward(context, *gradients):
        x, outputs, factors = context.inside
        factor = factors(gradients)
        gradients = [each * as_column(factor, each) for each in gradients]
        (gradient,) = torch.autograd.grad(outputs, x, gradients)
        return gradient / as_column(factor, gradient), None, None


def has_accelerator():
    return keras.ops.zeros(()).device.type != "cpu"


def compiles_shapes():
    return False


def placement():
    return None


def compile_function(function, variables):
    del variables

    def without_gradients(*arguments):
        with torch.inference_mode(False), torch.no_grad():
            return function(*_normal(arguments))

    return without_gradients


# There is one device.
compile_per_example = compile_function


def call_in_numpy(function, x, shape):
    outputs = function(x.detach().cpu().numpy())
    return torch.from_numpy(outputs).to(x.device).reshape(shape)


def convolve(images, kernel, bias, strides, padding, dilation, relu=False):
    outputs = torch_convolution.convolve(
        *_as_torch(images, kernel, bias, strides, padding, dilation)
    )
    if relu:
        # In place, for large results: asking for memory takes longer.
        outputs = functional.relu_(outputs)
    return outputs.permute(0, 2, 3, 1)


def convolution(images, kernel, strides, padding, dilation):
    # Keras' layers before may have brought them into another order.
    images = images.contiguous()
    outputs = functional.conv2d(
        *_as_torch(images, kernel, None, strides, padding, dilation)
    )
    return outputs.permute(0, 2, 3, 1)


def _as_torch(images, kernel, bias, strides, padding, dilation):
    """Return the arguments of `functional.conv2d`."""
    # Views: Keras copies images into this order of axes.
    images = images.permute(0, 3, 1, 2)
    groups = images.shape[1] // kernel.shape[2]
    if padding == "same":
        sizes, taps = images.shape[2:], kernel.shape[:2]
        padding = tuple(map(_same_padding, sizes, taps, strides, dilation))
    elif padding == "valid":
        padding = ((0, 0), (0, 0))
    if any(before != after for before, after in padding):
        (top, bottom), (left, right) = padding
        images = functional.pad(images, (left, right, top, bottom))
        padding = ((0, 0), (0, 0))
    return (
        images,
        kernel.permute(3, 2, 0, 1),
        bias,
        strides,
        [each for each, _ in padding],
        dilation,
        groups,
    )


def _same_padding(size, taps, stride, dilation):
    """Return the zeros before and after, as TensorFlow's "same" has them."""
    outputs = -(-size // stride)
    total = max(0, (outputs - 1) * stride + dilation * (taps - 1) + 1 - size)
    return total // 2, total - total // 2


def pool(images, size, strides, mode):
    # Keras copies images into another order of axes, on which PyTorch's
    # pooling, and the convolutions before and after, take several times as
    # long.
    pool = {"max": functional.max_pool2d, "average": functional.avg_pool2d}
    images = images.permute(0, 3, 1, 2)
    return pool[mode](images, size, strides).permute(0, 2, 3, 1)


def batch_norm(images, scale, offset, epsilon):
    if not epsilon:  # Of a constant channel, nothing is left to divide by.
        return plain.batch_norm(images, scale, offset, epsilon)
    # Keras' form took three to four times as long on processors.
    outputs, mean, inverse = torch.native_batch_norm(
        images.permute(0, 3, 1, 2),
        scale,
        offset,
        None,
        None,
        True,
        0.0,
        epsilon,
    )
    # What it was made from, up to rounding.
    variance = (inverse**-2 - epsilon).clamp_min(0)
    return outputs.permute(0, 2, 3, 1), mean, variance
