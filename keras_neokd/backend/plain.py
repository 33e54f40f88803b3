"""Functions that several backends share: Keras' operations, one device."""

import keras
from keras import ops

from keras_neokd.base import randomness


def frozen_state(variables, noise=None):
    # Unlike in JAX, variables that are not listed keep their own values.
    seeds = [] if noise is None else randomness.moved_seeds(variables, noise)
    return keras.StatelessScope(seeds, initialize_variables=False)


def global_batch(local_size):
    return 0, local_size


def gather_replicas(x):
    return x


def gather_processes(values):
    return values[None]


def convolves_16_bits():
    return True


def compiles_shapes():
    return True


def convolution(images, kernel, strides, padding, dilation):
    return ops.conv(
        images,
        kernel,
        strides,
        padding,
        data_format="channels_last",
        dilation_rate=dilation,
    )


def pool(images, size, strides, mode):
    pool = {"max": ops.max_pool, "average": ops.average_pool}[mode]
    return pool(images, size, strides, data_format="channels_last")


def batch_norm(images, scale, offset, epsilon):
    # `ops.moments` has a wrong second derivative under TensorFlow.
    mean = ops.mean(images, (0, 1, 2))
    centred = images - mean
    variance = ops.mean(ops.square(centred), (0, 1, 2))
    outputs = centred * (ops.rsqrt(variance + epsilon) * scale) + offset
    return outputs, ops.stop_gradient(mean), ops.stop_gradient(variance)


def as_column(factor, x):
    """Return a number for each example, `(batch,)`, in a form to scale x."""
    return ops.reshape(factor, (-1,) + (1,) * (len(x.shape) - 1))


def present(gradient):
    """Return a gradient; raise `ValueError` where it is `None`."""
    if gradient is None:
        raise ValueError(
            "No gradient reaches the images, so an attack would not move them "
            "and there is nothing to align. Look for rounding, casting to "
            "integers or stop_gradient in the model."
        )
    return gradient
