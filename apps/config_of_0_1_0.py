"""Read configs that 0.1.0 recorded.

There each model had a name, a constructor and options, and the settings of
most methods were side by side.
"""

import ast

from keras_neokd import methods
from keras_neokd import models
from keras_neokd.base import plain_settings
from keras_neokd.base.configurable import Unset

# Settings that had another name, of methods without a section of their own.
_RENAMED = {
    "nkd": {"weight": "nkd_weight", "teacher": "nkd_teacher"},
    "eokd": {"weight": "eokd_weight"},
    "neo_kd": {"teacher": "nkd_teacher"},
    "trades": {"weight": "beta"},
}


def translated(recorded):
    """Return a recorded config with the sections of today.

    Args:
        recorded: nested dict; one of today stays as it is.

    Raises:
        ValueError: if a name is unknown, or a setting is missing.
    """
    model, method = recorded.get("model"), recorded.get("method")
    if not isinstance(model, dict) or "constructor" not in model:
        return recorded
    try:
        return {**recorded, "model": _model(model), "method": _method(method)}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            "`model` and `method` are not as keras_neokd 0.1.0 wrote them: "
            f"{type(error).__name__}: {error}."
        ) from error


def _model(old):
    name = f"{old['name']}_{old['constructor']}"
    shapes = {key: old.get(key) for key in ("input_shape", "num_classes")}
    return {
        "name": name,
        "weights": old.get("weights"),
        "weights_of": old.get("weights_of", {}),
        name: _completed(models.BY_NAME, name, {**old["options"], **shapes}),
    }


def _method(old):
    first, *others = old["name"].split("+")
    weights = old.get("sum_weights") or [1.0] * len(others)
    new, terms = {}, []
    for weight, name in zip([1.0, *weights], [first, *others], strict=True):
        settings = {**old, **old.get(name, {})}
        if name in old:
            settings = {**old[name], "beta": old["beta"]}
        for key, earlier in _RENAMED.get(name, {}).items():
            settings[key] = old[earlier]
        if name == "kdiga" and settings["exits"][:1].isdecimal():
            settings["exits"] = ast.literal_eval(f"{settings['exits']},")
        if name == "skd_phuong" and settings["annealing"]:
            name = "skd_annealing"
        new[name] = _completed(methods.BY_NAME, name, settings)
        terms.append(name if weight == 1 else f"{weight}*{name}")
    return {"name": "+".join(terms), **new}


def _completed(registry, name, old):
    """Return today's section with recorded values; `None` means the default."""
    section = {}
    for key, default in plain_settings.settings(registry, name).items():
        given = old.get(key)
        usual = None if isinstance(default, Unset) else default
        section[key] = usual if given is None else given
    return section
