"""Confidence intervals for the choice of the images.

low, high = wilson_interval(0.86, 1_000)        # 0.837, 0.880
low, high = mean_cost_interval([0.5, 0.5], [1e6, 3e6], 200)
saving_interval(2e6, (low, high), 4e6, (3.9e6, 4.1e6))
"""

import math
from collections.abc import Sequence

import numpy as np

from keras_neokd.base import checks
from keras_neokd.base.typing import Array

# The standard normal quantile of 97.5 %.
_QUANTILE = 1.959963984540054
# How far rounding may take a cost out of its interval.
_ROUNDING = 1e-6


def wilson_interval(accuracy: float, num_examples: int) -> tuple[float, float]:
    """Return both ends of the 95 % interval of an accuracy (Wilson 1927).

    Unlike the accuracy plus and minus two standard errors it stays inside [0,
    1] and says something at 0 and 1. It covers the choice of the images, not
    that of the seed of an attack or a training.

    Args:
        accuracy: share of correct images, from 0 to 1.
        num_examples: number of images, >= 1.

    Raises:
        TypeError, ValueError: if an argument is out of range.
    """
    accuracy = checks.number("accuracy", accuracy, minimum=0, maximum=1)
    count = checks.integer("num_examples", num_examples, minimum=1)
    spread = _QUANTILE**2 / count
    middle = (accuracy + spread / 2) / (1 + spread)
    half = math.sqrt(accuracy * (1 - accuracy) * spread + spread**2 / 4) / (
        1 + spread
    )
    return max(middle - half, 0.0), min(middle + half, 1.0)


def mean_cost_interval(
    exit_shares: Sequence[float] | Array,
    exit_costs: Sequence[float] | Array,
    num_examples: int,
) -> tuple[float, float]:
    """Return both ends of the 95 % interval of the mean cost of an image.

    The interval of Agresti and Coull (1998), for costs in place of 0 and 1:
    that of a normal distribution after `1.96**2` images were added, half of
    them at the cheapest and half at the dearest exit, cut off at the costs of
    these. Two exits give their interval exactly. It holds the mean cost always,
    and is never empty, also where all images leave at one exit. It covers the
    choice of the images, with the thresholds as they are.

    Args:
        exit_shares: share of the images that leave at each exit, `(exits,)`;
            adds up to 1.
        exit_costs: cost up to each exit, `(exits,)`, increasing.
        num_examples: number of images, >= 1.

    Raises:
        TypeError, ValueError: if an argument is out of range.
    """
    count = checks.integer("num_examples", num_examples, minimum=1)
    shares = _numbers("exit_shares", exit_shares)
    costs = _numbers("exit_costs", exit_costs)
    if shares.shape != costs.shape or not math.isclose(
        shares.sum(), 1, abs_tol=1e-6
    ):
        raise ValueError(
            "`exit_shares` needs one share for each of the "
            f"{costs.size} exits, 1 in all, received {shares.tolist()}."
        )
    if (np.diff(costs) < 0).any():
        raise ValueError(
            "`exit_costs` needs costs up to each exit, which do not fall, "
            f"received {costs.tolist()}."
        )
    added = np.zeros_like(shares)
    np.add.at(added, [0, -1], _QUANTILE**2 / 2)
    total = count + _QUANTILE**2
    shares = (count * shares + added) / total
    mean = float(shares @ costs)
    half = _QUANTILE * math.sqrt(shares @ (costs - mean) ** 2 / total)
    return max(mean - half, float(costs[0])), min(mean + half, float(costs[-1]))


def saving_interval(
    cost: float,
    interval: tuple[float, float],
    other: float,
    other_interval: tuple[float, float],
) -> tuple[float, float]:
    """Return both ends of the 95 % interval of a saving, `1 - cost / other`.

    They are negative where more is spent. The intervals of the two costs are
    combined on a logarithmic scale (MOVER, Zou and Donner 2008), as if they
    were measured on different images. On the same images costs mostly rise
    together, and the interval is too wide rather than too narrow.

    Args:
        cost: mean cost, > 0.
        interval: tuple of its lower and upper end.
        other: mean cost that is saved against, > 0.
        other_interval: tuple of its lower and upper end.

    Raises:
        TypeError, ValueError: if an argument is out of range.
    """
    cost = checks.number("cost", cost, above=0)
    other = checks.number("other", other, above=0)
    low, high = _logarithms("interval", interval, cost)
    other_low, other_high = _logarithms("other_interval", other_interval, other)
    ratio = cost / other
    return (
        1 - ratio * math.exp(math.hypot(high, other_low)),
        1 - ratio * math.exp(-math.hypot(low, other_high)),
    )


def _numbers(name, values):
    return np.array(
        [
            checks.number(name, each, minimum=0)
            for each in checks.sequence(name, values, "one number per exit")
        ]
    )


def _logarithms(name, interval, cost):
    """Return the logarithms of both ends of an interval, in costs."""
    ends = [
        checks.number(name, each, minimum=0)
        for each in checks.sequence(name, interval, "a lower and an upper end")
    ]
    rounded = _ROUNDING * cost
    if len(ends) != 2 or not ends[0] - rounded <= cost <= ends[1] + rounded:
        raise ValueError(
            f"`{name}` needs a lower and an upper end around {cost:g}, "
            f"received {ends}."
        )
    return [math.log(each / cost) if each else -math.inf for each in ends]
