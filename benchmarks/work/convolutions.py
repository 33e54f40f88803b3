"""The fastest convolution that a framework can do here, as a yardstick."""

import time

import numpy as np

# Batch, height and width, channels and filters of 3 x 3 convolutions that
# every framework does well.
_SHAPES = ((128, 26, 32), (128, 16, 64), (64, 32, 64))
_REPETITIONS = 10


def fastest_in_keras():
    """Return multiply-adds per second of Keras' best forward convolution."""
    from keras import ops

    def convolve(images, kernel):
        result = ops.conv(
            images, kernel, padding="same", data_format="channels_last"
        )
        # Waits for the end, and copies one number.
        return ops.convert_to_numpy(result[0, 0, 0, 0])

    return max(
        _rate(convolve, ops.convert_to_tensor, shape) for shape in _SHAPES
    )


def fastest_in_torch(memory_format):
    """Return multiply-adds per second of PyTorch's best convolution.

    Args:
        memory_format: layout of the images.
    """
    import torch

    def prepare(array):
        # Kernels (3, 3, in, out) have as many inputs as outputs.
        axes = (3, 2, 0, 1) if len(array) == 3 else (0, 3, 1, 2)
        tensor = torch.from_numpy(array).permute(axes)
        return tensor.contiguous(memory_format=memory_format)

    def convolve(images, kernel):
        return torch.conv2d(images, kernel, padding=1)

    with torch.no_grad():
        return max(_rate(convolve, prepare, shape) for shape in _SHAPES)


def _rate(convolve, prepare, shape):
    batch, size, channels = shape
    generator = np.random.default_rng(0)
    images, kernel = (
        prepare(generator.random(each, dtype="float32"))
        for each in (
            (batch, size, size, channels),
            (3, 3, channels, channels),
        )
    )
    convolve(images, kernel)
    seconds = []
    for _ in range(_REPETITIONS):
        started = time.perf_counter()
        convolve(images, kernel)
        seconds.append(time.perf_counter() - started)
    return batch * size**2 * 9 * channels**2 / min(seconds)
