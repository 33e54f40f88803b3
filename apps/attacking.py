"""From `config.evaluate` to the attacks of an evaluation, by name."""

import keras

from keras_neokd.base import checks

from . import building
from . import strong_attacks
from .flag_names import keys_of
from .flag_names import named_by_keys

_STRENGTH = ("num_steps", "num_queries")


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


def plan(config, model):
    """Return all attacks of an evaluation.

    Args:
        config: a whole config.
        model: the model to attack.

    Returns:
        Dict from the names of entries to attacks; clean images, `None`, come
        first.

    Raises:
        ValueError, TypeError: if a setting is not possible, or an attack does
            not fit the model.
    """
    attacks = {"clean": None}
    known = (*building.ATTACKS, *strong_attacks.NAMES)
    for name in config.evaluate.attacks:
        checks.choice("evaluate.attacks", name, known)
        if name in strong_attacks.NAMES:
            objectives = strong_attacks.objectives(config, model.exit_names)
            attacks |= {
                f"{name}_{end}": strong_attacks.build(config, name, objective)
                for end, objective in objectives.items()
            }
        elif name == "single":
            attacks |= {
                f"single_{exit_name}": attack(config, name, index)
                for index, exit_name in enumerate(model.exit_names)
            }
        else:
            attacks[name] = attack(config, name)
    for each in attacks.values():
        if each is not None:
            each.validate(model.num_exits, model.num_classes)
    return attacks


def pgd_settings(config):
    """Return the settings of the attacks that do not search.

    Args:
        config: a whole config.
    """
    settings = {
        key: config.attack[key]
        for key in ("epsilon", "step_size", "norm", "random_start")
    }
    if config.evaluate.epsilon is not None:
        settings["epsilon"] = config.evaluate.epsilon
    for key in ("num_steps", "num_restarts"):
        settings[key] = config.evaluate[key]
    return settings


def search_settings(described, epsilon, norm):
    """Return the settings of an attack that searches.

    Args:
        described: what `described` returned for it.
        epsilon: radius of its ball, `None` for no bound.
        norm: "linf" or "l2".
    """
    own = described["config"]
    if own.get("num_steps") is None and own.get("attacks"):
        own = own["attacks"][0]["config"]
    return {
        "epsilon": epsilon,
        "norm": norm,
        **{key: own[key] for key in _STRENGTH if own.get(key) is not None},
        "attack": described,
    }


def described(attack):
    """Return an attack as plain values, whatever module it lives in.

    Args:
        attack: an `Attack`; "none" stands for `None`.
    """
    if attack is None:
        return "none"
    return without_modules(keras.saving.serialize_keras_object(attack))


def without_modules(serialized):
    """Leave out the modules of serialised objects, at any depth.

    Args:
        serialized: what `keras.saving.serialize_keras_object` returned.
    """
    if isinstance(serialized, dict):
        return {
            name: without_modules(each)
            for name, each in serialized.items()
            if name != "module"
        }
    if isinstance(serialized, (list, tuple)):
        return [without_modules(each) for each in serialized]
    return serialized
