"""Read the config of a run, to evaluate or attack its model."""

import json

from ml_collections import config_dict

from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd import models
from keras_neokd.base import plain_settings
from keras_neokd.evaluation.protocol import known

from . import config_files

_NAMED = {
    "attack": attacks.BY_NAME,
    "method": methods.BY_NAME,
    "model": models.BY_NAME,
}
# Sections that are given the settings of later versions. Those of the method
# are recorded as they were.
_COMPLETED = ("attack", "data", "evaluate", "train")
# Those that are checked alone.
_CHECKED = ("method", "model", "optimizer")
# What numbers depend on and was there from the first version on.
_NEEDED = (
    "attack.epsilon",
    "attack.norm",
    "attack.num_restarts",
    "attack.num_steps",
    "attack.random_start",
    "attack.step_size",
    "data.name",
    "method.name",
    "model.name",
    "optimizer.learning_rate",
)


def chosen(config):
    """Return a config as plain values, without sections of names not in use.

    Attacks and protocols of the user are in use where the evaluation names
    them, and all whose settings are changed: another one may name them.

    Args:
        config: a whole config.
    """
    values = config.to_dict()
    kept = {
        kind: {name for _, name in plain_settings.parts(values[kind]["name"])}
        for kind in _NAMED.keys() & values.keys()
    }
    if "attack" in kept:
        kept["attack"] |= evaluated_attacks(values.get("evaluate", {}))
        kept["attack"] |= _changed("attack", attacks.BY_NAME, values)
    for name in _unused_protocols(values):
        del values["evaluate"][name]
    for kind, names in kept.items():
        values[kind] = {
            key: value
            for key, value in values[kind].items()
            if key in names or key not in _NAMED[kind]
        }
    return values


def evaluated_attacks(evaluate):
    """Return the set of the attacks that an evaluation names.

    Args:
        evaluate: dict, the section `evaluate` of a config.
    """
    named = [
        *evaluate.get("attacks", ()),
        *(
            section.get("attack")
            for section in evaluate.values()
            if isinstance(section, dict)
        ),
    ]
    return {name for name in named if isinstance(name, str)}


def _unused_protocols(values):
    """Return the sections of the user's protocols that are not in use.

    Those of the library's are in the config of every run.
    """
    section = values.get("evaluate", {})
    named = {*section.get("protocols", ()), *section.get("diagnostics", ())}
    used, others = set(), set()
    for name, each in known().items():
        is_used = each.is_of_the_library or name in named
        (used if is_used else others).add(each.section)
    unused = (others - used) & section.keys()
    return unused - _changed("evaluate", unused, values) if unused else unused


def _changed(kind, names, values):
    """Return which names of a section have other values than the defaults."""
    section = values[kind]
    defaults = config_files.load("default")[kind].to_dict()
    return {
        name
        for name in names
        if name in section
        and _as_text(section[name]) != _as_text(defaults.get(name))
    }


def _as_text(value):
    """Return a text that is the same for tuples and the lists of JSON."""
    return json.dumps(value, sort_keys=True, default=repr)


def read(run):
    """Return the config of a run, with defaults for settings of later versions.

    Args:
        run: a `workdir.Workdir`.

    Raises:
        FileNotFoundError: if the folder holds no run.
        ValueError: if the config is damaged.
    """
    merged = config_files.load("default")
    try:
        config = run.read_config()
        for section in (*_COMPLETED, *_CHECKED):
            _put(config.get(section), section, merged)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{run.config} is damaged: {error} Expected what apps.train "
            "wrote. Restore it, or evaluate with --model, --config and "
            "--results instead of --workdir."
        ) from error
    with config.unlocked():
        # A run of an earlier version has no values for newer settings.
        for section in _COMPLETED:
            config[section] = merged[section]
    return config


def _put(value, key, config, place=""):
    """Put a value into a config that knows its type.

    Raises:
        ValueError, TypeError: if it is of another type, or needed and missing.
    """
    place = f"{place}{key}"
    if isinstance(config[key], config_dict.ConfigDict):
        if not isinstance(value, config_dict.ConfigDict):
            raise ValueError(f"{place} needs an object, received {value!r}.")
        unknown = {
            each: value[each] for each in value if each not in config[key]
        }
        with config[key].unlocked():  # What this version no longer has.
            config[key].update(unknown)
        for each in config[key]:
            if each in value or f"{place}.{each}" in _NEEDED:
                _put(value.get(each), each, config[key], f"{place}.")
    elif value is None and place in _NEEDED:
        raise ValueError(f"{place} is missing.")
    else:
        try:
            config[key] = value
        except TypeError as error:
            raise TypeError(f"{place}: {error}.") from None
