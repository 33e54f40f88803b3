"""Accuracy against the strength of an attack.

    curve = sensitivity(model, images, labels, pgd, "epsilon", (0.1, 0.2, 0.3))
    curve.values, curve.accuracy            # (values,), (values, exits)
"""

import dataclasses

import numpy as np

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
        ValueError: if the attack has no such argument, or a value is not
            possible.
    """
    values = tuple(sorted(set(values)))
    attacks = [_changed(attack, name, value) for value in values]
    accuracy = np.stack(
        [
            anytime(
                model, images, labels, each, batch_size, seed
            ).accuracy()
            for each in attacks
        ]
    )
    signs = soundness.check_curve(name, values, list(accuracy.mean(axis=1)))
    return SensitivityResult(name, values, accuracy, signs)


def _changed(attack, name, value):
    arguments = attack.arguments()
    if name not in _NAMES or name not in arguments:
        raise ValueError(
            f"{type(attack).__name__} cannot be made stronger by {name!r}: "
            f"expected one of {[each for each in _NAMES if each in arguments]}."
        )
    if name == "epsilon" and value == 0:
        return None
    changes = {name: value}
    if name == "epsilon" and "step_size" in arguments and attack.epsilon:
        changes["step_size"] = attack.step_size * value / attack.epsilon
    return type(attack)(**{**arguments, **changes})
