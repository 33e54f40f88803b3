"""Keras' own operations, for what a backend has no faster form of."""

from keras import ops


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
    return ops.conv(
        images,
        kernel,
        strides,
        padding,
        data_format="channels_last",
        dilation_rate=dilation,
    )


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
    pool = {"max": ops.max_pool, "average": ops.average_pool}[mode]
    return pool(images, size, strides, data_format="channels_last")
