"""JAX on CPUs: convolutions in the forms that XLA runs fast.

XLA for CPUs has fast kernels for plain convolutions and matrix products. The
gradient of a strided convolution and, inside loops, that of any convolution
miss them. The forms here give the same sums in a form that meets them.
"""

import functools
import itertools

import jax
import numpy as np
from jax import lax
from jax import numpy as jnp


def convolve(images, kernel, strides, padding):
    """Convolve images with a kernel that needs no gradient.

    Args:
        images: `(batch, height, width, channels)`.
        kernel: `(rows, columns, channels, filters)`; its gradient is zero.
        strides: pair of integers.
        padding: zeros to add, `((top, bottom), (left, right))`.

    Returns:
        `(batch, new height, new width, filters)`.
    """
    return _convolve(images, kernel, images.shape[1:3], strides, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(images, kernel, sizes, strides, padding):
    del sizes  # For the gradient, which needs no more of the images.
    window = (*kernel.shape[:2], *strides, *itertools.chain(*padding))
    if window == (1, 1, 1, 1, 0, 0, 0, 0):
        return images @ kernel[0, 0]
    return lax.conv_general_dilated(
        images,
        kernel,
        strides,
        padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )


def _forward(images, kernel, sizes, strides, padding):
    return _convolve(images, kernel, sizes, strides, padding), kernel


def _backward(sizes, strides, padding, kernel, gradient):
    gradient = _image_gradient(gradient, kernel, sizes, strides, padding)
    return gradient, jnp.zeros_like(kernel)


_convolve.defvjp(_forward, _backward)


def _image_gradient(gradient, kernel, sizes, strides, padding):
    """Return the gradient of the images, a convolution of stride 1.

    With stride `s` and padding `p` along an axis, pixel `s * q + a` is met by
    output `q + d` through tap `a + p - s * d`. So each of the `s` phases `a`
    is a convolution over `d` of its own; all phases are computed as channels
    of one, and then put in their places.
    """
    axes = [
        _Axis(*each)
        for each in zip(
            sizes,
            gradient.shape[1:3],
            kernel.shape[:2],
            strides,
            padding,
            strict=True,
        )
    ]
    rows, columns = axes
    channels, filters = kernel.shape[2:]
    # A tap that does not exist is the zero that is appended here.
    taps = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    taps = taps[rows.taps][:, :, columns.taps]
    # (d, a) of rows, (d, a) of columns, channels, filters.
    taps = taps.transpose(0, 2, 5, 1, 3, 4).reshape(
        len(rows.taps), len(columns.taps), filters, -1
    )
    # Otherwise XLA reads the old kernel in another order, which is slow.
    taps = lax.optimization_barrier(taps)
    phases = convolve(gradient, taps, (1, 1), (rows.padding, columns.padding))
    if strides == (1, 1):
        return phases
    batch, height, width, _ = phases.shape
    phases = phases.reshape(batch, height, width, *strides, channels)
    images = phases.transpose(0, 1, 3, 2, 4, 5).reshape(
        batch, height * strides[0], width * strides[1], channels
    )
    return images[:, : sizes[0], : sizes[1]]


class _Axis:
    """Taps and padding of the gradient along rows or columns."""

    def __init__(self, size, outputs, taps, stride, padding):
        before, _ = padding
        first = -((taps - 1 - before) // stride)
        last = (stride - 1 + before) // stride
        self.taps = np.array(
            [
                [
                    tap if 0 <= tap < taps else taps
                    for tap in range(
                        before - stride * d, before - stride * d + stride
                    )
                ]
                for d in range(first, last + 1)
            ]
        )
        quotients = -(-size // stride)
        self.padding = (-first, quotients - outputs + last)
