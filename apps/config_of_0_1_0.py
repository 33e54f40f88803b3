"""Read configs that 0.1.0 recorded.

There each model had a name, a constructor and options, and the settings of
most methods were side by side.
"""

from keras_neokd import methods
from keras_neokd import models
from keras_neokd.base import plain_settings
from keras_neokd.base.configurable import Unset

from . import config_files
from . import run_config

# Settings that had another name, of methods without a section of their own.
_RENAMED = {
    "nkd": {"weight": "nkd_weight", "teacher": "nkd_teacher"},
    "eokd": {"weight": "eokd_weight"},
    "neo_kd": {"teacher": "nkd_teacher"},
    "trades": {"weight": "beta"},
}
# Defaults of `evaluate.search`, which are those of the attacks today.
_SEARCH = {
    "num_steps": 100,
    "num_restarts": 1,
    "num_queries": 5000,
    "num_targets": 9,
    "targeted_loss": "dlr",
    "cw_c": 1.0,
    "cw_num_steps": 50,
}


def translated(recorded):
    """Return a recorded config with the sections of today.

    Args:
        recorded: nested dict; one of today stays as it is.

    Raises:
        ValueError: if a name or an option is unknown, or a setting is missing
            or not as 0.1.0 took it.
    """
    model, method = recorded.get("model"), recorded.get("method")
    if not isinstance(model, dict) or "constructor" not in model:
        return recorded
    try:
        return {
            **recorded,
            **_evaluation(recorded),
            "model": _model(model),
            "method": _method(method),
        }
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            "`model`, `method` and `evaluate` are not as keras_neokd 0.1.0 "
            f"wrote them: {type(error).__name__}: {error}."
        ) from error


def _evaluation(recorded):
    """Return `evaluate` and `attack`, where they are sections."""
    evaluate, attack = recorded.get("evaluate"), recorded.get("attack")
    if not isinstance(evaluate, dict) or not isinstance(attack, dict):
        return {}
    defaults = config_files.load("default").attack.to_dict()
    named = run_config.evaluated_attacks(evaluate) & defaults.keys()
    sections = {name: defaults[name] for name in named}
    search = evaluate.get("search")
    if isinstance(search, dict):
        search = {
            key: None if _SEARCH.get(key) == value else value
            for key, value in search.items()
        }
        evaluate = {**evaluate, "search": search}
    return {"evaluate": evaluate, "attack": {**sections, **attack}}


def _model(old):
    name = f"{old['name']}_{old['constructor']}"
    known = plain_settings.settings(models.BY_NAME, name)
    unknown = [
        key
        for key, value in old["options"].items()
        if value is not None and key not in known
    ]
    if unknown:
        raise ValueError(
            f"`model.options` has {', '.join(unknown)}, which the model "
            f"{name!r} has no setting for: expected some of "
            f"{', '.join(known)}."
        )
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
    if len(weights) != len(others):
        raise ValueError(
            f"`method.sum_weights` needs {len(others)} numbers, one for each "
            f"method after the first of {old['name']!r}, received {weights!r}."
        )
    new, terms = {}, []
    for weight, name in zip([1.0, *weights], [first, *others], strict=True):
        settings = {**old, **old.get(name, {})}
        if name in old:
            settings = {**old[name], "beta": old["beta"]}
        for key, earlier in _RENAMED.get(name, {}).items():
            settings[key] = old[earlier]
        if name == "kdiga":
            settings["exits"] = _exits(settings["exits"])
        if name == "skd_phuong" and settings["annealing"]:
            name = "skd_annealing"
        new[name] = _completed(methods.BY_NAME, name, settings)
        terms.append(name if weight == 1 else f"{weight}*{name}")
    return {"name": "+".join(terms), **new}


def _exits(text):
    """Return numbers from 1 for a text with commas; a word stays."""
    if text in ("average", "each"):
        return text
    chosen = text.replace(" ", "").split(",")
    if not all(each.isdecimal() for each in chosen):
        raise ValueError(
            "`method.kdiga.exits` needs average, each, or numbers with commas "
            f"between such as 1,3; received {text!r}."
        )
    return tuple(map(int, chosen))


def _completed(registry, name, old):
    """Return today's section with recorded values; `None` means the default."""
    section = {}
    for key, default in plain_settings.settings(registry, name).items():
        given = old.get(key)
        usual = None if isinstance(default, Unset) else default
        section[key] = usual if given is None else given
    return section
