"""The plan of an MSDNet: checked settings, blocks, scales and widths.

Plain arithmetic; nothing here builds layers.
"""

import dataclasses
import math
from typing import NamedTuple

from keras_neokd.base import checks
from keras_neokd.models.arguments import image_shape
from keras_neokd.models.arguments import normalization
from keras_neokd.models.arguments import share


@dataclasses.dataclass(frozen=True)
class Settings:
    """The constructor arguments of `MSDNet`, checked; see there."""

    input_shape: tuple
    num_classes: int
    num_blocks: int
    base: int
    step: int
    step_mode: str
    initial_channels: int
    growth_rate: int
    growth_factors: tuple
    bottleneck_factors: tuple
    prune: str
    reduction: float
    stem: str
    head_channels: int | None
    initialization: str
    normalization: tuple | None

    def __post_init__(self):
        """Turn sequences into tuples and check every value."""
        # A reloaded configuration holds lists, as JSON knows no tuples.
        for name in ("input_shape", "growth_factors", "bottleneck_factors"):
            values = checks.sequence(name, getattr(self, name), "integers")
            object.__setattr__(self, name, values)
        self._check_choices()
        self._check_sizes()
        self._check_factors()
        checked = normalization(self.normalization, self.input_shape[-1])
        object.__setattr__(self, "normalization", checked)
        if self.prune == "min" and len(self.layer_blocks()) < (
            self.num_scales - 1
        ):
            raise ValueError(
                f'`prune="min"` with {self.num_scales} scales needs at least '
                f"{self.num_scales - 1} layers; received `base`, `step` and "
                f"`num_blocks` that make {len(self.layer_blocks())}. Use more "
                'layers, fewer scales or `prune="max"`.'
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
        checks.choice("step_mode", self.step_mode, ("even", "lin_grow"))
        checks.choice("prune", self.prune, ("max", "min"))
        checks.choice("stem", self.stem, ("cifar", "imagenet"))
        checks.choice(
            "initialization",
            self.initialization,
            ("torch_default", "he_fan_out"),
        )

    def _check_sizes(self):
        image_shape(self.input_shape)
        checks.integer("num_classes", self.num_classes, minimum=2)
        for name in (
            "num_blocks",
            "base",
            "step",
            "initial_channels",
            "growth_rate",
        ):
            checks.integer(name, getattr(self, name), minimum=1)
        if self.head_channels is not None:
            checks.integer("head_channels", self.head_channels, minimum=1)
        share("reduction", self.reduction)

    def _check_factors(self):
        for name in ("growth_factors", "bottleneck_factors"):
            for factor in getattr(self, name):
                checks.integer(name, factor, minimum=1)
        if not self.growth_factors or len(self.growth_factors) != len(
            self.bottleneck_factors
        ):
            raise ValueError(
                "`growth_factors` and `bottleneck_factors` need one value "
                f"per scale each; received {self.growth_factors} and "
                f"{self.bottleneck_factors}."
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
    """Where a layer stands and what it leaves behind.

    Widths are in channels before the growth factor of a scale.
    """

    block: int
    index: int
    num_scales: int
    # Width after the transition that follows, None where none follows.
    transition_width: int | None


def plan_layers(settings):
    """Lay out blocks, surviving scales and transitions.

    Args:
        settings: A `Settings`.

    Returns:
        A list with one `LayerPlan` per layer, in order.

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
            width = transition_width = _thinned(width, settings.reduction)
        plan.append(LayerPlan(block, index, num_scales, transition_width))
        previous = num_scales
    return plan


def _thinned(width, reduction):
    """Return the width that a transition keeps."""
    kept = int(width * reduction)
    if kept < 1:
        raise ValueError(
            f"`reduction` {reduction} leaves none of {width} channels at a "
            "transition. Use a larger `reduction`, or 0 for no transitions."
        )
    return kept
