"""Read the config of a run, to evaluate or attack its model."""

from ml_collections import config_dict

from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd import models
from keras_neokd.base import plain_settings

from . import config_files

_NAMED = {
    "attack": attacks.BY_NAME,
    "method": methods.BY_NAME,
    "model": models.BY_NAME,
}
# Sections that are given the settings of later versions. Those of the method
# are recorded as they were.
_COMPLETED = ("attack", "data", "evaluate", "train")
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
    "optimizer.learning_rate",
)


def chosen(config):
    """Return a config as plain values, without sections of names not in use.

    Args:
        config: a whole config.
    """
    values = config.to_dict()
    for kind in _NAMED.keys() & values.keys():
        section = values[kind]
        names = [name for _, name in plain_settings.parts(section["name"])]
        values[kind] = {
            key: value
            for key, value in section.items()
            if key in names or key not in _NAMED[kind]
        }
    return values


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
        for section in (*_COMPLETED, "method", "optimizer"):
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
