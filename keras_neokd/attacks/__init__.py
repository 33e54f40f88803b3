"""Adversarial attacks on functions from images to logits of several exits.

from keras_neokd import attacks

pgd = attacks.PGD(epsilon=8 / 255, step_size=2 / 255, num_steps=7)
attacks.MaxAverage(pgd)                       # the paper's training attack
pgd.with_objective(attacks.SingleExit(0))     # attack the first exit only
"""

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

_EXAMPLES = {
    "average": "PGD(epsilon=8/255, step_size=2/255, num_steps=7)",
    "max_average": (
        "MaxAverage(PGD(epsilon=8/255, step_size=2/255, num_steps=7))"
    ),
    "pgd": "PGD(epsilon=8/255, step_size=2/255, num_steps=7)",
}


def get(identifier):
    """Return an attack, or explain how to write it.

    Args:
        identifier: an `Attack`.

    Returns:
        The attack.

    Raises:
        ValueError: for a name: no name says epsilon, and a guessed one would
            decide the result. The message shows what to write instead.
        TypeError: for anything else.
    """
    if isinstance(identifier, Attack):
        return identifier
    if isinstance(identifier, str) and identifier in _EXAMPLES:
        raise ValueError(
            f"attack={identifier!r} does not say how strong the attack is. "
            f"Give epsilon: attack=keras_neokd.attacks.{_EXAMPLES[identifier]}"
            " (pixel units of images in [0, 1])."
        )
    if isinstance(identifier, str):
        raise ValueError(
            f"Unknown attack {identifier!r}: the known ones are "
            f"{sorted(_EXAMPLES)}, each written as an object, for example "
            f"attack=keras_neokd.attacks.{_EXAMPLES['max_average']}."
        )
    raise TypeError(
        f"`attack` needs a keras_neokd.attacks.Attack, received "
        f"{identifier!r} of type {type(identifier).__name__}."
    )


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
