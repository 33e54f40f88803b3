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

        def outputs(images, kernel=kernel, bias=bias):
            return backend.convolve(
                images,
                ops.convert_to_tensor(kernel),
                ops.convert_to_tensor(bias),
                strides,
                padding,
                (1, 1),
            )

        def weighted_sum(images, outputs=outputs, weights=weights):
            weights = ops.convert_to_tensor(weights)
            return ops.sum(outputs(images) * weights, axis=(1, 2, 3))

        arrays.close(
            outputs(ops.convert_to_tensor(images)),
            expected + bias,
            rtol=1e-4,
            atol=1e-4,
        )
        _, gradient = backend.value_and_input_gradient(
            weighted_sum, ops.convert_to_tensor(images)
        )
        arrays.close(
            gradient,
            image_gradient(weights, images, kernel, strides, padding),
            rtol=1e-4,
            atol=1e-4,
        )


def test_dilation_and_groups():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(2, 9, 8, 4)).astype("float32")
    kernel = rng.normal(size=(3, 2, 2, 6)).astype("float32")
    result = backend.convolve(
        *map(ops.convert_to_tensor, (images, kernel, np.zeros(6, "float32"))),
        (1, 1),
        ((2, 1), (0, 1)),
        (2, 3),
    )
    # The same kernel with the zeros between its taps written out.
    spread = np.zeros((5, 4, 2, 6), "float32")
    spread[::2, ::3] = kernel
    padding = ((2, 1), (0, 1))
    halves = [
        convolved(images[..., :2], spread[..., :3], (1, 1), padding),
        convolved(images[..., 2:], spread[..., 3:], (1, 1), padding),
    ]
    arrays.close(result, np.concatenate(halves, axis=-1), rtol=1e-4, atol=1e-4)


def test_relu_hides_what_is_negative():
    rng = np.random.default_rng(0)
    images, kernel, bias, weights = (
        ops.convert_to_tensor(rng.normal(size=shape).astype("float32"))
        for shape in ((2, 9, 8, 3), (3, 3, 3, 4), (4,), (2, 7, 6, 4))
    )

    def outputs(images, relu):
        return backend.convolve(
            images, kernel, bias, (1, 1), "valid", (1, 1), relu=relu
        )

    def gradient(of):
        return backend.value_and_input_gradient(
            lambda x: ops.sum(of(x) * weights, axis=(1, 2, 3)), images
        )[1]

    plain = ops.convert_to_numpy(outputs(images, False))
    received = ops.convert_to_numpy(outputs(images, True))
    arrays.close(received, np.maximum(plain, 0), atol=1e-6)
    mask = ops.convert_to_tensor((plain > 0).astype("float32"))
    arrays.close(
        gradient(lambda x: outputs(x, True)),
        gradient(lambda x: outputs(x, False) * mask),
        atol=1e-4,
    )


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
    weights = ops.convert_to_tensor(weights.astype("float32"))

    def weighted_sum(x):
        pooled = backend.pool(x, size, strides, mode)
        return ops.sum(pooled * weights, axis=(1, 2, 3))

    images = ops.convert_to_tensor(images)
    received = backend.pool(images, size, strides, mode)
    _, gradient = backend.value_and_input_gradient(weighted_sum, images)
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
    images, kernel, weights = map(
        ops.convert_to_tensor, (images, kernel, weights)
    )

    def outputs(images):
        return backend.convolve(
            images, kernel, ops.zeros(5), (1, 1), "valid", (1, 1)
        )

    def gradient(images, weights):
        return ops.convert_to_numpy(
            backend.value_and_input_gradient(
                lambda x: ops.sum(outputs(x) * weights, axis=(1, 2, 3)), images
            )[1]
        )

    arrays.close(outputs(images), expected, rtol=1e-4, atol=1e-3)
    arrays.close(
        gradient(images, weights),
        # As examples do not see each other, also in a small batch.
        np.concatenate(
            [
                gradient(images[i : i + 1], weights[i : i + 1])
                for i in range(batch)
            ]
        ),
        rtol=1e-4,
        atol=1e-4,
    )
