"""ResNet, with one exit or one after every stage.

    teacher = keras_neokd.models.ResNet.cifar10(depth=34)
    student = keras_neokd.models.ResNet.cifar10(exits="all")
    large = keras_neokd.models.ResNet.imagenet(depth=50)  # needs keras-cv

The network for large images is keras-cv's. Its stem (7 x 7, stride 2, and
pooling) leaves 1 x 1 of an image of 32 x 32, so the one for small images is
plain Keras.
"""

import keras
from keras import layers

from keras_neokd.base import checks
from keras_neokd.base.registry import MODELS
from keras_neokd.models import arguments
from keras_neokd.models.backbones import cifar_stages
from keras_neokd.models.backbones import keras_cv_stages
from keras_neokd.models.dense import dense
from keras_neokd.models.pixels import normalize
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
        input_shape=(32, 32, 3),
        num_classes=10,
        stage_blocks=(2, 2, 2, 2),
        stage_filters=(64, 128, 256, 512),
        block="basic",
        stem="cifar",
        exits="last",
        activation="relu",
        normalization=None,
        name="resnet",
        trainable=True,
    ):
        checks.choice("block", block, ("basic", "bottleneck"))
        checks.choice("stem", stem, tuple(_STAGES))
        checks.integer("num_classes", num_classes, minimum=2)
        stage_blocks, stage_filters = _stages(
            stage_blocks, stage_filters, block, stem
        )
        places = arguments.exit_places(exits, len(stage_blocks), "stage")
        activation = arguments.activation(activation)
        input_shape = arguments.image_shape(
            input_shape, _STEM_STRIDES[stem] * 2 ** (len(stage_blocks) - 1)
        )
        normalization = arguments.normalization(normalization, input_shape[-1])
        inputs = keras.Input(input_shape, name="images")
        maps = _STAGES[stem](
            normalize(inputs, normalization),
            stage_blocks,
            stage_filters,
            block,
            activation,
        )
        outputs = {}
        for place in places:
            exit_name = f"exit_{len(outputs) + 1}"
            outputs[exit_name] = _head(maps[place - 1], num_classes, exit_name)
        super().__init__(inputs, outputs, name=name, trainable=trainable)
        self.arguments = {
            "input_shape": input_shape,
            "num_classes": num_classes,
            "stage_blocks": stage_blocks,
            "stage_filters": stage_filters,
            "block": block,
            "stem": stem,
            "exits": places,
            "activation": activation,
            "normalization": normalization,
        }

    @classmethod
    def cifar10(cls, depth=18, **overrides):
        """Build a ResNet for CIFAR-10.

        Args:
            depth: 18, 34, 50, 101 or 152. Defaults to 18.
            **overrides: Constructor arguments to replace.

        Returns:
            A `ResNet` for 32 x 32 x 3 images and 10 classes.
        """
        name = f"resnet_{depth}_cifar10"
        return cls(**{"name": name, **_of_depth(depth), **overrides})

    @classmethod
    def cifar100(cls, depth=18, **overrides):
        """Build a ResNet for CIFAR-100.

        Args:
            depth: 18, 34, 50, 101 or 152. Defaults to 18.
            **overrides: Constructor arguments to replace.

        Returns:
            A `ResNet` for 32 x 32 x 3 images and 100 classes.
        """
        defaults = {"name": f"resnet_{depth}_cifar100", "num_classes": 100}
        return cls(**{**defaults, **_of_depth(depth), **overrides})

    @classmethod
    def imagenet(cls, depth=50, **overrides):
        """Build a ResNet for ImageNet, which keras-cv provides.

        Args:
            depth: 18, 34, 50, 101 or 152. Defaults to 50.
            **overrides: Constructor arguments to replace.

        Returns:
            A `ResNet` for 224 x 224 x 3 images and 1,000 classes.
        """
        defaults = {
            "name": f"resnet_{depth}_imagenet",
            "input_shape": (224, 224, 3),
            "num_classes": 1000,
            "stem": "imagenet",
        }
        return cls(**{**defaults, **_of_depth(depth), **overrides})


def _of_depth(depth):
    block, stage_blocks = _DEPTHS[checks.choice("depth", depth, _DEPTHS)]
    return {"block": block, "stage_blocks": stage_blocks}


def _stages(stage_blocks, stage_filters, block, stem):
    """Return blocks and filters of the stages, checked."""
    stage_blocks = arguments.positive_integers("stage_blocks", stage_blocks)
    stage_filters = arguments.positive_integers("stage_filters", stage_filters)
    if len(stage_blocks) != len(stage_filters):
        raise ValueError(
            "`stage_blocks` and `stage_filters` need one value per stage "
            f"each; received {stage_blocks} and {stage_filters}."
        )
    expected = keras_cv_stages.STEM_FILTERS
    has_fixed_start = stem == "imagenet" and block == "basic"
    if has_fixed_start and stage_filters[0] != expected:
        raise ValueError(
            f"The first of `stage_filters` needs to be {expected} with "
            '`stem="imagenet"` and `block="basic"`, whose first shortcut is '
            f"the stem's output; received {stage_filters}."
        )
    return stage_blocks, stage_filters


def _head(x, num_classes, name):
    """Classify a feature map by its average."""
    x = layers.GlobalAveragePooling2D(
        data_format="channels_last", name=f"{name}_pool"
    )(x)
    return dense(x, num_classes, name, dtype="float32")
