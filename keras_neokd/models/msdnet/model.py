"""MSDNet, the multi-scale dense network with one exit per block.

    model = keras_neokd.models.MSDNet.cifar10()
    model = keras_neokd.models.MSDNet.cifar100(initial_channels=16)
    model.predict(images)["exit_7"]  # logits, (batch, 100)

Layers are named after their place: `block_2_layer_5_scale_1_normal_conv`,
`exit_2_unit_1_conv`. Blocks, layers, scales and exits count from 1, layers
through the whole network; scale 1 is the finest.
"""

from collections.abc import Sequence
from typing import Any
from typing import Self

import keras

from keras_neokd.base import checks
from keras_neokd.base.registry import MODELS
from keras_neokd.base.typing import Normalization
from keras_neokd.models.arguments import BuiltFromArguments
from keras_neokd.models.arguments import given
from keras_neokd.models.msdnet.graph import connect
from keras_neokd.models.msdnet.plan import Settings
from keras_neokd.network.multi_exit import MultiExitModel

_IMAGENET = {
    "input_shape": (224, 224, 3),
    "num_classes": 1000,
    "num_blocks": 5,
    "step": 4,
    "initial_channels": 32,
    "growth_rate": 16,
    "growth_factors": (1, 2, 4, 4),
    "bottleneck_factors": (1, 2, 4, 4),
    "stem": "imagenet",
    "head_channels": None,
}
_TINY_IMAGENET = {
    "A": {},
    "B": {"input_shape": (64, 64, 3), "stem": "cifar"},
}


