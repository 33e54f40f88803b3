"""A policy run for real, and attacked by those who know it."""

import numpy as np

from apps.diagnosing import Diagnostic
from apps.protocols import shared
from keras_neokd import attacks
from keras_neokd import checks
from keras_neokd import evaluation
from keras_neokd.evaluation.budgeted import exit_costs
from keras_neokd.evaluation.budgeted import shares_for_budget
from keras_neokd.evaluation.budgeted import thresholds
from keras_neokd.exit_policy import Decision
from keras_neokd.exit_policy import ExitPolicy
from keras_neokd.inference import EarlyExitPredictor

_PERCENTILES = (50, 90, 99)


def plan(config, model, validation):
    """Plan a run stage by stage, see `protocols.plan`."""
    section = config.evaluate.early_exit
    policy_of = _policy_planner(config, model, validation, "early_exit")
    for name in ("num_calls", "batch_size"):
        checks.integer(f"evaluate.early_exit.{name}", section[name], 1)

    def measure(model, images, labels):
        policy = policy_of(model)
        return {}, _run_for_real(model, policy, images, labels, config)

    settings = {
        **section.to_dict(),
        "num_validation_examples": len(validation),
    }
    return Diagnostic(settings, measure)


def plan_attacked(config, model, validation):
    """Plan attacks by someone who knows the thresholds."""
    section = config.evaluate.early_exit
    policy_of = _policy_planner(
        config, model, validation, "early_exit_attacked"
    )
    pgd = shared.attack(config, "average")

    def measure(model, images, labels):
        policy = policy_of(model)
        rows = []
        for name, attack in _attacks_on(policy, pgd).items():
            attacked = images
            if attack is not None:
                attacked = evaluation.craft(
                    model, images, labels, attack, **shared.options(config)
                )
            does = _what_the_policy_does(
                model, policy, attacked, labels, config.evaluate.batch_size
            )
            rows.append({"attack": name, **does})
        return {}, {"rows": rows, "thresholds": shared.plain(policy.thresholds)}

    settings = {
        **section.to_dict(),
        "num_validation_examples": len(validation),
        "attack_settings": shared.described(pgd),
    }
    return Diagnostic(settings, measure)


def _attacks_on(policy, pgd):
    """Return the attacks on a policy by name; `None` for no attack."""
    known = policy.thresholds, policy.ensemble
    wrong = attacks.EarlyExit(*known, loss="margin")
    objectives = (
        wrong,
        attacks.EarlyExit(*known),
        attacks.AverageExits(),
        *(attacks.SingleExit(exit_) for exit_ in range(policy.num_exits)),
    )
    return {
        "none": None,
        "average attack": pgd,
        "wrong answer": attacks.WorstCase(
            [pgd.with_objective(each) for each in objectives], wrong
        ),
        "slow down": pgd.with_objective(attacks.SlowDown(policy.thresholds)),
    }


def _policy_planner(config, model, validation, name):
    """Return a function of the model that sets thresholds on validation."""
    section = config.evaluate.early_exit
    shared.need(validation, name)
    share = checks.number(
        "evaluate.early_exit.share_of_cost", section.share_of_cost, above=0
    )
    costs = exit_costs(model)
    try:
        shares = shares_for_budget(share * costs[-1], costs)
    except ValueError as error:
        raise ValueError(
            f"evaluate.early_exit.share_of_cost is {share:g}: {error} Give a "
            f"share from {costs[0] / costs[-1]:.4g} to 1."
        ) from error

    def policy_of(model):
        confidences = evaluation.exit_probabilities(
            model, *validation.arrays(), config.evaluate.batch_size
        ).max(axis=2)
        return ExitPolicy(thresholds(confidences, shares), section.ensemble)

    return policy_of


def _run_for_real(model, policy, images, labels, config):
    section, size = config.evaluate.early_exit, config.evaluate.batch_size
    costs = exit_costs(model)
    decision = _decide_in_batches(
        EarlyExitPredictor(model, policy), images, size
    )
    simulated = policy.decide(
        evaluation.exit_probabilities(model, images, labels, size)
    )
    seconds = evaluation.exit_latency(model, images, section.num_calls)
    early, full = evaluation.throughput(
        model, policy, images, min(section.batch_size, len(images))
    )
    shares = _exit_shares(decision, model.num_exits)
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
        "thresholds": shared.plain(policy.thresholds),
        "ensemble": policy.ensemble,
        "accuracy": float((decision.label == labels).mean()),
        "share_of_full_cost": float(shares @ costs / costs[-1]),
        "share_of_full_cost_interval": _interval(shares, costs, len(images)),
        "decisions_unlike_simulation": int(
            (
                (decision.exit_index != simulated.exit_index)
                | (decision.label != simulated.label)
            ).sum()
        ),
        "images_per_second": round(float(early), 1),
        "images_per_second_of_last_exit": round(float(full), 1),
    }


def _decide_in_batches(predictor, images, size):
    decisions = [
        predictor(images[first : first + size])
        for first in range(0, len(images), size)
    ]
    return Decision(*map(np.concatenate, zip(*decisions, strict=True)))


def _exit_shares(decision, num_exits):
    """Return the share of images that leave at each exit."""
    counts = np.bincount(decision.exit_index, minlength=num_exits)
    return counts / counts.sum()


def _interval(shares, costs, num_examples):
    """Return the interval of the mean cost, as shares of the full cost."""
    ends = evaluation.mean_cost_interval(shares, costs, num_examples)
    return [float(each / costs[-1]) for each in ends]


def _what_the_policy_does(model, policy, images, labels, size):
    """Return accuracy, mean cost and where images leave, as a row."""
    costs = exit_costs(model)
    decision = policy.decide(
        evaluation.exit_probabilities(model, images, labels, size)
    )
    shares = _exit_shares(decision, model.num_exits)
    return {
        "accuracy": float((decision.label == labels).mean()),
        "multiply-adds": float(shares @ costs),
        "share of full cost": float(shares @ costs / costs[-1]),
        "share of full cost, 95 % interval": _interval(
            shares, costs, len(images)
        ),
        **{
            f"share at {name}": float(share)
            for name, share in zip(model.exit_names, shares, strict=True)
        },
    }
