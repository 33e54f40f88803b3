"""Protocols that `apps.evaluate` records beside accuracy under attack.

    planned = plan(config, model, images, validation)

Each gives a `diagnosing.Diagnostic` whose measurement returns no single
numbers per exit but `rows`, a table as a list of dicts, and other numbers.
"""

from apps.diagnosing import Diagnostic
from apps.protocols import budgeted
from apps.protocols import early_exit
from apps.protocols import sensitivity
from apps.protocols import transfer
from keras_neokd import checks

_PLANS = {
    "budgeted": budgeted.plan,
    "transferability": transfer.plan_between_exits,
    "transfer": transfer.plan_between_models,
    "sensitivity": sensitivity.plan,
    "early_exit": early_exit.plan,
    "early_exit_attacked": early_exit.plan_attacked,
}


_SET_THRESHOLDS = ("budgeted", "early_exit", "early_exit_attacked")


def possible(config, model, num_validation):
    """Return the protocols that there is everything for, and the others.

    Args:
        config: a whole config.
        model: the model to measure.
        num_validation: number of validation images.

    Returns:
        Tuple of names, and dict from the other names to what is missing.
    """
    left_out = {}
    if not num_validation:
        needed = "It sets thresholds on validation images; there are none."
        left_out = dict.fromkeys(_SET_THRESHOLDS, needed)
    if model.num_exits == 1:
        names = (*_SET_THRESHOLDS, "transferability")
        left_out = dict.fromkeys(names, "The model has a single exit.")
    if not config.evaluate.transfer.model_files:
        left_out["transfer"] = "It needs evaluate.transfer.model_files."
    return tuple(name for name in _PLANS if name not in left_out), left_out


def plan(config, model, images, validation):
    """Return the protocols of a config, with all their settings checked.

    Args:
        config: a whole config.
        model: the model to measure.
        images: the test images.
        validation: `data.Split` of validation images, or `None`.

    Returns:
        Dict from a name to a `Diagnostic`.

    Raises:
        ValueError, TypeError: if a setting is not possible, or a protocol
            needs validation images and there are none.
    """
    planned = {}
    for name in config.evaluate.protocols:
        checks.choice("evaluate.protocols", name, _PLANS)
        if name in _SET_THRESHOLDS and model.num_exits == 1:
            raise ValueError(
                f"evaluate.protocols {name!r} needs several exits to choose "
                "from, and the model has one. Leave it out."
            )
        each = _PLANS[name](config, model, validation)
        settings = {"num_examples": len(images), **each.settings}
        planned[name] = Diagnostic(settings, each.measure)
    return planned
