"""Shares of images that leave at each exit: from budgets, to thresholds."""

import math

import numpy as np

from keras_neokd.base import checks
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.base.typing import Array
from keras_neokd.evaluation import batches
from keras_neokd.evaluation.anytime import exit_probabilities
from keras_neokd.evaluation.intervals import mean_cost_interval
from keras_neokd.network.multi_exit import MultiExitModel

# Columns of `share_of_full_cost`.
FULL_COST = {
    "share of full cost": "share",
    "share of full cost low": "share?",
    "share of full cost high": "share?",
}


def exit_costs(model):
    """Return the multiply-adds up to each exit, `(exits,)`."""
    return np.array(
        [each.cumulative.multiply_adds for each in model.exit_costs()], float
    )


def geometric_shares(num_exits, num_budgets=100):
    """Return the shares of the sweep, `(num_budgets, num_exits)`.

    Exit `i` gets a share like `p**i`, `p = k / 20` for `k = 1, 2, ...,
    num_budgets`: the sweep of the code that accompanies MSDNet, continued to
    the 100 budgets of NEO-KD.

    Args:
        num_exits: integer >= 1.
        num_budgets: integer >= 1. Defaults to 100.
    """
    return np.stack(
        [_powers(k / 20, num_exits) for k in range(1, num_budgets + 1)]
    )


def shares_for_budget(budget, exit_costs):
    """Return geometric shares whose mean cost is a budget, `(exits,)`.

    Args:
        budget: mean multiply-adds per image.
        exit_costs: multiply-adds up to each exit, `(exits,)`, increasing.

    Raises:
        ValueError: if no shares cost that much.
    """
    first, last = exit_costs[0], exit_costs[-1]
    if not first <= budget <= last:
        raise ValueError(
            f"A budget of {budget:,.12g} is out of reach: the first exit costs "
            f"{first:,.12g}, the last {last:,.12g}."
        )
    for end in np.eye(len(exit_costs))[[0, -1]]:
        if budget == end @ exit_costs:
            return end
    # The cost rises with p; p is searched on a logarithmic scale.
    low, high = -40.0, 40.0
    for _ in range(200):
        middle = (low + high) / 2
        shares = _powers(math.exp(middle), len(exit_costs))
        if shares @ exit_costs < budget:
            low = middle
        else:
            high = middle
    return shares


def shares_of_budgets(costs, budgets=None):
    """Return the shares of images at each exit, `(budgets, exits)`.

    Args:
        costs: multiply-adds up to each exit, `(exits,)`.
        budgets: list of mean multiply-adds per image, sorted here; `None`
            (default) for the sweep of `geometric_shares`.

    Raises:
        ValueError: if a budget is out of reach, or a later exit costs no more
            than an earlier one.
    """
    if (np.diff(costs) <= 0).any():
        raise ValueError(
            "A later exit has to cost more than an earlier one, received "
            f"[{', '.join(f'{each:.12g}' for each in costs)}]."
        )
    if budgets is None:
        return geometric_shares(len(costs))
    budgets = sorted(
        {
            checks.number("budgets", each, above=0)
            for each in checks.sequence("budgets", budgets, "multiply-adds")
        }
    )
    return np.stack([shares_for_budget(each, costs) for each in budgets])


def thresholds(confidences, shares):
    """Return a list of thresholds, one per exit but the last.

    Exit by exit, of the images that are left, those with the largest
    confidence leave; the threshold is the smallest of theirs. It is infinite,
    so that no image leaves, where the share is less than one image or fewer
    images are left than are to leave.

    Args:
        confidences: of validation images, `(examples, exits)`.
        shares: share of the images to leave at each exit, `(exits,)`.
    """
    count, num_exits = confidences.shape
    left = np.ones(count, bool)
    found = []
    for exit in range(num_exits - 1):
        # Shares such as 0.29 * 100 are a little less than a whole number.
        wanted = math.floor(count * shares[exit] + 1e-9)
        pool = np.sort(confidences[left, exit])[::-1]
        if not 0 < wanted <= len(pool):
            found.append(math.inf)
            continue
        found.append(float(pool[wanted - 1]))
        left &= confidences[:, exit] < found[-1]
    return found


def shares_at_exits(decision, model):
    """Return the share of images that leave at each exit, `(exits,)`.

    Args:
        decision: an `exit_policy.Decision` on all images.
        model: the `MultiExitModel`.
    """
    counts = np.bincount(decision.exit_index, minlength=model.num_exits)
    return counts / len(decision.exit_index)


def share_of_full_cost(shares, costs, num_examples):
    """Return mean cost as a share of the last exit's, with its interval."""
    low, high = mean_cost_interval(shares, costs, num_examples)
    values = np.array([shares @ costs, low, high]) / costs[-1]
    return dict(zip(FULL_COST, values, strict=True))


def check_policy(model, validation, share_of_cost, ensemble):
    """Raise if `policy_for_cost` could not run with these arguments."""
    del validation
    checks.boolean("ensemble", ensemble)
    _shares(exit_costs(model), share_of_cost)


def _shares(costs, share_of_cost):
    share = checks.number("share_of_cost", share_of_cost, above=0)
    try:
        return shares_for_budget(share * costs[-1], costs)
    except ValueError as error:
        raise ValueError(
            f"`share_of_cost` is {share:g}: {error} Give a share from "
            f"{costs[0] / costs[-1]:.4g} to 1."
        ) from error


def policy_for_cost(
    model: MultiExitModel,
    validation: tuple[Array, Array],
    share_of_cost: float = 0.5,
    ensemble: bool = False,
    batch_size: int = 256,
) -> ExitPolicy:
    """Return the `ExitPolicy` whose mean cost is a share of the last exit's.

    Args:
        model: a `MultiExitModel`.
        validation: tuple of images and labels that set the thresholds.
        share_of_cost: mean cost to aim at, from the first exit's share to 1.
            Defaults to 0.5.
        ensemble: see `ExitPolicy`. Defaults to False.
        batch_size: images per compiled call. Defaults to 256.

    Raises:
        TypeError, ValueError: if a setting is not possible, or no policy
            costs that much.
    """
    images, labels = batches.pair("validation", validation, model, batch_size)
    shares = _shares(exit_costs(model), share_of_cost)
    found = exit_probabilities(model, images, labels, batch_size).max(axis=2)
    return ExitPolicy(thresholds(found, shares), ensemble)


def _powers(p, num_exits):
    # Divided by the largest first: p**i of many exits leaves float64.
    exponents = np.arange(num_exits) * math.log(p)
    powers = np.exp(exponents - exponents.max())
    return powers / powers.sum()
