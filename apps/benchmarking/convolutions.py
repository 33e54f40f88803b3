"""The fastest convolution that a framework can do here, as a yardstick."""

import time

import numpy as np

# Batch, height and width, channels and filters of 3 x 3 convolutions that
# every framework does well.
_SHAPES = ((128, 26, 32), (128, 16, 64), (64, 32, 64))
_REPETITIONS = 10


def fastest_on_keras():
    """Return multiply-adds per second of Keras' best forward convolution."""
    from keras import ops

    def convolve(images, kernel):
        result = ops.conv(
            images, kernel, padding="same", data_format="channels_last"
        )
        # Waits for the end, and copies one number.
        return ops.convert_to_numpy(result[0, 0, 0, 0])

    return _fastest(
        convolve,
        lambda images, kernel: (
            ops.convert_to_tensor(images),
            ops.convert_to_tensor(kernel),
        ),
    )


def fastest_in_torch(memory_format):
    """Return multiply-adds per second of PyTorch's best convolution.

    Args:
        memory_format: layout of the images.
    """
    import torch

    def prepare(images, kernel):
        images = torch.from_numpy(images).permute(0, 3, 1, 2)
        kernel = torch.from_numpy(kernel).permute(3, 2, 0, 1)
        return (
            images.contiguous(memory_format=memory_format),
            kernel.contiguous(memory_format=memory_format),
        )

    with torch.no_grad():
        return _fastest(
            lambda images, kernel: torch.conv2d(images, kernel, padding=1),
            prepare,
        )


def _fastest(convolve, prepare):
    return max(_rate(convolve, prepare, *shape) for shape in _SHAPES)


def _rate(convolve, prepare, batch, size, channels):
    generator = np.random.default_rng(0)
    images = generator.random((batch, size, size, channels), dtype="float32")
    kernel = generator.random((3, 3, channels, channels), dtype="float32")
    arguments = prepare(images, kernel)
    convolve(*arguments)
    seconds = []
    for _ in range(_REPETITIONS):
        started = time.perf_counter()
        convolve(*arguments)
        seconds.append(time.perf_counter() - started)
    return batch * size**2 * 9 * channels**2 / min(seconds)
