"""Plan an MSDNet: checked settings, blocks, scales and widths."""

import math
import types
from typing import NamedTuple

from keras_neokd.base import checks
from keras_neokd.models.arguments import image_shape
from keras_neokd.models.arguments import normalization
from keras_neokd.models.arguments import one_per


class Settings(types.SimpleNamespace):
    """The constructor arguments of `MSDNet`, checked; see there."""

    def __init__(self, **arguments):
        super().__init__(**arguments)
        self._check_choices()
        self._check_sizes()
        self._check_factors()
        num_layers = len(self.layer_blocks())
        if self.prune == "min" and num_layers < self.num_scales - 1:
            raise ValueError(
                f'`prune="min"` with {self.num_scales} scales needs at least '
                f"{self.num_scales - 1} layers; received `base`, `step` and "
                f"`num_blocks` that make {num_layers}. Use more layers, fewer "
                'scales or `prune="max"`.'
            )

    @property
    def num_scales(self):
        """Number of scales."""
        return len(self.growth_factors)

    def layer_blocks(self):
        """List the block number of each layer, in order."""
        blocks = [1] * self.base
        for later in range(1, self.num_blocks):
            grows = self.step_mode == "lin_grow"
            size = self.step * later + 1 if grows else self.step
            blocks += [later + 1] * size
        return blocks

    def _check_choices(self):
        for name, known in {
            "step_mode": ("even", "lin_grow"),
            "prune": ("max", "min"),
            "stem": ("cifar", "imagenet"),
            "initialization": ("torch_default", "he_fan_out"),
        }.items():
            checks.choice(name, getattr(self, name), known)

    def _check_sizes(self):
        self.input_shape = image_shape(self.input_shape)
        self.normalization = normalization(
            self.normalization, self.input_shape[-1]
        )
        checks.integer("num_classes", self.num_classes, minimum=2)
        for name in (
            "num_blocks",
            "base",
            "step",
            "initial_channels",
            "growth_rate",
            "head_channels",
        ):
            if name != "head_channels" or self.head_channels is not None:
                checks.integer(name, getattr(self, name), minimum=1)
        checks.number("reduction", self.reduction, minimum=0, maximum=1)

    def _check_factors(self):
        self.growth_factors, self.bottleneck_factors = one_per(
            "scale",
            growth_factors=self.growth_factors,
            bottleneck_factors=self.bottleneck_factors,
        )
        # Coarser scales take half of their new channels from the finer one.
        for factor in self.growth_factors[1:]:
            if self.growth_rate * factor % 2:
                raise ValueError(
                    "`growth_rate` times each of `growth_factors` but the "
                    f"first must be even; received {self.growth_rate} and "
                    f"{self.growth_factors}."
                )


class LayerPlan(NamedTuple):
    """Place of a layer in the network, and the maps that it leaves.

    Attributes:
        block: from 1.
        index: from 1, through all blocks.
        num_scales: how many scales the layer keeps.
        transition_width: channels after the transition that follows, before
            the growth factor of a scale; `None` where none follows.
    """

    block: int
    index: int  # type: ignore[assignment]
    num_scales: int
    transition_width: int | None


def plan_layers(settings):
    """Lay out blocks, surviving scales and transitions.

    Args:
        settings: A `Settings`.

    Returns:
        A list with one `LayerPlan` per layer.

    Raises:
        ValueError: If a transition would leave no channel.
    """
    blocks = settings.layer_blocks()
    total = len(blocks)
    interval = math.ceil(total / settings.num_scales)
    width = settings.initial_channels
    previous = settings.num_scales
    plan = []
    for index, block in enumerate(blocks, start=1):
        if settings.prune == "max":
            num_scales = settings.num_scales - (index - 1) // interval
            thins = num_scales < previous
        else:
            num_scales = min(settings.num_scales, total - index + 1)
            thins = index in (total // 3, 2 * total // 3)
        width += settings.growth_rate
        transition_width = None
        if thins and settings.reduction > 0:
            if int(width * settings.reduction) < 1:
                raise ValueError(
                    f"`reduction` {settings.reduction} leaves none of {width} "
                    "channels at a transition. Use a larger `reduction`, or 0 "
                    "for no transitions."
                )
            width = transition_width = int(width * settings.reduction)
        plan.append(LayerPlan(block, index, num_scales, transition_width))
        previous = num_scales
    return plan
