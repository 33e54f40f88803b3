"""Stages of a ResNet for large images, from keras-cv."""

import keras
from keras import layers

# keras-cv's stem has these many filters, which a basic block adds to.
STEM_FILTERS = 64
_BLOCKS = {"basic": "basic_block", "bottleneck": "block"}


def connect_stages(x, stage_blocks, stage_filters, block, activation):
    """Connect keras-cv's `ResNetBackbone`, whose stem divides sizes by 4.

    It is the generic class, not one of its aliases such as
    `ResNet50Backbone`, which ask the network for presets.

    Takes and returns the same as `cifar_stages.connect_stages`; the maps are
    the levels P2, P3, ... of the backbone's feature pyramid.
    """
    keras_cv = _import_keras_cv()
    if keras.config.image_data_format() != "channels_last":
        raise ValueError(
            "keras-cv's ResNet follows Keras' image_data_format, which is "
            f"{keras.config.image_data_format()!r}, and its batch norm needs "
            "'channels_last'. Call keras.config.set_image_data_format, or "
            'use `stem="cifar"`.'
        )
    backbone = keras_cv.models.ResNetBackbone(
        stackwise_filters=list(stage_filters),
        stackwise_blocks=list(stage_blocks),
        stackwise_strides=[1] + [2] * (len(stage_blocks) - 1),
        block_type=_BLOCKS[block],
        include_rescaling=False,
        input_tensor=x,
    )
    _adjust(backbone, activation)
    # A backbone on a tensor that is no input has a graph of its own; a
    # layer's `output` is that of its first call, the one on `x`.
    return [
        backbone.get_layer(name).output
        for _, name in sorted(backbone.pyramid_level_inputs.items())
    ]


def _adjust(backbone, activation):
    """Set what the class has no argument for, before anything runs."""
    for layer in backbone.layers:
        if isinstance(layer, layers.Activation):
            layer.activation = keras.activations.get(activation)
        if isinstance(layer, layers.BatchNormalization):
            # As in PyTorch and in the other models; Keras' 0.99 lags behind
            # weights that attacked images change quickly.
            layer.momentum = 0.9


def _import_keras_cv():
    try:
        import keras_cv
    except ImportError as error:
        raise ImportError(
            'A ResNet with `stem="imagenet"` is built by keras-cv, which '
            f"cannot be imported ({error}). Install it with `pip install "
            "'keras-neokd[cv]'` (it needs TensorFlow under every backend), "
            'or use `stem="cifar"`.'
        ) from error
    return keras_cv
