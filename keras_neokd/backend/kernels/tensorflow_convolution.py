"""Convolve images of one channel under TensorFlow.

TensorFlow's own input gradient of such a convolution runs on one core. Here it
is a matrix product, one row per tap of the kernel, and a sum of shifted rows.
"""

import tensorflow as tf


def fits(images, strides, padding, dilation):
    """Return whether a convolution is one of those computed here."""
    return (
        images.shape[-1] == 1
        and padding == "valid"
        and (*strides, *dilation) == (1, 1, 1, 1)
    )


def convolve(image, kernel):
    """Convolve as `backend.convolution` does where `fits` says so."""
    # A custom gradient takes tensors; a variable would be one input too many.
    return _convolve(tf.convert_to_tensor(image), tf.identity(kernel))


@tf.custom_gradient
def _convolve(image, kernel):
    rows, columns, _, filters = kernel.shape

    def gradient(upstream):
        shape = tf.shape(upstream)
        taps = tf.matmul(
            tf.reshape(kernel, (rows * columns, filters)),
            tf.reshape(upstream, (-1, filters)),
            transpose_b=True,
        )
        taps = tf.reshape(taps, (rows * columns, *tf.unstack(shape[:3])))
        shifted = [
            tf.pad(
                taps[row * columns + column],
                ((0, 0), (row, rows - 1 - row), (column, columns - 1 - column)),
            )
            for row in range(rows)
            for column in range(columns)
        ]
        kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
            input=image,
            filter_sizes=kernel.shape,
            out_backprop=upstream,
            strides=(1, 1, 1, 1),
            padding="VALID",
        )
        return tf.expand_dims(tf.add_n(shifted), -1), kernel_gradient

    return tf.nn.conv2d(image, kernel, strides=1, padding="VALID"), gradient
