"""From the section `method` of a config to a training method.

    method = build_method(config, num_exits=3, num_examples=60_000)

`method.name` is a name or a sum of names: `neo_kd+kdiga`.
"""

import pathlib

import keras

from keras_neokd import checks
from keras_neokd import methods


def build_method(config, num_exits, num_examples=None):
    """Return the training method.

    Args:
        config: a whole config, see `configs/default.py`.
        num_exits: number of exits of the model.
        num_examples: size of the training set; only `teat` needs it.

    Raises:
        ValueError, TypeError: if a setting is not possible.
        FileNotFoundError: if the teacher's file does not exist.
    """
    section = config.method
    names = section.name.split("+")
    weights = (1.0, *section.sum_weights)
    if len(names) > 1 and not section.sum_weights:
        weights = (1.0,) * len(names)
    if len(weights) != len(names):
        raise ValueError(
            "`method.sum_weights` needs one weight for every method after "
            f"the first of {section.name!r}, received {section.sum_weights}."
        )
    for name in names:
        checks.choice("method.name", name, _BUILDERS)
    facts = (config, num_exits, num_examples)
    method, *others = (_BUILDERS[name](*facts) for name in names)
    for weight, other in zip(weights[1:], others, strict=True):
        method = method + weight * other
    return method


def _adversarial_training(config, num_exits, num_examples):
    return methods.AdversarialTraining(
        config.method.clean_weight, config.method.adversarial_weight
    )


def _nkd(config, num_exits, num_examples):
    section = config.method
    return methods.NKD(
        weight=section.nkd_weight,
        teacher=section.teacher,
        radius=section.radius,
        **_neo_kd_shared(section),
    )


def _eokd(config, num_exits, num_examples):
    section = config.method
    return methods.EOKD(
        weight=section.eokd_weight,
        allocation=section.allocation,
        left_over=section.left_over,
        **_neo_kd_shared(section),
    )


def _neo_kd(config, num_exits, num_examples):
    section = config.method
    return methods.NEOKD(
        nkd_weight=section.nkd_weight,
        eokd_weight=section.eokd_weight,
        teacher=section.teacher,
        radius=section.radius,
        allocation=section.allocation,
        left_over=section.left_over,
        **_neo_kd_shared(section),
    )


def _neo_kd_shared(section):
    return {
        name: section[name]
        for name in ("exit_weights", "divergence", "temperature")
    }


def _skd(config, num_exits, num_examples):
    return methods.SKD(**_with_exit(config.method.skd))


def _skd_phuong(config, num_exits, num_examples):
    return methods.SKD.phuong(num_exits, **_with_exit(config.method.skd_phuong))


def _ard(config, num_exits, num_examples):
    return methods.ARD(**_with_exit(config.method.ard))


def _lw(config, num_exits, num_examples):
    section = config.method.lw
    return methods.LW(section.weight, section.form, section.exit_weights)


def _trades(config, num_exits, num_examples):
    return methods.TRADES(config.method.beta)


def _teat(config, num_exits, num_examples):
    section = config.method.teat
    return methods.TEAT(
        num_examples=num_examples,
        num_epochs=config.train.epochs,
        variant=section.variant,
        weight=section.weight,
        momentum=section.momentum,
        beta=config.method.beta,
    )


def _kdiga(config, num_exits, num_examples):
    section = config.method.kdiga
    settings = dict(section.items())
    teacher = _load_teacher(settings.pop("teacher_file"))
    settings["exits"] = _aligned_exits(settings["exits"])
    settings["teacher_exit"] = _teacher_exit(settings["teacher_exit"])
    return methods.KDIGA(teacher, **settings)


_BUILDERS = {
    "adversarial_training": _adversarial_training,
    "ard": _ard,
    "eokd": _eokd,
    "kdiga": _kdiga,
    "lw": _lw,
    "neo_kd": _neo_kd,
    "nkd": _nkd,
    "skd": _skd,
    "skd_phuong": _skd_phuong,
    "teat": _teat,
    "trades": _trades,
}


def _with_exit(section):
    """Return a section as arguments; configs count exits from 1."""
    name = section.teacher
    if name == "last":
        exit = -1
    elif name.isdecimal() and int(name) > 0:
        exit = int(name) - 1
    else:
        exit = checks.choice(
            "method teacher", name, ("ensemble", "last", "1", "2")
        )
    return {**section, "teacher": exit}


def _teacher_exit(name):
    """Return the index, or the name, of a teacher's exit."""
    if name == "last":
        return -1
    return int(name) - 1 if name.isdecimal() and int(name) > 0 else name


def _aligned_exits(text):
    if text in ("average", "each"):
        return text
    numbers = text.split(",")
    if not all(each.isdecimal() and int(each) > 0 for each in numbers):
        raise ValueError(
            "`method.kdiga.exits` needs average, each, or numbers of exits "
            f"counted from 1 such as 1,3; received {text!r}."
        )
    return tuple(int(each) - 1 for each in numbers)


def _load_teacher(path):
    if path is None:
        raise ValueError(
            "KDIGA needs a teacher: train one, then set "
            "--config.method.kdiga.teacher_file=RUN/model.keras."
        )
    if not pathlib.Path(path).is_file():
        raise FileNotFoundError(
            f"`method.kdiga.teacher_file`: there is no file {path}."
        )
    return keras.saving.load_model(path, compile=False)
