"""Stages of a ResNet for small images, in plain Keras."""

from keras import layers

from keras_neokd.models.initializers import KaimingNormal
from keras_neokd.models.parts import convolved

_EXPANSION = 4


def connect_stages(x, stage_blocks, stage_filters, block, activation):
    """Connect a 3 x 3 stem and all residual stages; return a map of each.

    The first stage keeps the size of the image, every other halves it. A
    shortcut is the identity wherever the shapes allow.

    Args:
        x: Keras tensor of images.
        stage_blocks: Number of blocks per stage.
        stage_filters: Filters of each stage's 3 x 3 convolutions.
        block: `"basic"` or `"bottleneck"`.
        activation: Name of the activation function.
    """
    residual = {"basic": _basic, "bottleneck": _bottleneck}[block]
    x = _unit(x, stage_filters[0], 3, "stem", activation)
    maps = []
    sizes = zip(stage_blocks, stage_filters, strict=True)
    for stage, (num_blocks, filters) in enumerate(sizes, start=1):
        for index in range(1, num_blocks + 1):
            strides = 2 if stage > 1 and index == 1 else 1
            name = f"stage_{stage}_block_{index}"
            x = residual(x, filters, strides, name, activation)
        maps.append(x)
    return maps


def _basic(x, filters, strides, name, activation):
    """Add two 3 x 3 convolutions to the shortcut."""
    y = _unit(x, filters, 3, f"{name}_unit_1", activation, strides)
    y = _unit(y, filters, 3, f"{name}_unit_2", None)
    return _merge(x, y, strides, name, activation)


def _bottleneck(x, filters, strides, name, activation):
    """Add a 3 x 3 convolution between two 1 x 1 ones to the shortcut."""
    y = _unit(x, filters, 1, f"{name}_unit_1", activation)
    y = _unit(y, filters, 3, f"{name}_unit_2", activation, strides)
    y = _unit(y, _EXPANSION * filters, 1, f"{name}_unit_3", None)
    return _merge(x, y, strides, name, activation)


def _merge(x, y, strides, name, activation):
    if x.shape != y.shape:
        x = _unit(x, y.shape[-1], 1, f"{name}_shortcut", None, strides)
    x = layers.Add(name=f"{name}_add")([x, y])
    return layers.Activation(activation, name=f"{name}_{activation}")(x)


def _unit(x, filters, size, name, activation, strides=1):
    return convolved(
        x,
        filters,
        size,
        name,
        strides,
        activation,
        use_bias=False,
        kernel_initializer=KaimingNormal(size * size * filters),
    )
