"""How far an accuracy on a sample of images may be from that of all images.

low, high = wilson_interval(0.86, 1_000)        # 0.837, 0.880
"""

import math

from keras_neokd import checks

# The standard normal quantile of 97.5 %.
_QUANTILE = 1.959963984540054


def wilson_interval(accuracy, num_examples):
    """Return the 95 % confidence interval of an accuracy (Wilson 1927).

    Unlike the accuracy plus and minus two standard errors it stays inside [0,
    1] and says something at 0 and 1. It covers the choice of the images, not
    that of the seed of an attack or a training.

    Args:
        accuracy: share of correct images, from 0 to 1.
        num_examples: number of images, >= 1.

    Returns:
        Tuple of the lower and the upper end.

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
