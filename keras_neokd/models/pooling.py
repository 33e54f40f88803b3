"""The max pooling of the library's models."""

import keras

from keras_neokd import backend


@keras.saving.register_keras_serializable("keras_neokd")
class MaxPooling(keras.layers.MaxPooling2D):
    """`MaxPooling2D` of channels-last images in the form that runs fast.

    Configuration and results are those of `keras.layers.MaxPooling2D` without
    padding. Keras copies images into another order of axes for PyTorch; XLA
    is slow at the gradient on processors.

    Args:
        pool_size, **kwargs: as in `keras.layers.MaxPooling2D`; `padding` is
            `"valid"`, and `data_format` is always `"channels_last"`.
    """

    # Networks with fixed weights may run it as what it is.
    is_plain_pooling = True

    def __init__(self, pool_size, **kwargs):
        kwargs["data_format"] = "channels_last"
        super().__init__(pool_size, **kwargs)
        if self.padding != "valid":
            raise ValueError(
                "MaxPooling does not pad; use keras.layers.MaxPooling2D for "
                f"padding={self.padding!r}."
            )

    def call(self, inputs):
        """Pool."""
        return backend.pool(inputs, self.pool_size, self.strides, "max")
