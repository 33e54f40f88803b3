"""Vision transformer, with one exit or several along its blocks.

    teacher = keras_neokd.models.VisionTransformer.cifar10(size="small")
    student = keras_neokd.models.VisionTransformer.cifar10(exits=(4, 8, 12))

Plain Keras: keras-cv's layers of this network (`PatchingAndEmbedding`,
`TransformerEncoder`) run under TensorFlow only, and its `ViTDetBackbone` is
the encoder of a detector, with square images, a fixed normalization and
activation, and no feature pyramid.
"""

from collections.abc import Sequence
from typing import Any
from typing import Self

import keras
from keras import layers

from keras_neokd.base import checks
from keras_neokd.base.registry import MODELS
from keras_neokd.base.typing import Normalization
from keras_neokd.models import arguments
from keras_neokd.models.attention import SelfAttention
from keras_neokd.models.attention import TokenEmbedding
from keras_neokd.models.convolution import Convolution
from keras_neokd.models.initializers import TorchDefault
from keras_neokd.models.parts import CHANNELS_LAST
from keras_neokd.models.parts import dense
from keras_neokd.models.parts import normalize
from keras_neokd.network.multi_exit import MultiExitModel

_SIZES = {
    "tiny": {"width": 192, "num_heads": 3},
    "small": {"width": 384, "num_heads": 6},
    "base": {"width": 768, "num_heads": 12},
}


