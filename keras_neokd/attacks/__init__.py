"""Adversarial attacks on functions from images to logits of several exits.

from keras_neokd import attacks

pgd = attacks.PGD(epsilon=8 / 255, step_size=2 / 255, num_steps=7)
attacks.MaxAverage(pgd)                       # the paper's training attack
pgd.with_objective(attacks.SingleExit(0))     # attack the first exit only
"""

from keras_neokd import checks
from keras_neokd.attacks.apgd import APGD
from keras_neokd.attacks.apgd import TargetedAPGD
from keras_neokd.attacks.attack import Attack
from keras_neokd.attacks.attack import ExitLogits
from keras_neokd.attacks.auto_attack import AutoAttack
from keras_neokd.attacks.cw import CW
from keras_neokd.attacks.early_exit import EarlyExit
from keras_neokd.attacks.early_exit import SlowDown
from keras_neokd.attacks.fab import FAB
from keras_neokd.attacks.fab import TargetedFAB
from keras_neokd.attacks.max_average import MaxAverage
from keras_neokd.attacks.objective import AverageExits
from keras_neokd.attacks.objective import Objective
from keras_neokd.attacks.objective import SingleExit
from keras_neokd.attacks.pgd import PGD
from keras_neokd.attacks.search import SearchAttack
from keras_neokd.attacks.square import Square
from keras_neokd.attacks.uniform_noise import UniformNoise
from keras_neokd.attacks.worst_case import WorstCase

_PGD = "PGD(epsilon=8/255, step_size=2/255, num_steps=7)"
# What to write instead of a name.
_EXAMPLES = {
    "apgd": "APGD(epsilon=8/255)",
    "auto_attack": "AutoAttack(epsilon=8/255)",
    "average": _PGD,
    "cw": "CW(epsilon=1.0)",
    "fab": "FAB(epsilon=8/255)",
    "fgsm": "PGD(epsilon=8/255, step_size=8/255, num_steps=1)",
    "max_average": f"MaxAverage({_PGD})",
    "pgd": _PGD,
    "square": "Square(epsilon=8/255)",
    "targeted_apgd": "TargetedAPGD(epsilon=8/255)",
    "targeted_fab": "TargetedFAB(epsilon=8/255)",
    "uniform_noise": "UniformNoise(epsilon=8/255)",
}


def get(identifier, name="attack"):
    """Return an attack, or explain how to write it.

    Args:
        identifier: an `Attack`.
        name: name of the argument, for the message. Defaults to `"attack"`.

    Returns:
        The attack.

    Raises:
        ValueError: for a name: no name says epsilon, and a guessed one would
            decide the result. The message shows what to write instead.
        TypeError: for anything else.
    """
    if isinstance(identifier, Attack):
        return identifier
    if not isinstance(identifier, str):
        raise TypeError(
            f"`{name}` needs a keras_neokd.attacks.Attack, for example "
            f"{name}=keras_neokd.attacks.{_EXAMPLES['max_average']}; received "
            f"{checks.typed(identifier)}."
        )
    for known, example in _EXAMPLES.items():
        if _plain(identifier) == _plain(known):
            raise ValueError(
                f"{name}={identifier!r} does not say how strong the attack "
                f"is. Give epsilon: {name}=keras_neokd.attacks.{example} "
                "(pixel units of images in [0, 1])."
            )
    raise ValueError(
        f"Unknown attack {identifier!r}: the known ones are "
        f"{list(_EXAMPLES)}, each written as an object, for example "
        f"{name}=keras_neokd.attacks.{_EXAMPLES['max_average']}."
    )


def _plain(name):
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


__all__ = [
    "APGD",
    "CW",
    "FAB",
    "PGD",
    "Attack",
    "AutoAttack",
    "AverageExits",
    "EarlyExit",
    "ExitLogits",
    "MaxAverage",
    "Objective",
    "SearchAttack",
    "SingleExit",
    "SlowDown",
    "Square",
    "TargetedAPGD",
    "TargetedFAB",
    "UniformNoise",
    "WorstCase",
    "get",
]
