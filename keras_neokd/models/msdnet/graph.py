"""Connect the layers of an MSDNet.

Feature maps travel as a dictionary from scale (1 is the finest) to tensor;
pruned scales are no longer in it.
"""

import keras
from keras import layers

from keras_neokd.models.initializers import KaimingNormal
from keras_neokd.models.initializers import TorchDefault
from keras_neokd.models.msdnet.plan import plan_layers
from keras_neokd.models.parts import CHANNELS_LAST
from keras_neokd.models.parts import averaged
from keras_neokd.models.parts import convolved
from keras_neokd.models.parts import normalize
from keras_neokd.models.parts import padded

# Two strided convolutions must leave the head at least 2 x 2 positions.
_MINIMUM_HEAD_SIZE = 5


def connect(settings):
    """Return the input and the logits by exit of an MSDNet of `Settings`.

    Raises:
        ValueError: If the coarsest map is too small for the heads.
    """
    inputs = keras.Input(settings.input_shape, name="images")
    x = normalize(inputs, settings.normalization)
    parts = _Parts(settings)
    maps = parts.stem(x)
    _check_head_fits(maps[settings.num_scales].shape, settings)
    outputs = {}
    plan = plan_layers(settings)
    for layer, following in zip(plan, plan[1:] + [None], strict=True):
        name = f"block_{layer.block}_layer_{layer.index}"
        maps = parts.layer(maps, layer.num_scales, name)
        if layer.transition_width is not None:
            maps = parts.transition(
                maps, layer.transition_width, f"{name}_transition"
            )
        if following is None or following.block != layer.block:
            name = f"exit_{layer.block}"
            outputs[name] = parts.head(maps[settings.num_scales], name)
    return inputs, outputs


class _Parts:
    """Parts of a network of given settings."""

    def __init__(self, settings):
        self._settings = settings

    def stem(self, x):
        """Make the first map of every scale."""
        settings = self._settings
        maps = {}
        for scale, factor in enumerate(settings.growth_factors, start=1):
            name = f"block_1_stem_scale_{scale}"
            filters = settings.initial_channels * factor
            if scale > 1:
                x = self._unit(x, filters, 3, name, strides=2)
            elif settings.stem == "cifar":
                x = self._unit(x, filters, 3, name)
            else:
                x = self._unit(x, filters, 7, name, strides=2, use_bias=True)
                # Zeros are safe to pad with: nothing is negative after ReLU.
                x = padded(x, 1, f"{name}_pool")
                x = layers.MaxPooling2D(
                    3, 2, name=f"{name}_pool", **CHANNELS_LAST
                )(x)
            maps[scale] = x
        return maps

    def layer(self, maps, num_scales, name):
        """Append new channels to every surviving scale.

        A scale gets half of them from the next finer one, unless it is
        itself the finest of `maps`.
        """
        settings = self._settings
        total = settings.num_scales
        new_maps = {}
        for scale in range(total - num_scales + 1, total + 1):
            prefix = f"{name}_scale_{scale}"
            new = settings.growth_rate * settings.growth_factors[scale - 1]
            pieces = [maps[scale]]
            if scale - 1 in maps:
                new //= 2
                pieces.append(
                    self._path(
                        maps[scale - 1], new, scale - 1, f"{prefix}_down", 2
                    )
                )
            pieces.append(
                self._path(maps[scale], new, scale, f"{prefix}_normal")
            )
            new_maps[scale] = layers.Concatenate(name=f"{prefix}_concat")(
                pieces
            )
        return new_maps

    def transition(self, maps, width, name):
        """Thin every scale with a 1 x 1 convolution."""
        factors = self._settings.growth_factors
        return {
            scale: self._unit(
                x, width * factors[scale - 1], 1, f"{name}_scale_{scale}"
            )
            for scale, x in maps.items()
        }

    def head(self, x, name):
        """Classify the coarsest map."""
        settings = self._settings
        filters = settings.head_channels or x.shape[-1]
        x = self._unit(x, filters, 3, f"{name}_unit_1", strides=2)
        x = self._unit(x, filters, 3, f"{name}_unit_2", strides=2)
        return layers.Dense(
            settings.num_classes,
            kernel_initializer=TorchDefault(filters),
            bias_initializer=self._bias_initializer(filters),
            dtype="float32",
            name=name,
        )(averaged(x, name))

    def _path(self, x, filters, scale, name, strides=1):
        """Squeeze with a 1 x 1 unit, then apply a 3 x 3 unit."""
        factor = self._settings.bottleneck_factors[scale - 1]
        width = min(x.shape[-1], factor * filters)
        x = self._unit(x, width, 1, f"{name}_bottleneck")
        return self._unit(x, filters, 3, name, strides=strides)

    def _unit(self, x, filters, size, name, strides=1, use_bias=False):
        fan_in = size * size * x.shape[-1]
        # Made in any case: each takes a number of the generator of seeds.
        kernel_initializer = TorchDefault(fan_in)
        if self._settings.initialization == "he_fan_out":
            kernel_initializer = KaimingNormal(size * size * filters)
        return convolved(
            x,
            filters,
            size,
            name,
            strides,
            use_bias=use_bias,
            kernel_initializer=kernel_initializer,
            bias_initializer=self._bias_initializer(fan_in),
        )

    def _bias_initializer(self, fan_in):
        if self._settings.initialization == "he_fan_out":
            return "zeros"
        return TorchDefault(fan_in)


def _check_head_fits(shape, settings):
    """Raise `ValueError` if the coarsest map is too small for a head."""
    height, width = shape[1:3]
    if min(height, width) < _MINIMUM_HEAD_SIZE:
        raise ValueError(
            f"The coarsest of {settings.num_scales} scales is {height} x "
            f"{width} for `input_shape` {settings.input_shape} with the "
            f'"{settings.stem}" stem; the heads need at least '
            f"{_MINIMUM_HEAD_SIZE} x {_MINIMUM_HEAD_SIZE}. Use larger "
            "images, fewer scales (shorter `growth_factors` and "
            '`bottleneck_factors`) or `stem="cifar"`.'
        )