@MODELS.register(
    "vision_transformer",
    vision_transformer_cifar10="cifar10",
    vision_transformer_cifar100="cifar100",
    vision_transformer_imagenet="imagenet",
)
@keras.saving.register_keras_serializable("keras_neokd")
class VisionTransformer(arguments.BuiltFromArguments, MultiExitModel):
    """Classify images with a transformer on patches.

    Patches become tokens, to which learned positions are added; every block
    adds self-attention and a two-layer perceptron to them, each after a layer
    norm. After each block that is to be an exit follow a layer norm, the
    class token (or the average of all tokens) and a dense layer.

    Args:
        input_shape: Height, width and channels of the images; height and
            width are multiples of `patch_size`. Defaults to `(32, 32, 3)`.
        num_classes: Number of classes. Defaults to 10.
        patch_size: Height and width of a patch. Defaults to 4.
        width: Numbers per token. Defaults to 192.
        depth: Number of blocks. Defaults to 12.
        num_heads: Attention heads of a block; divides `width`.
            Defaults to 3.
        mlp_width: Hidden units of a block's perceptron; `None` means four
            times `width`. Defaults to `None`.
        pooling: What an exit classifies, `"token"`: a learned class token,
            or `"average"` of all tokens, without such a token.
            Defaults to `"token"`.
        dropout: Share of units dropped after the positions and in every
            block, in [0, 1]. Defaults to 0.
        exits: Blocks that end in an exit: `"last"`, `"all"`, or their numbers
            from 1, such as `(4, 8, 12)`. Defaults to `"last"`.
        activation: Name of the activation function of the perceptrons.
            Defaults to `"gelu"`.
        normalization: `None`, or per-channel `(mean, standard_deviation)` of
            pixels in [0, 1], subtracted and divided inside the model.
            Defaults to `None`.
        name: Name of the model. Defaults to `"vision_transformer"`.
        trainable: Whether weights can be trained. Defaults to `True`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If arguments do not fit together; the message names them.

    References:
        Dosovitskiy et al., "An Image is Worth 16x16 Words" (ICLR 2021); the
        sizes tiny and small are those of Touvron et al., "Training
        data-efficient image transformers" (ICML 2021).
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (32, 32, 3),
        num_classes: int = 10,
        patch_size: int = 4,
        width: int = 192,
        depth: int = 12,
        num_heads: int = 3,
        mlp_width: int | None = None,
        pooling: str = "token",
        dropout: float = 0.0,
        exits: str | Sequence[int] = "last",
        activation: str = "gelu",
        normalization: Normalization | None = None,
        name: str = "vision_transformer",
        trainable: bool = True,
    ) -> None:
        settings = _checked(arguments.given(locals()))
        inputs, outputs = _connect(settings)
        super().__init__(inputs, outputs, name=name, trainable=trainable)
        self.arguments = settings

    @classmethod
    def cifar10(cls, size: str = "tiny", **overrides: Any) -> Self:
        """Build one with 4 x 4 patches for 32 x 32 x 3 images, 10 classes.

        Args:
            size: `"tiny"`, `"small"` or `"base"`: tokens of 192, 384 or 768
                numbers. Defaults to `"tiny"`.
            **overrides: Constructor arguments to replace.
        """
        return cls(**{**_of_size(size, "cifar10"), **overrides})

    @classmethod
    def cifar100(cls, size: str = "tiny", **overrides: Any) -> Self:
        """Build one with 4 x 4 patches for 32 x 32 x 3 images, 100 classes.

        Args:
            size: As in `cifar10`.
            **overrides: Constructor arguments to replace.
        """
        defaults = _of_size(size, "cifar100", num_classes=100)
        return cls(**{**defaults, **overrides})

    @classmethod
    def imagenet(cls, size: str = "small", **overrides: Any) -> Self:
        """Build one with 16 x 16 patches for 224 x 224 x 3, 1,000 classes.

        Args:
            size: As in `cifar10`. Defaults to `"small"`.
            **overrides: Constructor arguments to replace.
        """
        defaults = _of_size(
            size,
            "imagenet",
            input_shape=(224, 224, 3),
            num_classes=1000,
            patch_size=16,
        )
        return cls(**{**defaults, **overrides})


def _of_size(size, data, **others):
    sizes = _SIZES[checks.choice("size", size, _SIZES)]
    return {"name": f"vision_transformer_{size}_{data}", **sizes, **others}


def _checked(settings):
    """Return the arguments of the constructor, checked."""
    for name in ("patch_size", "width", "depth", "num_heads", "mlp_width"):
        if name != "mlp_width" or settings[name] is not None:
            checks.integer(name, settings[name], minimum=1)
    checks.choice("pooling", settings["pooling"], ("token", "average"))
    dropout = checks.number(
        "dropout", settings["dropout"], minimum=0, maximum=1
    )
    settings = arguments.checked(
        {**settings, "dropout": dropout}, settings["depth"], "block"
    )
    input_shape, patch_size = settings["input_shape"], settings["patch_size"]
    if input_shape[0] % patch_size or input_shape[1] % patch_size:
        raise ValueError(
            f"Height and width of `input_shape` {input_shape} need to be "
            f"multiples of `patch_size` {patch_size}."
        )
    width, num_heads = settings["width"], settings["num_heads"]
    if width % num_heads:
        raise ValueError(
            f"`width` {width} needs to be a multiple of `num_heads` "
            f"{num_heads}."
        )
    return settings


def _connect(settings):
    """Connect patches, blocks and heads; return inputs and logits by name."""
    inputs = keras.Input(settings["input_shape"], name="images")
    x = _tokens(normalize(inputs, settings["normalization"]), settings)
    outputs = {}
    for index in range(1, settings["depth"] + 1):
        x = _block(x, f"block_{index}", settings)
        if index in settings["exits"]:
            name = f"exit_{len(outputs) + 1}"
            outputs[name] = _head(x, name, settings)
    return inputs, outputs


def _tokens(x, settings):
    """Project every patch to a token, and add its position."""
    size, width = settings["patch_size"], settings["width"]
    fan_in = size * size * x.shape[-1]
    x = Convolution(
        width,
        size,
        strides=size,
        kernel_initializer=TorchDefault(fan_in),
        bias_initializer=TorchDefault(fan_in),
        name="patches",
    )(x)
    x = layers.Reshape((-1, width), name="tokens")(x)
    has_token = settings["pooling"] == "token"
    x = TokenEmbedding(class_token=has_token, name="embedding")(x)
    return _dropped(x, "embedding", settings)


def _block(x, name, settings):
    """Add self-attention, then a perceptron, to the tokens."""
    y = _layer_norm(x, f"{name}_attention_norm")
    y = SelfAttention(settings["num_heads"], name=f"{name}_attention")(y)
    y = _dropped(y, f"{name}_attention", settings)
    x = layers.Add(name=f"{name}_attention_add")([x, y])
    y = _layer_norm(x, f"{name}_mlp_norm")
    y = dense(
        y,
        settings["mlp_width"] or 4 * settings["width"],
        f"{name}_mlp_1",
        activation=settings["activation"],
    )
    y = _dropped(y, f"{name}_mlp_1", settings)
    y = dense(y, settings["width"], f"{name}_mlp_2")
    y = _dropped(y, f"{name}_mlp_2", settings)
    return layers.Add(name=f"{name}_mlp_add")([x, y])


def _head(x, name, settings):
    """Classify the class token, or the average of all tokens."""
    if settings["pooling"] == "token":
        # The norm treats each token by itself: that of one is enough.
        x = _layer_norm(x[:, 0], f"{name}_norm")
    else:
        x = _layer_norm(x, f"{name}_norm")
        x = layers.GlobalAveragePooling1D(name=f"{name}_pool", **CHANNELS_LAST)(
            x
        )
    return dense(x, settings["num_classes"], name, dtype="float32")


def _layer_norm(x, name):
    return layers.LayerNormalization(epsilon=1e-6, name=name)(x)


def _dropped(x, name, settings):
    """Drop units, if any; a layer that drops none would still draw numbers."""
    if settings["dropout"] == 0:
        return x
    return layers.Dropout(settings["dropout"], name=f"{name}_dropout")(x)
