"""Accuracy against the strength of an attack.

curve = sensitivity(model, images, labels, pgd, "epsilon", (0.1, 0.2, 0.3))
curve.values, curve.accuracy            # (values,), (values, exits)
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from keras_neokd.attacks.attack import Attack
from keras_neokd.base import checks
from keras_neokd.base.configurable import Configurable
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Row
from keras_neokd.evaluation import soundness
from keras_neokd.evaluation.anytime import anytime
from keras_neokd.evaluation.protocol import Protocol
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import table
from keras_neokd.network.multi_exit import MultiExitModel

_NAMES = ("epsilon", "num_steps")
# Epsilons to try, as shares of that of the attack.
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


@dataclasses.dataclass(frozen=True)
class SensitivityResult(Result):
    """Accuracy of every exit for every value.

    Attributes:
        name: what was changed.
        values: its values, increasing, `(values,)`.
        accuracy: top-1, `(values, exits)`.
        findings: list of `soundness.Finding`s: accuracy should fall.
        exit_names: names of the exits in depth order.
    """

    columns = {
        "changed": "text",
        "value": "number",
        "exit": "text",
        "accuracy": "share",
    }
    spread = ("accuracy",)

    name: str
    values: tuple[float, ...]
    accuracy: np.ndarray
    findings: list[soundness.Finding]
    exit_names: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """Return a row per value and exit."""
        values, exits = self.accuracy.shape
        return table(
            changed=[self.name] * (values * exits),
            value=np.repeat(self.values, exits),
            exit=self.exit_names * values,
            accuracy=self.accuracy.ravel(),
        )


class _Curves(Result):
    """The rows and findings of several `SensitivityResult`s."""

    columns = SensitivityResult.columns
    spread = SensitivityResult.spread

    def __init__(self, curves):
        super().__init__([row for curve in curves for row in curve.rows()])
        self.findings = [each for curve in curves for each in curve.findings]


def sensitivity(
    model: MultiExitModel,
    images: Array,
    labels: Array,
    attack: Attack,
    name: str,
    values: Sequence[float],
    batch_size: int = 256,
    seed: int = 0,
) -> SensitivityResult:
    """Return a `SensitivityResult` of an attack with one argument changed.

    Args:
        model, images, labels, batch_size, seed: as for `anytime`.
        attack: an attack that has the argument, such as `PGD`; its step size
            stays in proportion to epsilon.
        name: `"epsilon"` or `"num_steps"`.
        values: the values to try; an epsilon of 0 is a clean image.

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
    findings = soundness.check_curve(name, values, accuracy.mean(axis=1))
    return SensitivityResult(name, values, accuracy, findings, model.exit_names)


def changed(attack, name, value):
    """Return the attack with another strength, `None` for an epsilon of 0.

    Args:
        attack, name: as for `sensitivity`.
        value: the new value of the argument.

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
    return attack.replace(**changes)


def _around(attack):
    """Return radii from none to more than that of the attack."""
    largest = 1.0 if attack.norm == "linf" else np.inf
    return tuple(
        sorted({min(share * attack.epsilon, largest) for share in _SHARES})
    )


def _check(model, attack, epsilons, num_steps):
    del model
    for value in epsilons or ():
        checks.number("epsilons", value, minimum=0)
    for value in num_steps:
        checks.integer("num_steps", value, minimum=0)
    if epsilons is None:
        # Up to one and a half times that of the attack.
        epsilons = _around(attack)
    if not epsilons and not num_steps:
        raise ValueError(
            "Sensitivity needs values to try in `epsilons` or `num_steps`: "
            "both are empty."
        )
    for name, values in (("epsilon", epsilons), ("num_steps", num_steps)):
        for value in values:
            changed(attack, name, value)
    return {"epsilons": epsilons}


@Protocol("sensitivity", _Curves, _check)
def _curves(
    model,
    images,
    labels,
    attack,
    epsilons=(),
    num_steps=(1, 5, 10, 20, 50),
    batch_size=256,
    seed=0,
):
    """Measure `sensitivity` to epsilon and to the number of steps."""
    varied = {"epsilon": epsilons, "num_steps": num_steps}
    return _Curves(
        [
            sensitivity(
                model, images, labels, attack, name, values, batch_size, seed
            )
            for name, values in varied.items()
            if values
        ]
    )
