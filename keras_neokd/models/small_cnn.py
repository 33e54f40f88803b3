"""SmallCNN, the three-exit network for MNIST.

model = keras_neokd.models.SmallCNN.mnist()
model.predict(images)["exit_3"]  # logits, (batch, 10)
"""

from collections.abc import Sequence
from typing import Any
from typing import Self

import keras
from keras import layers

from keras_neokd.base import checks
from keras_neokd.base.registry import MODELS
from keras_neokd.models import arguments
from keras_neokd.models.convolution import Convolution
from keras_neokd.models.convolution import ImageConv2D
from keras_neokd.models.initializers import KaimingNormal
from keras_neokd.models.parts import CHANNELS_LAST
from keras_neokd.models.parts import dense
from keras_neokd.models.pooling import MaxPooling
from keras_neokd.network.multi_exit import MultiExitModel

_MINIMUM_SIZE = 16


@MODELS.register("small_cnn", small_cnn_mnist="mnist")
@keras.saving.register_keras_serializable("keras_neokd")
class SmallCNN(arguments.BuiltFromArguments, MultiExitModel):
    """Classify small images with a plain convolutional network of 3 exits.

    Four 3 x 3 convolutions without padding, two max-poolings and a dense
    head form the trunk; side heads hang on the first and the third
    convolution. As in the published code, the side heads hold no activation
    function at all, and the last dense layer of the main exit starts at zero,
    so at first the main exit's input gradient is exactly zero.

    Convolutions start from Kaiming's normal distribution (fan-in) with zero
    biases, the other dense layers from PyTorch's default. Flattening is
    channels-last, which matters only when weights are ported.

    Args:
        input_shape: Height, width and channels of the images; height and
            width at least 16. Defaults to `(28, 28, 1)`.
        num_classes: Number of classes. Defaults to 10.
        dropout: Share of units dropped in each head, in [0, 1].
            Defaults to 0.5.
        name: Name of the model. Defaults to `"small_cnn"`.
        trainable: Whether weights can be trained. Defaults to `True`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If the images are too small or `dropout` is no share.

    Example:

        model = SmallCNN.mnist()
        logits = model(keras.ops.zeros((1, 28, 28, 1)))  # exit_1 ... exit_3

    References:
        Hu et al., "Triple Wins" (ICLR 2020), which took trunk and main head
        from Zhang et al., "TRADES" (ICML 2019).
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (28, 28, 1),
        num_classes: int = 10,
        dropout: float = 0.5,
        name: str = "small_cnn",
        trainable: bool = True,
    ) -> None:
        settings = {
            **arguments.given(locals()),
            "input_shape": arguments.image_shape(input_shape, _MINIMUM_SIZE),
            "dropout": checks.number("dropout", dropout, minimum=0, maximum=1),
        }
        checks.integer("num_classes", num_classes, minimum=2)
        inputs = keras.Input(settings["input_shape"], name="images")
        outputs = _build_exits(inputs, num_classes, settings["dropout"])
        super().__init__(inputs, outputs, name=name, trainable=trainable)
        self.arguments = settings

    @classmethod
    def mnist(cls, **overrides: Any) -> Self:
        """Build the network of the MNIST experiments: the defaults.

        Args:
            **overrides: Constructor arguments to replace.
        """
        return cls(**overrides)


def _build_exits(inputs, num_classes, dropout):
    """Connect trunk and heads; return the logits by exit name."""
    x = _convolution(inputs, 32, "trunk_conv_1", activation="relu")
    exit_1 = _convolution(x, 16, "exit_1_conv", strides=2)
    exit_1 = MaxPooling(2, name="exit_1_pool")(exit_1)
    x = _convolution(x, 32, "trunk_conv_2", activation="relu")
    x = MaxPooling(2, name="trunk_pool_1")(x)
    x = _convolution(x, 64, "trunk_conv_3", activation="relu")
    exit_2 = MaxPooling(2, name="exit_2_pool")(x)
    x = _convolution(x, 64, "trunk_conv_4", activation="relu")
    x = MaxPooling(2, name="trunk_pool_2")(x)
    return {
        "exit_1": _side_head(exit_1, num_classes, dropout, "exit_1"),
        "exit_2": _side_head(exit_2, num_classes, dropout, "exit_2"),
        "exit_3": _main_head(x, num_classes, dropout, "exit_3"),
    }


def _side_head(x, num_classes, dropout, name):
    """Classify without any activation function, as published."""
    x = _hidden(x, dropout, name)
    return dense(x, num_classes, name, dtype="float32")


def _main_head(x, num_classes, dropout, name):
    """Classify with ReLUs and a last dense layer that starts at zero."""
    x = _hidden(x, dropout, name, activation="relu")
    return layers.Dense(
        num_classes,
        kernel_initializer="zeros",
        bias_initializer="zeros",
        dtype="float32",
        name=name,
    )(x)


def _hidden(x, dropout, name, activation=None):
    x = layers.Flatten(name=f"{name}_flatten", **CHANNELS_LAST)(x)
    x = dense(x, 200, f"{name}_dense_1", activation=activation)
    x = layers.Dropout(dropout, name=f"{name}_dropout")(x)
    return dense(x, 200, f"{name}_dense_2", activation=activation)


def _convolution(x, filters, name, strides=1, activation=None):
    """Convolve 3 x 3 without padding."""
    layer = ImageConv2D if x.shape[-1] == 1 else Convolution
    return layer(
        filters,
        3,
        strides=strides,
        activation=activation,
        kernel_initializer=KaimingNormal(9 * x.shape[-1]),
        name=name,
    )(x)
