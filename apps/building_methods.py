"""From the section `method` of a config to a training method.

    method = build_method(config, num_exits=3, num_examples=60_000)

`method.name` is a name or a sum of names: `neo_kd+kdiga`.
"""

from keras_neokd import methods
from keras_neokd.base import checks

from . import teachers
from .flag_names import keys_of
from .flag_names import named_by_keys


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
    for name in names:
        checks.choice("method.name", name, _BUILDERS)
    method, *others = (
        _build(name, config, num_exits, num_examples) for name in names
    )
    weights = _sum_weights(section, len(others))
    for weight, other in zip(weights, others, strict=True):
        method = method + weight * other
    return method


def _build(name, config, *facts):
    """Build one method; a mistake is told with where to correct it."""
    try:
        with named_by_keys(_keys(name, config)):
            return _BUILDERS[name](config, *facts)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"`method`, the settings of {name!r}: {error}"
        ) from error


def _keys(name, config):
    """Return the config's keys of a method's arguments."""
    keys = keys_of("method", config.method)
    if name in config.method:
        keys |= keys_of(f"method.{name}", config.method[name])
    return keys | _OTHER_KEYS.get(name, {})


def _sum_weights(section, count):
    weights = section.sum_weights or (1.0,) * count
    if len(weights) != count:
        raise ValueError(
            "`method.sum_weights` needs one weight for every method after "
            f"the first of {section.name!r}, received {weights}."
        )
    return [
        checks.number("method.sum_weights", weight, minimum=0)
        for weight in weights
    ]


def _adversarial_training(config, num_exits, num_examples):
    return methods.AdversarialTraining(
        config.method.clean_weight, config.method.adversarial_weight
    )


def _nkd(config, num_exits, num_examples):
    section = config.method
    return methods.NKD(
        weight=section.nkd_weight,
        teacher=section.nkd_teacher,
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
        teacher=section.nkd_teacher,
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
    return methods.SKD(**_with_exit(config, "skd", num_exits))


def _skd_phuong(config, num_exits, num_examples):
    return methods.SKD.phuong(**_with_exit(config, "skd_phuong", num_exits))


def _ard(config, num_exits, num_examples):
    return methods.ARD(**_with_exit(config, "ard", num_exits))


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
    teacher = teachers.load(
        "method.kdiga.teacher_file", settings.pop("teacher_file")
    )
    settings["exits"] = _aligned_exits(settings["exits"], num_exits)
    settings["teacher_exit"] = teachers.exit_of(settings["teacher_exit"])
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


# Arguments whose key has another name than the argument.
_OTHER_KEYS = {
    "eokd": {"weight": "method.eokd_weight"},
    "neo_kd": {"teacher": "method.nkd_teacher"},
    "nkd": {"weight": "method.nkd_weight", "teacher": "method.nkd_teacher"},
    "teat": {"num_epochs": "train.epochs"},
    "trades": {"weight": "method.beta"},
}


def _with_exit(config, name, num_exits):
    """Return a section as arguments, its teacher as an index or "ensemble"."""
    section = config.method[name]
    numbers = _exit_numbers(num_exits)
    teacher = checks.choice(
        f"method.{name}.teacher",
        section.teacher,
        ("last", "ensemble", *numbers),
    )
    if teacher != "ensemble":
        teacher = numbers.get(teacher, -1)
    return {**section, "teacher": teacher}


def _exit_numbers(num_exits):
    """Return a dict from the exits as configs count them to indices."""
    return {str(index + 1): index for index in range(num_exits)}


def _aligned_exits(text, num_exits):
    if text in ("average", "each"):
        return text
    numbers = _exit_numbers(num_exits)
    chosen = text.replace(" ", "").split(",")
    if not set(chosen) <= set(numbers):
        raise ValueError(
            "`method.kdiga.exits` needs average, each, or numbers of exits "
            f"from 1 to {num_exits} such as 1,{num_exits}; received {text!r}."
        )
    return tuple(numbers[each] for each in chosen)
