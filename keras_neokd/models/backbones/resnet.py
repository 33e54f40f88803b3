"""ResNet, with one exit or one after every stage.

    teacher = keras_neokd.models.ResNet.cifar10(depth=34)
    student = keras_neokd.models.ResNet.cifar10(exits="all")
    large = keras_neokd.models.ResNet.imagenet(depth=50)  # needs keras-cv

keras-cv's stem leaves 1 x 1 of an image of 32 x 32, so the network for small
images is plain Keras.
"""

from collections.abc import Sequence
from typing import Any
from typing import Self

import keras

from keras_neokd.base import checks
from keras_neokd.base.registry import MODELS
from keras_neokd.base.typing import Normalization
from keras_neokd.base.typing import Tensor
from keras_neokd.models import arguments
from keras_neokd.models.backbones import cifar_stages
from keras_neokd.models.backbones import keras_cv_stages
from keras_neokd.models.parts import averaged
from keras_neokd.models.parts import dense
from keras_neokd.models.parts import normalize
from keras_neokd.network.multi_exit import MultiExitModel

_DEPTHS = {
    18: ("basic", (2, 2, 2, 2)),
    34: ("basic", (3, 4, 6, 3)),
    50: ("bottleneck", (3, 4, 6, 3)),
    101: ("bottleneck", (3, 4, 23, 3)),
    152: ("bottleneck", (3, 8, 36, 3)),
}
_STAGES = {
    "cifar": cifar_stages.connect_stages,
    "imagenet": keras_cv_stages.connect_stages,
}
# How much of height and width is left after the stem.
_STEM_STRIDES = {"cifar": 1, "imagenet": 4}


@MODELS.register(
    "resnet",
    resnet_cifar10="cifar10",
    resnet_cifar100="cifar100",
    resnet_imagenet="imagenet",
)
@keras.saving.register_keras_serializable("keras_neokd")
class ResNet(arguments.BuiltFromArguments, MultiExitModel):
    """Classify images with a residual network.

    After each stage that is to be an exit follow global average pooling and
    a dense layer. `exit_1` is the shallowest; a model with one exit is an
    ordinary ResNet.

    With `stem="cifar"` batch norm, padding and initialisation are those of
    PyTorch's ResNets. With `stem="imagenet"` keras-cv builds the stages; it
    pads, initialises and places strides in its own way (a bottleneck's first
    convolution is the strided one).

    Args:
        input_shape: Height, width and channels of the images.
            Defaults to `(32, 32, 3)`.
        num_classes: Number of classes. Defaults to 10.
        stage_blocks: Residual blocks per stage. Defaults to `(2, 2, 2, 2)`.
        stage_filters: Filters of each stage's 3 x 3 convolutions.
            Defaults to `(64, 128, 256, 512)`.
        block: `"basic"`: two 3 x 3 convolutions. `"bottleneck"`: one, and a
            1 x 1 convolution on each side, the second with four times the
            filters. Defaults to `"basic"`.
        stem: `"cifar"`: a 3 x 3 convolution. `"imagenet"`: a strided 7 x 7
            convolution and max-pooling, by keras-cv. Defaults to `"cifar"`.
        exits: Stages that end in an exit: `"last"`, `"all"`, or their numbers
            from 1, such as `(2, 3, 4)`. Defaults to `"last"`.
        activation: Name of the activation function of all hidden layers.
            Defaults to `"relu"`.
        normalization: `None`, or per-channel `(mean, standard_deviation)` of
            pixels in [0, 1], subtracted and divided inside the model.
            Defaults to `None`.
        name: Name of the model. Defaults to `"resnet"`.
        trainable: Whether weights can be trained. Defaults to `True`.

    Raises:
        ImportError: If `stem="imagenet"` and keras-cv cannot be imported.
        TypeError: If an argument has the wrong type.
        ValueError: If arguments do not fit together; the message names them.

    References:
        He et al., "Deep Residual Learning for Image Recognition" (CVPR 2016).
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (32, 32, 3),
        num_classes: int = 10,
        stage_blocks: Sequence[int] = (2, 2, 2, 2),
        stage_filters: Sequence[int] = (64, 128, 256, 512),
        block: str = "basic",
        stem: str = "cifar",
        exits: str | Sequence[int] = "last",
        activation: str = "relu",
        normalization: Normalization | None = None,
        name: str = "resnet",
        trainable: bool = True,
    ) -> None:
        settings = _checked(arguments.given(locals()))
        inputs = keras.Input(settings["input_shape"], name="images")
        maps = _STAGES[stem](
            normalize(inputs, settings["normalization"]),
            settings["stage_blocks"],
            settings["stage_filters"],
            block,
            activation,
        )
        outputs: dict[str, Tensor] = {}
        for place in settings["exits"]:
            name_of_exit = f"exit_{len(outputs) + 1}"
            x = averaged(maps[place - 1], name_of_exit)
            outputs[name_of_exit] = dense(
                x, num_classes, name_of_exit, dtype="float32"
            )
        super().__init__(inputs, outputs, name=name, trainable=trainable)
        self.arguments = settings

    @classmethod
    def cifar10(cls, depth: int = 18, **overrides: Any) -> Self:
        """Build a ResNet for 32 x 32 x 3 images and 10 classes.

        Args:
            depth: 18, 34, 50, 101 or 152. Defaults to 18.
            **overrides: Constructor arguments to replace.
        """
        return cls(**{**_of_depth(depth, "cifar10"), **overrides})

    @classmethod
    def cifar100(cls, depth: int = 18, **overrides: Any) -> Self:
        """Build a ResNet for 32 x 32 x 3 images and 100 classes.

        Args:
            depth: As in `cifar10`.
            **overrides: Constructor arguments to replace.
        """
        defaults = _of_depth(depth, "cifar100", num_classes=100)
        return cls(**{**defaults, **overrides})

    @classmethod
    def imagenet(cls, depth: int = 50, **overrides: Any) -> Self:
        """Build a ResNet for 224 x 224 x 3 images and 1,000 classes.

        Args:
            depth: As in `cifar10`. Defaults to 50.
            **overrides: Constructor arguments to replace.
        """
        defaults = _of_depth(
            depth,
            "imagenet",
            input_shape=(224, 224, 3),
            num_classes=1000,
            stem="imagenet",
        )
        return cls(**{**defaults, **overrides})


def _of_depth(depth, data, **others):
    block, stage_blocks = _DEPTHS[checks.choice("depth", depth, _DEPTHS)]
    name = f"resnet_{depth}_{data}"
    return {
        "name": name,
        "block": block,
        "stage_blocks": stage_blocks,
        **others,
    }


def _checked(settings):
    """Return the arguments of the constructor, checked."""
    block, stem = settings["block"], settings["stem"]
    checks.choice("block", block, ("basic", "bottleneck"))
    checks.choice("stem", stem, _STAGES)
    blocks, filters = arguments.one_per(
        "stage",
        stage_blocks=settings["stage_blocks"],
        stage_filters=settings["stage_filters"],
    )
    expected = keras_cv_stages.STEM_FILTERS
    has_fixed_start = stem == "imagenet" and block == "basic"
    if has_fixed_start and filters[0] != expected:
        raise ValueError(
            f"The first of `stage_filters` needs to be {expected} with "
            '`stem="imagenet"` and `block="basic"`, whose first shortcut is '
            f"the stem's output; received {filters}."
        )
    settings = {**settings, "stage_blocks": blocks, "stage_filters": filters}
    size = _STEM_STRIDES[stem] * 2 ** (len(blocks) - 1)
    return arguments.checked(settings, len(blocks), "stage", size)
