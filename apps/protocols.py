"""Protocols that `apps.evaluate` records beside accuracy under attack.

    planned = plan(config, model, images, validation)

Each gives a `diagnosing.Diagnostic` whose measurement returns no single
numbers per exit but `rows`, a table as a list of dicts, and other numbers.
"""

import pathlib

import keras
import numpy as np

from apps import building
from apps import workdir
from apps.diagnosing import Diagnostic
from keras_neokd import attacks
from keras_neokd import checks
from keras_neokd import evaluation
from keras_neokd.evaluation.budgeted import shares_for_budget
from keras_neokd.evaluation.budgeted import thresholds
from keras_neokd.evaluation.sensitivity import changed
from keras_neokd.exit_policy import ExitPolicy
from keras_neokd.inference import EarlyExitPredictor

_PERCENTILES = (50, 90, 99)


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
        each = _PLANS[name](config, model, validation)
        settings = {"num_examples": len(images), **each.settings}
        planned[name] = Diagnostic(settings, each.measure)
    return planned


def _plan_budgeted(config, model, validation):
    del model
    section = config.evaluate.budgeted
    _need(validation, "budgeted")
    checks.choice(
        "evaluate.budgeted.threshold_data",
        section.threshold_data,
        ("attacked", "clean"),
    )
    attack = _attack(config, section.attack)
    settings = {
        **section.to_dict(),
        "num_validation_examples": len(validation),
        "attack_settings": _described(attack),
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
            **_options(config),
        )
        rows = [
            {
                "budget": float(nominal),
                "multiply-adds": float(cost),
                "accuracy": float(accuracy),
                **{
                    f"share at {name}": float(share)
                    for name, share in zip(
                        model.exit_names, shares, strict=True
                    )
                },
                "thresholds": _plain(policy.thresholds),
            }
            for nominal, cost, accuracy, shares, policy in zip(
                result.nominal_costs,
                result.costs,
                result.accuracy,
                result.exit_shares,
                result.policies,
                strict=True,
            )
        ]
        return {}, {"rows": rows}

    return Diagnostic(settings, measure)


def _plan_transferability(config, model, validation):
    del model, validation
    section = config.evaluate.transferability
    attack = _attack(config, "average")
    subset = section.subset or None
    checks.integer("evaluate.transferability.num_starts", section.num_starts, 1)
    checks.integer("evaluate.transferability.subset", section.subset, 0)

    def measure(model, images, labels):
        result = evaluation.transferability(
            model,
            images,
            labels,
            attack,
            section.num_starts,
            subset,
            **_options(config),
        )
        rows = [
            {
                "attack on": source,
                **dict(zip(result.targets, map(float, shares), strict=True)),
            }
            for source, shares in zip(
                result.sources, result.matrix, strict=True
            )
        ]
        numbers = {"num_attacked": result.num_examples}
        if len(rows) > 1:
            numbers["off_diagonal_mean"] = result.off_diagonal_mean()
        return {}, {"rows": rows, **numbers}

    return Diagnostic(
        {**section.to_dict(), "attack_settings": _described(attack)}, measure
    )


def _plan_sensitivity(config, model, validation):
    del model, validation
    section = config.evaluate.sensitivity
    attack = _attack(config, section.attack)
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
                model, images, labels, attack, name, values, **_options(config)
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

    settings = {**section.to_dict(), "attack_settings": _described(attack)}
    return Diagnostic(settings, measure)


def _policy_planner(config, model, validation, name):
    """Return a function of the model that sets thresholds on validation."""
    section = config.evaluate.early_exit
    _need(validation, name)
    share = checks.number(
        "evaluate.early_exit.share_of_cost", section.share_of_cost, above=0
    )
    costs = np.array(
        [each.cumulative.multiply_adds for each in model.exit_costs()], float
    )
    shares = shares_for_budget(share * costs[-1], costs)

    def policy_of(model):
        confidences = evaluation.exit_probabilities(
            model, *validation.arrays(), config.evaluate.batch_size
        ).max(axis=2)
        return ExitPolicy(thresholds(confidences, shares), section.ensemble)

    return policy_of


def _plan_early_exit(config, model, validation):
    section = config.evaluate.early_exit
    policy_of = _policy_planner(config, model, validation, "early_exit")
    for name in ("num_calls", "batch_size"):
        checks.integer(f"evaluate.early_exit.{name}", section[name], 1)

    def measure(model, images, labels):
        policy = policy_of(model)
        return {}, _run_for_real(model, policy, images, labels, section)

    settings = {
        **section.to_dict(),
        "num_validation_examples": len(validation),
    }
    return Diagnostic(settings, measure)


def _plan_early_exit_attacked(config, model, validation):
    """Attacks by someone who knows the thresholds."""
    section = config.evaluate.early_exit
    policy_of = _policy_planner(
        config, model, validation, "early_exit_attacked"
    )
    pgd = _attack(config, "average")

    def measure(model, images, labels):
        policy = policy_of(model)
        known = policy.thresholds, policy.ensemble
        wrong = attacks.EarlyExit(*known, loss="margin")
        objectives = (
            wrong,
            attacks.EarlyExit(*known),
            attacks.AverageExits(),
            *(attacks.SingleExit(exit_) for exit_ in range(model.num_exits)),
        )
        worst = attacks.WorstCase(
            [pgd.with_objective(each) for each in objectives], wrong
        )
        slow = pgd.with_objective(attacks.SlowDown(policy.thresholds))
        rows = []
        for name, attack in (
            ("none", None),
            ("average attack", pgd),
            ("wrong answer", worst),
            ("slow down", slow),
        ):
            attacked = images
            if attack is not None:
                attacked = evaluation.craft(
                    model, images, labels, attack, **_options(config)
                )
            rows.append(
                {
                    "attack": name,
                    **_what_the_policy_does(model, policy, attacked, labels),
                }
            )
        return {}, {"rows": rows, "thresholds": _plain(policy.thresholds)}

    settings = {
        **section.to_dict(),
        "num_validation_examples": len(validation),
        "attack_settings": _described(pgd),
    }
    return Diagnostic(settings, measure)


