"""The convolutions of the library's models."""

import keras

from keras_neokd import backend


@keras.saving.register_keras_serializable("keras_neokd")
class Convolution(keras.layers.Conv2D):
    """`Conv2D` of channels-last images in the form that a backend runs fast.

    Weights, configuration and results are those of `keras.layers.Conv2D`.
    Keras copies images into another order of axes for PyTorch, which takes a
    good part of a training step; TensorFlow is slow at the gradient of images
    of one channel.

    Args:
        filters, kernel_size, **kwargs: as in `keras.layers.Conv2D`;
            `data_format` is always `"channels_last"`.
    """

    # Attacks may compute it as they compute `Conv2D`.
    is_plain_conv2d = True

    def __init__(self, filters, kernel_size, **kwargs):
        kwargs["data_format"] = "channels_last"
        super().__init__(filters, kernel_size, **kwargs)

    def convolution_op(self, inputs, kernel):
        """Convolve; the hook that `Conv2D.call` calls."""
        strides = self.strides
        if self.kernel_size == (1, 1) and strides != (1, 1):
            # oneDNN, in TensorFlow and PyTorch, gives wrong gradients of such
            # kernels where images have few channels, on CPUs without AVX-512.
            inputs = inputs[:, :: strides[0], :: strides[1]]
            strides = (1, 1)
        return backend.convolution(
            inputs,
            keras.ops.convert_to_tensor(kernel),
            strides,
            self.padding,
            self.dilation_rate,
        )


@keras.saving.register_keras_serializable("keras_neokd")
class ImageConv2D(Convolution):
    """`Convolution` under the name of SmallCNN's first layer in its files."""

    is_plain_conv2d = True
