"""Accuracy against the strength of an attack.

curve = sensitivity(model, images, labels, pgd, "epsilon", (0.1, 0.2, 0.3))
curve.values, curve.accuracy            # (values,), (values, exits)
"""

import dataclasses

import numpy as np

from keras_neokd import checks
from keras_neokd.configurable import Configurable
from keras_neokd.evaluation import soundness
from keras_neokd.evaluation.anytime import anytime

_NAMES = ("epsilon", "num_steps")


@dataclasses.dataclass(frozen=True)
class SensitivityResult:
    """Accuracy of every exit for every value.

    Attributes:
        name: what was changed.
        values: its values, increasing, `(values,)`.
        accuracy: top-1, `(values, exits)`.
        signs: list of `soundness.Sign`s: accuracy should fall.
    """

    name: str
    values: tuple
    accuracy: np.ndarray
    signs: list


def sensitivity(
    model, images, labels, attack, name, values, batch_size=256, seed=0
):
    """Attack with one argument of the attack changed.

    Args:
        model: a `MultiExitModel`.
        images: array `(examples, height, width, channels)` in [0, 1].
        labels: integers `(examples,)` or one-hot.
        attack: an attack that has the argument, such as `PGD`; its step size
            stays in proportion to epsilon.
        name: `"epsilon"` or `"num_steps"`.
        values: the values to try; an epsilon of 0 is a clean image.
        batch_size: images per compiled call. Defaults to 256.
        seed: integer. Defaults to 0.

    Returns:
        A `SensitivityResult`.

    Raises:
        TypeError, ValueError: if the attack has no such argument, or a value
            is not possible.
    """
    values = checks.sequence("values", values, "numbers")
    if not values:
        raise ValueError(
            f"A curve over {name!r} needs at least one value, received none."
        )
    for each in values:
        checks.number("values", each, minimum=0)
    values = tuple(sorted(set(values)))
    stronger = [changed(attack, name, value) for value in values]
    accuracy = np.stack(
        [
            anytime(model, images, labels, each, batch_size, seed).accuracy()
            for each in stronger
        ]
    )
    signs = soundness.check_curve(name, values, list(accuracy.mean(axis=1)))
    return SensitivityResult(name, values, accuracy, signs)


def changed(attack, name, value):
    """Return the attack with another strength.

    Args:
        attack: as for `sensitivity`.
        name: `"epsilon"` or `"num_steps"`.
        value: its new value.

    Returns:
        An `Attack`, or `None` for an epsilon of 0.

    Raises:
        TypeError, ValueError: if the attack has no such argument, or the
            value is not possible.
    """
    arguments = attack.arguments() if isinstance(attack, Configurable) else {}
    names = [each for each in _NAMES if each in arguments]
    if not isinstance(name, str) or name not in names:
        raise ValueError(
            f"The `attack` {attack!r} cannot be made stronger by the `name` "
            f"{checks.shown(name)}: expected one of {names}."
        )
    if name == "epsilon" and value == 0:
        return None
    changes = {name: value}
    if name == "epsilon" and "step_size" in arguments and attack.epsilon:
        changes["step_size"] = attack.step_size * value / attack.epsilon
    return type(attack)(**{**arguments, **changes})
