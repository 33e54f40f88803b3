"""Build the attacks of an evaluation from `config.evaluate`.

    attacks = plan(config, model)       # {"clean": None, "average": PGD(...)}

A name of `keras_neokd.attacks.BY_NAME` is built from `config.attack` and its
section there; `evaluate.epsilon`, `evaluate.num_steps` and
`evaluate.num_restarts` replace what is shared, and `evaluate.search` what is
set there of attacks that search.
"""

import keras

from keras_neokd import attacks
from keras_neokd.base import checks
from keras_neokd.base.registry import OF_YOURS
from keras_neokd.evaluation.searching import is_search

from . import building
from .flag_names import named_by_keys

# Searches of `--full`: all of auto_attack_plus are here with one restart,
# auto_attack_rand is for models that are random at inference, and
# auto_attack_margins does all of auto_attack again.
_FULL = (
    *("apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t"),
    *("square", "cw", "cw_linf", "auto_attack"),
)
_SUCCESS = ("all", "any", "each")
_REPLACED = ("epsilon", "num_steps", "num_restarts")
# Settings of entries that name the strength of an attack, and what they are.
STRENGTH = {
    "epsilon": "number?",
    "norm": "text",
    "num_steps": "count?",
    "num_queries": "count?",
}
_NUMBERS = ("num_steps", "num_queries")
_OURS = (attacks.MaxAverage, attacks.SearchAttack, attacks.WorstCase)


def attack(config, name, **given):
    """Return an attack as `config.evaluate` sets it; `None` for clean.

    Args:
        config: a whole config.
        name: a name of `attacks.BY_NAME`, or clean.
        **given: `objective` of an attack that searches, or the index `exit`.

    Raises:
        ValueError, TypeError: if a setting is not possible.
    """
    if name == "clean":
        return None
    section = config.evaluate
    own = config.attack.get(name, {})
    keys = {
        each: f"evaluate.{each}"
        for each in _REPLACED
        if each not in own and section[each] is not None
    }
    values = {each: section[each] for each in keys}
    if building.searches(name):
        for argument, key in _search_keys(section.search, name, own):
            keys[argument] = f"evaluate.search.{key}"
            values[argument] = section.search[key]
    if values.get("num_targets") == 0:
        values["num_targets"] = None
    with named_by_keys(keys):
        return building.build_attack(config, name, **values, **given)


def _search_keys(search, name, arguments):
    """Yield the arguments that `evaluate.search` sets, with their keys."""
    is_targeted = "num_targets" in arguments
    for argument in arguments:
        keys = [f"{name}_{argument}", argument]
        if is_targeted:
            keys.insert(1, f"targeted_{argument}")
        key = next((each for each in keys if each in search), None)
        if key and search[key] is not None:
            yield argument, key


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
    found = {"clean": None}
    for name in config.evaluate.attacks:
        checks.choice("evaluate.attacks", name, attacks.BY_NAME, OF_YOURS)
        found |= _entries(config, name, model)
    return found


def possible(config, model):
    """Return the names of searches that fit a model, and why others do not.

    Args:
        config: a whole config.
        model: the model to attack.

    Returns:
        Tuple of names, and dict from the other names to what is wrong.
    """
    left_out = {}
    for name in _FULL:
        try:
            _entries(config, name, model)
        except ValueError as error:
            left_out[name] = str(error)
    return tuple(name for name in _FULL if name not in left_out), left_out


def together(planned, exit_names):
    """Return which entries are measured at once.

    They are those of an attack that searches in a ball around the image, on
    each exit alone: what fools one exit is tried on the others.

    Args:
        planned: what `plan` returned.
        exit_names: names of the exits in depth order.

    Returns:
        Dict from names to lists of entries' names; an entry by itself has its
        own name.
    """
    found = {}
    for entry, attack in planned.items():
        unit, objective = entry, getattr(attack, "objective", None)
        if is_search(attack) and isinstance(objective, attacks.SingleExit):
            end = exit_names[objective.exit]
            if attack.epsilon is not None and entry.endswith(f"_{end}"):
                unit = f"{entry.removesuffix(end)}each"
        found.setdefault(unit, []).append(entry)
    return {
        unit if len(entries) > 1 else entries[0]: entries
        for unit, entries in found.items()
    }


