"""Accuracy against the strength of the attack."""

from apps.diagnosing import Diagnostic
from apps.protocols import shared
from keras_neokd import evaluation
from keras_neokd.evaluation.sensitivity import changed


def plan(config, model, validation):
    """Plan curves of accuracy, see `protocols.plan`."""
    del model, validation
    section = config.evaluate.sensitivity
    attack = shared.attack(config, section.attack)
    if not section.epsilons and not section.num_steps:
        raise ValueError(
            "evaluate.protocols 'sensitivity' needs values to try in "
            "evaluate.sensitivity.epsilons or .num_steps: both are empty."
        )
    for name, values in (
        ("epsilon", section.epsilons),
        ("num_steps", section.num_steps),
    ):
        for value in values:
            changed(attack, name, value)

    def measure(model, images, labels):
        rows, signs = [], []
        for name, values in (
            ("epsilon", section.epsilons),
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
        "attack_settings": shared.described(attack),
    }
    return Diagnostic(settings, measure)
