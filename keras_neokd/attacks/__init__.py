"""Adversarial attacks on functions from images to logits of several exits.

from keras_neokd import attacks

pgd = attacks.PGD(epsilon=8 / 255, step_size=2 / 255, num_steps=7)
attacks.MaxAverage(pgd)                       # the paper's training attack
pgd.with_objective(attacks.SingleExit(0))     # attack the first exit only
"""

import functools
from typing import Any

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
from keras_neokd.base import checks
from keras_neokd.base.configurable import REQUIRED
from keras_neokd.base.registry import ATTACKS as BY_NAME

# Gives an attack of your own a name.
register = BY_NAME.register
# Settings of the attacks that messages propose.
_PROPOSED = {"epsilon": "8/255", "step_size": "2/255", "num_steps": "7"}


def get(identifier: Any, name: str = "attack") -> Attack:
    """Return an `Attack` as it is, or explain how to write it.

    Args:
        identifier: the attack.
        name: name of the argument, for the message. Defaults to `"attack"`.

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
            f"{name}={_example('max_average')}; received "
            f"{checks.typed(identifier)}."
        )
    for known in BY_NAME:
        if _plain(identifier) == _plain(known):
            raise ValueError(
                f"{name}={identifier!r} does not say how strong the attack "
                f"is. Give epsilon: {name}={_example(known)} "
                "(pixel units of images in [0, 1])."
            )
    raise ValueError(
        f"Unknown attack {identifier!r}: the known ones are "
        f"{BY_NAME.names()}, each written as an object, for example "
        f"{name}={_example('max_average')}."
    )


def _example(name):
    """Return a call that builds an attack."""
    entry, arguments = BY_NAME[name], []
    if isinstance(entry, functools.partial):
        arguments = [f"{key}={each!r}" for key, each in entry.keywords.items()]
        entry = entry.func
    arguments += [
        f"{key}={_PROPOSED.get(key, '...')}"
        for key, default in BY_NAME.settings(name).items()
        if default is REQUIRED or key == "epsilon"
    ]
    is_ours = entry.__module__.startswith("keras_neokd.")
    prefix = "keras_neokd.attacks." if is_ours else ""
    return f"{prefix}{entry.__qualname__}({', '.join(arguments)})"


def _plain(name):
    return name.lower().replace("_", "").replace("-", "").replace(" ", "")


__all__ = [
    "APGD",
    "CW",
    "FAB",
    "PGD",
    "BY_NAME",
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
    "register",
]