def _entries(config, name, model):
    """Return a dict from entries' names to the attacks of a configured name."""
    if building.searches(name):
        objectives = _objectives(config, model.exit_names)
        given = {
            f"{name}_{end}": {"objective": each}
            for end, each in objectives.items()
        }
    elif "exit" in attacks.BY_NAME.settings(name):
        given = {
            f"{name}_{exit_name}": {"exit": index}
            for index, exit_name in enumerate(model.exit_names)
        }
    else:
        given = {name: {}}
    found = {
        entry: attack(config, name, **each) for entry, each in given.items()
    }
    for each in found.values():
        each.validate(model.num_exits, model.num_classes)
    return found


def _objectives(config, exit_names):
    """Return the objectives of searches by the suffix of entries' names."""
    success = checks.choice(
        "evaluate.search.success", config.evaluate.search.success, _SUCCESS
    )
    if success == "each":
        return {
            name: attacks.SingleExit(index)
            for index, name in enumerate(exit_names)
        }
    return {success: attacks.AverageExits(success=success)}


def note(entries, num_exits):
    """Return what a reader has to know of searches, or "".

    Args:
        entries: entries of records, whatever module registers the attacks.
        num_exits: number of exits of the model.

    Returns:
        A sentence on searches with the rule `all`, and one on those whose
        images were tried on other exits; "" where there are none.
    """
    return " ".join(
        filter(None, (_of_all(entries, num_exits), _tried(entries)))
    )


def _tried(entries):
    tried = [
        entry["name"]
        for entry in entries
        if entry.get("settings", {}).get("tried_across")
    ]
    if not tried:
        return ""
    return (
        f"{', '.join(dict.fromkeys(tried))}: an image that fooled one of these "
        "exits was tried on the others, too."
    )


def _of_all(entries, num_exits):
    searched = [
        entry["name"] for entry in entries if entry.get("search") is not None
    ]
    found = [name for name in dict.fromkeys(searched) if name.endswith("_all")]
    if not found or num_exits == 1:
        return ""
    return (
        f"{', '.join(found)}: an image is fooled only where all exits are "
        "wrong at once, and is given back clean otherwise. These accuracies "
        "are no bound for any single exit and must not be compared with those "
        "under PGD; --config.evaluate.search.success=each attacks each exit."
    )


def pgd_settings(config):
    """Return the settings of `average`, `max_average` and `single`.

    Args:
        config: a whole config.
    """
    names = ("epsilon", "step_size", "norm", "random_start")
    settings = {key: config.attack[key] for key in names}
    for key in _REPLACED:
        if config.evaluate[key] is not None:
            settings[key] = config.evaluate[key]
    return settings


def own_settings(described, epsilon, norm):
    """Return the settings of an attack that is made known by plain values.

    Args:
        described: what `described` returned for it.
        epsilon: radius of its ball, `None` for no bound.
        norm: "linf" or "l2".
    """
    own = described["config"]
    if own.get("num_steps") is None and own.get("attacks"):
        own = own["attacks"][0]["config"]
    elif own.get("num_steps") is None and own.get("attack"):
        own = own["attack"]["config"]
    return {
        "epsilon": epsilon,
        "norm": norm,
        **{key: own[key] for key in _NUMBERS if own.get(key) is not None},
        "attack": described,
    }


def settings_of(attack):
    """Return the settings of an attack that has some of its own.

    Args:
        attack: an `Attack`.
    """
    found = described(attack)
    own = found["config"]
    if not isinstance(attack, _OURS):
        # One of the user's may call something else by these names.
        own = {key: own[key] for key in _NUMBERS if type(own.get(key)) is int}
    plain = {**found, "config": own}
    settings = own_settings(plain, attack.epsilon, attack.norm)
    return {**settings, "attack": found}


def described(attack):
    """Return an attack as plain values, whatever module it lives in.

    Args:
        attack: an `Attack`; "none" stands for `None`.
    """
    if attack is None:
        return "none"
    return without_modules(keras.saving.serialize_keras_object(attack))


def without_modules(serialized):
    """Return serialised objects without their modules, at any depth.

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
