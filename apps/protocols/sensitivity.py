"""Accuracy against the strength of the attack."""

import numpy as np

from apps.diagnosing import Diagnostic
from apps.protocols import shared
from keras_neokd import checks
from keras_neokd import evaluation
from keras_neokd.evaluation.sensitivity import changed

_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5)


def plan(config, model, validation):
    """Plan curves of accuracy, see `protocols.plan`."""
    del model, validation
    section = config.evaluate.sensitivity
    attack = shared.attack_of(config, "sensitivity")
    for value in section.epsilons or ():
        checks.number("evaluate.sensitivity.epsilons", value, minimum=0)
    for value in section.num_steps:
        checks.integer("evaluate.sensitivity.num_steps", value, minimum=0)
    epsilons = section.epsilons
    if epsilons is None:
        epsilons = () if attack is None else _around(attack)
    if not epsilons and not section.num_steps:
        raise ValueError(
            "evaluate.protocols 'sensitivity' needs values to try in "
            "evaluate.sensitivity.epsilons or .num_steps: both are empty."
        )
    for name, values in (
        ("epsilon", epsilons),
        ("num_steps", section.num_steps),
    ):
        for value in values:
            changed(attack, name, value)

    def measure(model, images, labels):
        rows, signs = [], []
        for name, values in (
            ("epsilon", epsilons),
            ("num_steps", section.num_steps),
        ):
            if not values:
                continue
            curve = evaluation.sensitivity(
                model,
                images,
                labels,
                attack,
                name,
                values,
                **shared.options(config),
            )
            signs += [sign._asdict() for sign in curve.signs]
            rows += [
                {
                    "changed": name,
                    "value": value,
                    **dict(
                        zip(model.exit_names, map(float, each), strict=True)
                    ),
                    "average": float(each.mean()),
                }
                for value, each in zip(
                    curve.values, curve.accuracy, strict=True
                )
            ]
        return {}, {"rows": rows, "signs": signs}

    settings = {
        **section.to_dict(),
        "epsilons": epsilons,
        "attack_settings": shared.described(attack),
    }
    return Diagnostic(settings, measure)


def _around(attack):
    """Return radii from none to more than that of the attack."""
    largest = 1.0 if attack.norm == "linf" else np.inf
    return tuple(
        sorted({min(share * attack.epsilon, largest) for share in _SHARES})
    )
