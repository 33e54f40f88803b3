"""What several protocols need."""

import keras
import numpy as np

from apps import building
from apps.flag_names import keys_of
from apps.flag_names import named_by_keys
from keras_neokd import checks


def attack(config, name, exit=None):
    """Return an attack as `config.evaluate` sets it; `None` for clean.

    Args:
        config: a whole config.
        name: one of `building.ATTACKS`, or clean.
        exit: index of the exit that `single` attacks.
    """
    if name == "clean":
        return None
    section = config.evaluate
    changes = {
        key: section[key] for key in ("epsilon", "num_steps", "num_restarts")
    }
    if section.epsilon is None:
        del changes["epsilon"]
    with named_by_keys(keys_of("evaluate", changes)):
        return building.build_attack(config, name, exit, **changes)


def attack_of(config, protocol, known=("clean", *building.ATTACKS)):
    """Return the attack that the section of a protocol names.

    Args:
        config: a whole config.
        protocol: key of the section in `config.evaluate`.
        known: names that are possible. Defaults to those of `attack`.

    Raises:
        ValueError: if the section names another one.
    """
    name = config.evaluate[protocol].attack
    return attack(
        config, checks.choice(f"evaluate.{protocol}.attack", name, known)
    )


def described(attack):
    """Return an attack as plain values, for the settings of an entry."""
    if attack is None:
        return "none"
    return keras.saving.serialize_keras_object(attack)


def plain(values):
    """Return thresholds as JSON has them: None for infinity."""
    return [None if np.isinf(each) else float(each) for each in values]


def options(config):
    """Return the arguments that evaluations share."""
    return {
        "batch_size": config.evaluate.batch_size,
        "seed": config.evaluate.seed,
    }


def need(validation, name):
    """Raise `ValueError` if there are no validation images."""
    if validation is None or not len(validation):
        raise ValueError(
            f"evaluate.protocols {name!r} sets thresholds on validation "
            "images, and this run has none: train on data that bring some, "
            "or with --config.data.validation_size, which holds images out "
            "of training."
        )
