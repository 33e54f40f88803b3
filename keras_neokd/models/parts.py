"""Parts that several architectures are made of."""

from keras import layers

from keras_neokd.models.batch_normalization import BatchNormalization
from keras_neokd.models.convolution import Convolution
from keras_neokd.models.initializers import TorchDefault

CHANNELS_LAST = {"data_format": "channels_last"}


def normalize(images, normalization):
    """Subtract the mean and divide by the standard deviation.

    It happens inside the model, so that attacks go on seeing pixels in
    [0, 1].

    Args:
        images: Keras tensor `(batch, height, width, channels)`.
        normalization: `None`, or `(mean, standard_deviation)` with one number
            per channel.
    """
    if normalization is None:
        return images
    mean, standard_deviation = normalization
    return layers.Normalization(
        mean=mean,
        variance=[value**2 for value in standard_deviation],
        # Pixels are rounded to fewer bits after it, if at all.
        dtype="float32",
        name="normalization",
    )(images)


def padded(x, size, name):
    """Pad images by `size` zeros on all four sides."""
    return layers.ZeroPadding2D(size, name=f"{name}_pad", **CHANNELS_LAST)(x)


def convolved(x, filters, size, name, strides=1, activation="relu", **options):
    """Apply convolution, batch norm and activation, padded as in PyTorch.

    Batch norm has PyTorch's constants: a momentum of 0.9 in Keras'
    convention, an epsilon of 1e-5.

    Args:
        x: Keras tensor `(batch, height, width, channels)`.
        filters: number of output channels.
        size: height and width of the kernel, odd.
        name: beginning of the names of the layers.
        strides: integer. Defaults to 1.
        activation: name of a function, or `None`. Defaults to `"relu"`.
        **options: other arguments of `Convolution`, such as initialisers.
    """
    if strides > 1 and size > 1:
        # Keras' "same" would pad even sizes on one side only.
        x = padded(x, size // 2, name)
    x = Convolution(
        filters,
        size,
        strides=strides,
        padding="same" if strides == 1 else "valid",
        name=f"{name}_conv",
        **options,
    )(x)
    x = BatchNormalization(
        momentum=0.9, epsilon=1e-5, name=f"{name}_batch_norm"
    )(x)
    if activation is None:
        return x
    return layers.Activation(activation, name=f"{name}_{activation}")(x)


def averaged(x, name):
    """Average feature maps over their positions."""
    return layers.GlobalAveragePooling2D(name=f"{name}_pool", **CHANNELS_LAST)(
        x
    )


def dense_layer(units, fan_in, name, **options):
    """Return a dense layer that starts from PyTorch's default distribution.

    Args:
        units: number of outputs.
        fan_in: number of inputs.
        name: name of the layer.
        **options: other arguments of `keras.layers.Dense`.
    """
    return layers.Dense(
        units,
        kernel_initializer=TorchDefault(fan_in),
        bias_initializer=TorchDefault(fan_in),
        name=name,
        **options,
    )


def dense(x, units, name, **options):
    """Apply `dense_layer` to the last axis of a Keras tensor."""
    return dense_layer(units, x.shape[-1], name, **options)(x)
