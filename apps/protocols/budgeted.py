"""Accuracy within budgets."""

from apps.diagnosing import Diagnostic
from apps.protocols import shared
from apps.reporting.schema import COST_INTERVAL
from keras_neokd import checks
from keras_neokd import evaluation
from keras_neokd.evaluation.budgeted import exit_costs
from keras_neokd.evaluation.budgeted import shares_of_budgets


def plan(config, model, validation):
    """Plan the accuracy within budgets, see `protocols.plan`."""
    section = config.evaluate.budgeted
    shared.need(validation, "budgeted")
    checks.choice(
        "evaluate.budgeted.threshold_data",
        section.threshold_data,
        ("attacked", "clean"),
    )
    attack = shared.attack_of(config, "budgeted")
    for budget in section.budgets:
        checks.number("evaluate.budgeted.budgets", budget, above=0)
    try:
        shares_of_budgets(exit_costs(model), list(section.budgets) or None)
    except ValueError as error:
        raise ValueError(f"evaluate.budgeted.budgets: {error}") from error
    settings = {
        **section.to_dict(),
        "num_validation_examples": len(validation),
        "attack_settings": shared.described(attack),
    }

    def measure(model, images, labels):
        result = evaluation.budgeted(
            model,
            validation.arrays(),
            (images, labels),
            attack,
            section.threshold_data,
            section.ensemble,
            list(section.budgets) or None,
            **shared.options(config),
        )
        rows = [
            {
                "budget": float(nominal),
                "multiply-adds": float(cost),
                COST_INTERVAL: list(map(float, interval)),
                "accuracy": float(accuracy),
                **{
                    f"share at {name}": float(share)
                    for name, share in zip(
                        model.exit_names, shares, strict=True
                    )
                },
                "thresholds": shared.plain(policy.thresholds),
            }
            for nominal, cost, interval, accuracy, shares, policy in zip(
                result.nominal_costs,
                result.costs,
                result.cost_intervals(),
                result.accuracy,
                result.exit_shares,
                result.policies,
                strict=True,
            )
        ]
        return {}, {"rows": rows}

    return Diagnostic(settings, measure)
