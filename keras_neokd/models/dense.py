"""A dense layer that begins as PyTorch's does."""

from keras import layers

from keras_neokd.models.initializers import TorchDefault


def dense(x, units, name, activation=None, dtype=None):
    """Apply a dense layer with PyTorch's default initialisation.

    Args:
        x: Keras tensor `(batch, ..., features)`.
        units: number of outputs, integer >= 1.
        name: name of the layer.
        activation: as in `keras.layers.Dense`. Defaults to none.
        dtype: dtype or policy of the layer; `None` (default) for Keras'
            global policy.

    Returns:
        Keras tensor `(batch, ..., units)`.
    """
    return layers.Dense(
        units,
        activation=activation,
        kernel_initializer=TorchDefault(x.shape[-1]),
        bias_initializer=TorchDefault(x.shape[-1]),
        dtype=dtype,
        name=name,
    )(x)
