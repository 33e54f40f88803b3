"""Weight initialisers that follow PyTorch's definitions.

Every function returns a new object: a Keras initialiser gives the same values
each time it is called, so two layers must never share one.
"""

import math

import keras


def kaiming_normal(mode="fan_in"):
    """Draw from a normal distribution with variance `2 / fan`, not truncated.

    Args:
        mode: `"fan_in"` or `"fan_out"`. Defaults to `"fan_in"`.

    Returns:
        A Keras initialiser for a convolution kernel.
    """
    return keras.initializers.VarianceScaling(2.0, mode, "untruncated_normal")


def torch_default_kernel():
    """Draw from `U(-1/sqrt(fan_in), 1/sqrt(fan_in))`, for kernels.

    This is what PyTorch gives a convolution or dense layer that nobody
    initialises.

    Returns:
        A Keras initialiser for a convolution or dense kernel.
    """
    return keras.initializers.VarianceScaling(1.0 / 3.0, "fan_in", "uniform")


def torch_default_bias(fan_in):
    """Draw from `U(-1/sqrt(fan_in), 1/sqrt(fan_in))`, for biases.

    Args:
        fan_in: Number of inputs of one output unit of the layer, at least 1.

    Returns:
        A Keras initialiser for a bias.
    """
    limit = 1.0 / math.sqrt(fan_in)
    return keras.initializers.RandomUniform(-limit, limit)
