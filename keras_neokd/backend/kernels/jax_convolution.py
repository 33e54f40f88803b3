"""Convolve with operations that XLA has fast kernels for on processors.

These are plain convolutions and matrix products. The gradient of a strided
convolution and, inside loops, that of any convolution fall back to slow
kernels.
"""

import functools
import itertools

import jax
import keras
import numpy as np
from jax import lax
from jax import numpy as jnp

# Images have at most this many channels.
_FEW_CHANNELS = 3
# From here on, parts of a batch are faster than the whole; bytes of windows.
_MANY_CHANNELS, _LARGE, _PART, _FEWEST = 32, 8e6, 5e6, 4


def convolve(images, kernel, strides, padding):
    """Convolve images with a kernel whose gradient is zero.

    Args:
        images, kernel, strides: as in `backend.convolve`, without groups.
        padding: zeros to add, `((top, bottom), (left, right))`.
    """
    return _convolve(images, kernel, images.shape[1:3], strides, padding)


@functools.partial(jax.custom_vjp, nondiff_argnums=(2, 3, 4))
def _convolve(images, kernel, sizes, strides, padding):
    del sizes  # For the gradient, which needs no more of the images.
    window = (*kernel.shape[:2], *strides, *itertools.chain(*padding))
    if window == (1, 1, 1, 1, 0, 0, 0, 0):
        return images @ kernel[0, 0]
    convolve = functools.partial(
        lax.conv_general_dilated,
        rhs=kernel,
        window_strides=strides,
        padding=padding,
        dimension_numbers=("NHWC", "HWIO", "NHWC"),
    )
    size = _images_at_once(images, kernel, strides, padding)
    if size == len(images):
        return convolve(images)
    parts = images.reshape(-1, size, *images.shape[1:])
    outputs = lax.map(convolve, parts)
    return outputs.reshape(-1, *outputs.shape[2:])


def _images_at_once(images, kernel, strides, padding):
    """Return how many images to convolve at once: a divisor of the batch.

    XLA writes down the windows of all images before it multiplies, and asks
    the system for that memory each time: large ones take several times as long
    as several small ones. Images of few channels gain nothing.
    """
    batch, *sizes, channels = images.shape
    outputs = [
        (size + sum(zeros) - taps) // stride + 1
        for size, zeros, taps, stride in zip(
            sizes, padding, kernel.shape[:2], strides, strict=True
        )
    ]
    window = 4 * np.prod([*outputs, *kernel.shape[:3]])
    is_spread = keras.distribution.distribution() is not None
    if is_spread or channels < _MANY_CHANNELS or batch * window <= _LARGE:
        return batch
    fitting = [
        size
        for size in range(1, batch + 1)
        if batch % size == 0 and size * window <= _PART
    ]
    # Batches with hardly a divisor stay whole.
    return fitting[-1] if fitting and fitting[-1] >= _FEWEST else batch


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
    if kernel.shape[2] <= _FEW_CHANNELS:
        return _gradient_of_few(gradient, kernel, sizes, strides, padding)
    outputs, taps = gradient.shape[1:3], kernel.shape[:2]
    rows, columns = map(_Axis, sizes, outputs, taps, strides, padding)
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


def _gradient_of_few(gradient, kernel, sizes, strides, padding):
    """Return the gradient of images with few channels.

    A matrix product gives what each output adds to each place of its window;
    the results of each tap are then moved there.
    """
    rows, columns, channels, filters = kernel.shape
    taps = gradient.reshape(-1, filters) @ kernel.reshape(-1, filters).T
    taps = taps.reshape(*gradient.shape[:3], rows, columns, channels)
    whole = [
        size + sum(zeros) for size, zeros in zip(sizes, padding, strict=True)
    ]

    def along(axis, tap):
        end = whole[axis] - tap - strides[axis] * (taps.shape[axis + 1] - 1) - 1
        return tap, end, strides[axis] - 1

    images = sum(
        lax.pad(
            taps[:, :, :, row, column],
            jnp.zeros((), taps.dtype),
            ((0, 0, 0), along(0, row), along(1, column), (0, 0, 0)),
        )
        for row in range(rows)
        for column in range(columns)
    )
    (top, _), (left, _) = padding
    return images[:, top : top + sizes[0], left : left + sizes[1]]


class _Axis:
    """Taps and padding of the gradient along rows or columns."""

    def __init__(self, size, outputs, taps, stride, padding):
        before, _ = padding
        first = -((taps - 1 - before) // stride)
        last = (stride - 1 + before) // stride
        places = np.arange(first, last + 1)[:, None]
        tap = before + np.arange(stride) - stride * places
        self.taps = np.where((0 <= tap) & (tap < taps), tap, taps)
        self.padding = (-first, -(-size // stride) - outputs + last)
