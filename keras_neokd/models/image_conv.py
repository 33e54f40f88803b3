"""The convolution that reads the image."""

import keras

from keras_neokd import backend


@keras.saving.register_keras_serializable("keras_neokd")
class ImageConv2D(keras.layers.Conv2D):
    """`Conv2D` of one-channel images whose input gradient is fast.

    An attack differentiates with respect to the image in every step, which
    ordinary training never does, and frameworks are slow at it. Weights,
    configuration and results are those of `keras.layers.Conv2D`.

    Args:
        filters: number of output channels.
        kernel_size: integer or pair.
        **kwargs: other arguments of `keras.layers.Conv2D`; strides, padding,
            dilation and groups keep their defaults.
    """

    # Attacks may compute it as they compute `Conv2D`.
    is_plain_conv2d = True

    def build(self, input_shape):
        """Create the weights; the input needs one channel."""
        if (
            input_shape[-1] != 1
            or self.strides != (1, 1)
            or self.padding != "valid"
            or self.dilation_rate != (1, 1)
            or self.data_format != "channels_last"
        ):
            raise ValueError(
                "ImageConv2D convolves channels-last images of one channel "
                "with stride 1 and no padding; use keras.layers.Conv2D for "
                f"anything else. Received input shape {tuple(input_shape)}, "
                f"strides={self.strides}, padding={self.padding!r}, "
                f"dilation_rate={self.dilation_rate}, "
                f"data_format={self.data_format!r}."
            )
        super().build(input_shape)

    def convolution_op(self, inputs, kernel):
        """Convolve; the hook that `Conv2D.call` calls."""
        return backend.convolve_image(inputs, kernel)