def _what_the_policy_does(model, policy, images, labels):
    """Return accuracy, mean cost and where images leave, as a row."""
    costs = np.array(
        [each.cumulative.multiply_adds for each in model.exit_costs()], float
    )
    decision = policy.decide(
        evaluation.exit_probabilities(model, images, labels)
    )
    shares = np.bincount(decision.exit_index, minlength=len(costs))
    shares = shares / len(images)
    return {
        "accuracy": float((decision.label == labels).mean()),
        "multiply-adds": float(shares @ costs),
        "share of full cost": float(shares @ costs / costs[-1]),
        **{
            f"share at {name}": float(share)
            for name, share in zip(model.exit_names, shares, strict=True)
        },
    }


def _plan_transfer(config, model, validation):
    """Attacks made on this model and on others, each on all of them."""
    del validation
    section = config.evaluate.transfer
    if not section.model_files:
        raise ValueError(
            "evaluate.protocols 'transfer' attacks several models: name the "
            ".keras files of the others in evaluate.transfer.model_files."
        )
    others = {
        file: keras.saving.load_model(_existing(file), compile=False)
        for file in section.model_files
    }
    attack = _attack(config, section.attack)
    for file, other in others.items():
        same = (other.input_shape, other.num_classes) == (
            model.input_shape,
            model.num_classes,
        )
        if not same:
            raise ValueError(
                f"{file} takes images {other.input_shape[1:]} of "
                f"{other.num_classes} classes, expected "
                f"{model.input_shape[1:]} of {model.num_classes}."
            )

    def measure(model, images, labels):
        result = evaluation.transfer_between(
            {"this model": model, **others},
            images,
            labels,
            attack,
            section.num_starts,
            **_options(config),
        )
        rows = [
            {
                "attack made on": source,
                **dict(zip(result.targets, map(float, shares), strict=True)),
            }
            for source, shares in zip(
                result.sources, result.matrix, strict=True
            )
        ]
        return {}, {
            "rows": rows,
            "num_attacked": result.num_examples,
            "off_diagonal_mean": result.off_diagonal_mean(),
        }

    digests = {file: workdir.digest(_existing(file)) for file in others}
    settings = {
        **section.to_dict(),
        "files_sha256": digests,
        "attack_settings": _described(attack),
    }
    return Diagnostic(settings, measure)


def _existing(file):
    path = pathlib.Path(file).expanduser()
    if not path.exists():
        raise FileNotFoundError(
            f"evaluate.transfer.model_files: there is no file {path}."
        )
    return path


def _run_for_real(model, policy, images, labels, section):
    costs = np.array(
        [each.cumulative.multiply_adds for each in model.exit_costs()], float
    )
    predictor = EarlyExitPredictor(model, policy)
    decision = predictor(images)
    simulated = policy.decide(
        evaluation.exit_probabilities(model, images, labels)
    )
    seconds = evaluation.exit_latency(model, images, section.num_calls)
    early, full = evaluation.throughput(
        model, policy, images, min(section.batch_size, len(images))
    )
    shares = np.bincount(decision.exit_index, minlength=len(costs))
    shares = shares / len(images)
    rows = [
        {
            "exit": name,
            "share": float(shares[index]),
            "multiply-adds": float(costs[index]),
            **{
                f"p{each} ms": round(
                    1e3 * float(np.percentile(seconds[index], each)), 3
                )
                for each in _PERCENTILES
            },
        }
        for index, name in enumerate(model.exit_names)
    ]
    return {
        "rows": rows,
        "thresholds": _plain(policy.thresholds),
        "accuracy": float((decision.label == labels).mean()),
        "share_of_full_cost": float(shares @ costs / costs[-1]),
        "decisions_unlike_simulation": int(
            (
                (decision.exit_index != simulated.exit_index)
                | (decision.label != simulated.label)
            ).sum()
        ),
        "images_per_second": round(float(early), 1),
        "images_per_second_of_last_exit": round(float(full), 1),
    }


def _attack(config, name):
    """Return an attack as `config.evaluate` sets it; `None` for clean."""
    if name == "clean":
        return None
    section = config.evaluate
    epsilon = section.epsilon
    return building.build_attack(
        config,
        name=name,
        epsilon=config.attack.epsilon if epsilon is None else epsilon,
        num_steps=section.num_steps,
        num_restarts=section.num_restarts,
    )


def _described(attack):
    return "none" if attack is None else repr(attack)


def _plain(values):
    """Return thresholds as JSON has them: None for infinity."""
    return [None if np.isinf(each) else float(each) for each in values]


def _options(config):
    return {
        "batch_size": config.evaluate.batch_size,
        "seed": config.evaluate.seed,
    }


def _need(validation, name):
    if validation is None or not len(validation):
        raise ValueError(
            f"evaluate.protocols {name!r} sets thresholds on validation "
            "images, and this run has none: train with "
            "--config.data.validation_size, which holds images out of "
            "training."
        )


_PLANS = {
    "budgeted": _plan_budgeted,
    "transferability": _plan_transferability,
    "sensitivity": _plan_sensitivity,
    "early_exit": _plan_early_exit,
    "early_exit_attacked": _plan_early_exit_attacked,
    "transfer": _plan_transfer,
}
