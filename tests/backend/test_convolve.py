"""Convolutions of frozen networks, beside sums written out in NumPy."""

import numpy as np
import pytest
from keras import ops

from keras_neokd import backend
from tests import arrays

SIZE = (9, 8)
TAPS = [(1, 1), (3, 3), (5, 2)]
STRIDES = [(1, 1), (2, 2), (2, 3)]
PADDINGS = [
    "valid",
    "same",
    ((1, 1), (1, 1)),
    ((0, 1), (2, 0)),
    ((3, 3), (3, 3)),
]


def zeros_to_add(padding, sizes, taps, strides):
    """Return the zeros before and after, for rows and for columns."""
    if padding == "valid":
        return ((0, 0), (0, 0))
    if padding != "same":
        return padding
    pairs = []
    for size, tap, stride in zip(sizes, taps, strides, strict=True):
        total = max(0, (-(-size // stride) - 1) * stride + tap - size)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)


def windows(images, taps, strides, padding):
    """Return `(batch, height, width, rows, columns, channels)`."""
    zeros = zeros_to_add(padding, images.shape[1:3], taps, strides)
    padded = np.pad(images, ((0, 0), *zeros, (0, 0)))
    found = np.lib.stride_tricks.sliding_window_view(padded, taps, (1, 2))
    found = found[:, :: strides[0], :: strides[1]]
    return np.moveaxis(found, 3, -1)


def convolved(images, kernel, strides, padding):
    """Sum the products of windows and kernel."""
    return np.einsum(
        "nhwrsc,rsco->nhwo",
        windows(images, kernel.shape[:2], strides, padding),
        kernel,
    )


def image_gradient(weights, images, kernel, strides, padding):
    """Return the gradient of the weighted sum of the outputs."""
    batch, *shape = images.shape
    # Convolution is linear: its matrix has the images of unit vectors.
    units = np.eye(np.prod(shape), dtype="float32").reshape(-1, *shape)
    matrix = convolved(units, kernel, strides, padding)
    gradient = np.einsum("nhwo,bhwo->bn", matrix, weights)
    return gradient.reshape(batch, *shape)


def value_and_gradient(outputs, images, weights):
    """Outputs, and the gradient of their weighted sum, as arrays."""
    images, weights = arrays.tensor(images), arrays.tensor(weights)
    gradient = backend.value_and_input_gradient(
        lambda x: ops.sum(outputs(x) * weights, axis=(1, 2, 3)), images
    )[1]
    return arrays.array(outputs(images)), arrays.array(gradient)


def convolution(kernel, bias, strides=(1, 1), padding="valid", **named):
    kernel, bias = arrays.tensor(kernel), arrays.tensor(bias)
    return lambda images: backend.convolve(
        images, kernel, bias, strides, padding, (1, 1), **named
    )


# Images of one or three channels may take another way than those of more.
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("padding", PADDINGS, ids=str)
@pytest.mark.parametrize("strides", STRIDES, ids=str)
def test_values_and_gradients(strides, padding, channels):
    rng = np.random.default_rng(0)
    for taps in TAPS:
        images = rng.normal(size=(2, *SIZE, channels)).astype("float32")
        kernel = rng.normal(size=(*taps, channels, 5)).astype("float32")
        bias = rng.normal(size=5).astype("float32")
        expected = convolved(images, kernel, strides, padding)
        weights = rng.normal(size=expected.shape).astype("float32")
        outputs = convolution(kernel, bias, strides, padding)
        value, gradient = value_and_gradient(outputs, images, weights)
        arrays.close(value, expected + bias, rtol=1e-4, atol=1e-4)
        expected = image_gradient(weights, images, kernel, strides, padding)
        arrays.close(gradient, expected, rtol=1e-4, atol=1e-4)


def test_dilation_and_groups():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 9, 8, 4)).astype("float32")
    kernel = rng.normal(size=(3, 2, 2, 6)).astype("float32")
    padding = ((2, 1), (0, 1))
    given = map(arrays.tensor, (images, kernel, np.zeros(6)))
    result = backend.convolve(*given, (1, 1), padding, (2, 3))
    # The same kernel with the zeros between its taps written out.
    spread = np.zeros((5, 4, 2, 6), "float32")
    spread[::2, ::3] = kernel
    halves = [
        convolved(images[..., :2], spread[..., :3], (1, 1), padding),
        convolved(images[..., 2:], spread[..., 3:], (1, 1), padding),
    ]
    expected = np.concatenate(halves, axis=-1)
    arrays.close(result, expected, rtol=1e-4, atol=1e-4)


def test_relu_hides_what_is_negative():
    rng = np.random.default_rng(0)
    images, kernel, bias, weights = (
        rng.normal(size=shape).astype("float32")
        for shape in ((2, 9, 8, 3), (3, 3, 3, 4), (4,), (2, 7, 6, 4))
    )
    outputs = convolution(kernel, bias, relu=False)
    with_relu = convolution(kernel, bias, relu=True)
    plain = arrays.array(outputs(arrays.tensor(images)))
    mask = plain > 0
    _, expected = value_and_gradient(outputs, images, weights * mask)
    received, gradient = value_and_gradient(with_relu, images, weights)
    arrays.close(received, np.maximum(plain, 0), atol=1e-6)
    arrays.close(gradient, expected, atol=1e-4)


@pytest.mark.parametrize("mode", ["max", "average"])
@pytest.mark.parametrize("strides", [(3, 2), (2, 3)], ids=str)
def test_poolings(mode, strides):
    size = (2, 3)
    images = np.random.default_rng(0).normal(size=(2, 9, 8, 3))
    images = images.astype("float32")
    # Equal ones: the first of them gets the gradient.
    images[:, 2:6, 3:6] = 5.0
    found = windows(images, size, strides, "valid")
    *shape, rows, columns, channels = found.shape
    flat = found.reshape(*shape, rows * columns, channels)
    expected = {"max": flat.max(3), "average": flat.mean(3)}[mode]
    weights = np.random.default_rng(1).normal(size=expected.shape)
    expected_gradient = np.zeros(images.shape)
    for at in np.ndindex(expected.shape):
        example, row, column, channel = at
        window = flat[example, row, column, :, channel]
        shares = np.full(len(window), 1 / len(window))
        if mode == "max":
            shares = np.eye(len(window))[window.argmax()]
        expected_gradient[
            example,
            row * strides[0] : row * strides[0] + rows,
            column * strides[1] : column * strides[1] + columns,
            channel,
        ] += weights[at] * shares.reshape(rows, columns)
    received, gradient = value_and_gradient(
        lambda x: backend.pool(x, size, strides, mode), images, weights
    )
    arrays.close(received, expected, atol=1e-6)
    arrays.close(gradient, expected_gradient, atol=1e-5)


@pytest.mark.parametrize("batch", [30, 31])
def test_large_batches(batch):
    # 31 has no divisors, so that parts of it are not equal.
    rng = np.random.default_rng(0)
    images = rng.normal(size=(batch, 18, 17, 33)).astype("float32")
    kernel = rng.normal(size=(3, 3, 33, 5)).astype("float32")
    weights = rng.normal(size=(batch, 16, 15, 5)).astype("float32")
    expected = convolved(images, kernel, (1, 1), "valid")
    outputs = convolution(kernel, np.zeros(5))
    value, gradient = value_and_gradient(outputs, images, weights)
    arrays.close(value, expected, rtol=1e-4, atol=1e-3)
    # As examples do not see each other, also in a small batch.
    alone = [
        value_and_gradient(outputs, images[i : i + 1], weights[i : i + 1])[1]
        for i in range(batch)
    ]
    arrays.close(gradient, np.concatenate(alone), rtol=1e-4, atol=1e-4)