@MODELS.register(
    "msdnet",
    msdnet_cifar10="cifar10",
    msdnet_cifar100="cifar100",
    msdnet_tiny_imagenet="tiny_imagenet",
    msdnet_imagenet="imagenet",
)
@keras.saving.register_keras_serializable("keras_neokd")
class MSDNet(BuiltFromArguments, MultiExitModel):
    """Classify images with a multi-scale dense network.

    The network keeps feature maps at several scales. Every layer adds
    channels to each scale, computed from all earlier features of the same
    and of the next finer scale; after each block a head classifies the
    coarsest scale. Pruning drops the finest scales along the way, followed
    by a transition that thins the others. `cifar10`, `cifar100`,
    `tiny_imagenet` and `imagenet` build the configurations of the paper.

    Batch norm uses PyTorch's constants (momentum 0.9 in Keras' convention,
    epsilon 1e-5) and strided convolutions pad one pixel on all sides, as
    PyTorch does. The running variance is Keras' biased one, smaller than
    PyTorch's by the factor (n - 1) / n for n values per channel. Heads
    average over their whole map, so any image size fits whose coarsest map
    is at least 5 x 5. Feature maps that no exit uses are not built.

    Args:
        input_shape: Height, width and channels of the images.
            Defaults to `(32, 32, 3)`.
        num_classes: Number of classes. Defaults to 10.
        num_blocks: Number of blocks, each with an exit. Defaults to 3.
        base: Number of layers in the first block. Defaults to 4.
        step: Number of layers in each later block, see `step_mode`.
            Defaults to 2.
        step_mode: `"even"`: all later blocks have `step` layers.
            `"lin_grow"`: the i-th later block has `step * i + 1`.
            Defaults to `"even"`.
        initial_channels: Channels of the finest scale after the stem, before
            the growth factor. Defaults to 8.
        growth_rate: Channels that a layer adds, before the growth factor.
            Defaults to 6.
        growth_factors: One factor per scale, finest first; its length is the
            number of scales. Defaults to `(1, 2, 4)`.
        bottleneck_factors: Width of the 1 x 1 bottlenecks in units of the
            channels added, one factor per scale. Defaults to `(1, 2, 4)`.
        prune: `"max"`: the network is cut in as many equal parts as there
            are scales and each loses one more scale. `"min"`: only scales
            that no later exit could use are left out.
            Defaults to `"max"`.
        reduction: Share of channels that a transition keeps, in [0, 1]; 0
            means no transitions. Defaults to 0.5.
        stem: `"cifar"`: a 3 x 3 convolution. `"imagenet"`: a strided 7 x 7
            convolution and max-pooling. Defaults to `"cifar"`.
        head_channels: Channels of the heads' two convolutions; `None` takes
            those of the feature map below (the ImageNet head).
            Defaults to 128 (the CIFAR head).
        initialization: `"torch_default"`: PyTorch's default, which the
            published code in effect uses. `"he_fan_out"`: the published
            intent, normal with variance 2 / fan_out for convolutions,
            PyTorch's default for dense kernels, zero biases.
            Defaults to `"torch_default"`.
        normalization: `None`, or per-channel `(mean, standard_deviation)` of
            pixels in [0, 1], subtracted and divided inside the model.
            Defaults to `None`.
        name: Name of the model. Defaults to `"msdnet"`.
        trainable: Whether weights can be trained. Defaults to `True`.

    Raises:
        TypeError: If an argument has the wrong type.
        ValueError: If arguments do not fit together; the message names them.

    References:
        Huang et al., "Multi-Scale Dense Networks for Resource Efficient
        Image Classification" (ICLR 2018).
    """

    def __init__(
        self,
        input_shape: Sequence[int] = (32, 32, 3),
        num_classes: int = 10,
        num_blocks: int = 3,
        base: int = 4,
        step: int = 2,
        step_mode: str = "even",
        initial_channels: int = 8,
        growth_rate: int = 6,
        growth_factors: Sequence[int] = (1, 2, 4),
        bottleneck_factors: Sequence[int] = (1, 2, 4),
        prune: str = "max",
        reduction: float = 0.5,
        stem: str = "cifar",
        head_channels: int | None = 128,
        initialization: str = "torch_default",
        normalization: Normalization | None = None,
        name: str = "msdnet",
        trainable: bool = True,
    ) -> None:
        settings = Settings(**given(locals()))
        inputs, outputs = connect(settings)
        super().__init__(inputs, outputs, name=name, trainable=trainable)
        self.arguments = dict(vars(settings))

    @classmethod
    def cifar10(cls, **overrides: Any) -> Self:
        """Build the CIFAR-10 network: 3 exits, 8 initial channels.

        Args:
            **overrides: Constructor arguments to replace.
        """
        return cls(**{"name": "msdnet_cifar10", **overrides})

    @classmethod
    def cifar100(cls, **overrides: Any) -> Self:
        """Build the CIFAR-100 network: 7 exits, 8 initial channels.

        Args:
            **overrides: Constructor arguments to replace.
        """
        defaults = {
            "name": "msdnet_cifar100",
            "num_classes": 100,
            "num_blocks": 7,
        }
        return cls(**{**defaults, **overrides})

    @classmethod
    def tiny_imagenet(cls, option: str = "B", **overrides: Any) -> Self:
        """Build a Tiny-ImageNet network: 5 exits, 200 classes.

        The paper does not say how MSDNet was fitted to 64 x 64 images, on
        which the ImageNet network fails (its last map would be 2 x 2). Two
        readings are offered.

        Args:
            option: `"B"`: 64 x 64 images and the CIFAR stem, otherwise the
                ImageNet network. `"A"`: the ImageNet network on images that
                the input pipeline has resized to 224 x 224.
                Defaults to `"B"`.
            **overrides: Constructor arguments to replace.
        """
        checks.choice("option", option, _TINY_IMAGENET)
        defaults = {
            **_IMAGENET,
            **_TINY_IMAGENET[option],
            "name": "msdnet_tiny_imagenet",
            "num_classes": 200,
        }
        return cls(**{**defaults, **overrides})

    @classmethod
    def imagenet(cls, **overrides: Any) -> Self:
        """Build the ImageNet network: 5 exits, 224 x 224 images.

        Args:
            **overrides: Constructor arguments to replace.
        """
        return cls(**{"name": "msdnet_imagenet", **_IMAGENET, **overrides})

    def layers_up_to(self, exit_index: int) -> list[keras.layers.Layer]:
        """List the layers up to block `exit_index` (from 0), without heads.

        `exit_costs` counts all of them, as the published counter does: also
        those maps of a block's last layer that its own exit does not use.
        """
        return [
            layer
            for layer in self.layers
            if layer.name.startswith("block_")
            and int(layer.name.split("_")[1]) <= exit_index + 1
        ]
