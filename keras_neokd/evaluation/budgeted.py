"""Accuracy within a budget: each image leaves at the first confident exit.

    result = budgeted(model, validation=(images, labels),
                      test=(test_images, test_labels), attack=pgd_50)
    result.accuracy, result.nominal_costs, result.costs
    result.cost_intervals()             # 95 %, of the choice of test images
    result.saving_against(other)        # multiply-adds at equal accuracy
    result.saving_interval_against(other)

A budget is the mean number of multiply-adds per image. It fixes the share of
images that leave at each exit; the thresholds that give these shares come from
validation images and are applied to test images, whose real costs are reported
beside the nominal ones (NEO-KD, appendix A.3; Huang et al. 2018).
"""

import dataclasses
import math

import numpy as np

from keras_neokd import checks
from keras_neokd.evaluation import batches
from keras_neokd.evaluation.anytime import Evaluator
from keras_neokd.evaluation.intervals import mean_cost_interval
from keras_neokd.evaluation.intervals import saving_interval
from keras_neokd.evaluation.predictions import exit_probabilities
from keras_neokd.exit_policy import ExitPolicy

_SOURCES = ("attacked", "clean")
# Test images that may also be validation images: data sets hold a few twins.
_LARGEST_OVERLAP = 0.01


@dataclasses.dataclass(frozen=True)
class BudgetedResult:
    """Accuracy at each budget, cheapest first.

    Attributes:
        policies: the `ExitPolicy` of each budget.
        nominal_costs: mean multiply-adds asked for, `(budgets,)`, strictly
            increasing.
        costs: mean multiply-adds of the test images, `(budgets,)`.
        accuracy: of the test images, `(budgets,)`.
        exit_shares: share of the test images at each exit, `(budgets,
            exits)`.
        exit_costs: multiply-adds up to each exit, `(exits,)`.
        num_examples: number of test images.
    """

    policies: tuple
    nominal_costs: np.ndarray
    costs: np.ndarray
    accuracy: np.ndarray
    exit_shares: np.ndarray
    exit_costs: np.ndarray
    num_examples: int

    def cost_intervals(self):
        """Return the ends of the 95 % interval of each cost, `(budgets, 2)`.

        See `evaluation.mean_cost_interval`.
        """
        return np.array(
            [
                mean_cost_interval(each, self.exit_costs, self.num_examples)
                for each in self.exit_shares
            ]
        )

    def cost_of(self, accuracy):
        """Return the smallest real cost that reaches an accuracy.

        Args:
            accuracy: from 0 to 1.

        Returns:
            Mean multiply-adds, or NaN if no budget reaches it.
        """
        cheapest = self._cheapest(accuracy)
        return math.nan if cheapest is None else float(self.costs[cheapest])

    def saving_against(self, other, accuracy=None):
        """Return the share of multiply-adds saved at equal accuracy.

        Args:
            other: the `BudgetedResult` of another model.
            accuracy: from 0 to 1; `None` (default) for the highest that both
                reach.

        Returns:
            Share of the other's cost, negative where this model costs more;
            NaN where one of them does not reach the accuracy.
        """
        accuracy = self._common_accuracy(other, accuracy)
        return 1.0 - self.cost_of(accuracy) / other.cost_of(accuracy)

    def saving_interval_against(self, other, accuracy=None):
        """Return the 95 % confidence interval of `saving_against`.

        It covers the choice of the test images for both costs, at the budgets
        that were found; not that they reach the accuracy on these images,
        which `evaluation.wilson_interval` says. See
        `evaluation.saving_interval`.

        Args:
            other: the `BudgetedResult` of another model.
            accuracy: as for `saving_against`.

        Returns:
            Tuple of the lower and the upper end; NaN where one of them does
            not reach the accuracy.
        """
        accuracy = self._common_accuracy(other, accuracy)
        costs = []
        for result in (self, other):
            cheapest = result._cheapest(accuracy)
            if cheapest is None:
                return math.nan, math.nan
            costs += result.costs[cheapest], result.cost_intervals()[cheapest]
        return saving_interval(*costs)

    def _common_accuracy(self, other, accuracy):
        if accuracy is not None:
            return accuracy
        return min(self.accuracy.max(), other.accuracy.max())

    def _cheapest(self, accuracy):
        """Return the index of the cheapest budget that reaches an accuracy."""
        enough = np.flatnonzero(self.accuracy >= accuracy)
        return enough[self.costs[enough].argmin()] if len(enough) else None


def budgeted(
    model,
    validation,
    test,
    attack=None,
    threshold_data="attacked",
    ensemble=True,
    budgets=None,
    batch_size=256,
    seed=0,
):
    """Measure accuracy at budgets, clean or under attack.

    Args:
        model: a `MultiExitModel`.
        validation: tuple of images and labels that set the thresholds; never
            test images.
        test: tuple of images and labels that are scored.
        attack: a `keras_neokd.attacks.Attack`, or `None` for clean images.
        threshold_data: `"attacked"` (default) sets thresholds on validation
            images under the same attack, which the paper's numbers suggest;
            `"clean"` on clean ones.
        ensemble: predict by the mean of the chosen exit and all before it,
            as the paper does. Defaults to True.
        budgets: list of mean multiply-adds per image, from that of the first
            exit to that of the last; `None` (default) for the 100 of the
            geometric sweep, see `geometric_shares`.
        batch_size: images per compiled call. Defaults to 256.
        seed: of the attack. Defaults to 0.

    Returns:
        A `BudgetedResult`.

    Raises:
        ValueError: if the data is not as described, test images are among
            the validation images, a budget is out of reach, or the exits
            cost the same.
    """
    batches.check_model(model)
    checks.choice("threshold_data", threshold_data, _SOURCES)
    checks.boolean("ensemble", ensemble)
    validation = _pair("validation", validation, model, batch_size)
    test = _pair("test", test, model, batch_size)
    _refuse_overlap(validation[0], test[0])
    costs = exit_costs(model)
    shares = shares_of_budgets(costs, budgets)
    # One without an attack gives the images back as they are.
    attacker = Evaluator(model, attack, batch_size)

    def probabilities(images, labels, is_attacked):
        if is_attacked:
            images = attacker.craft(images, labels, seed)
        return exit_probabilities(model, images, labels, batch_size)

    is_attacked = threshold_data == "attacked"
    confidences = probabilities(*validation, is_attacked).max(axis=2)
    answers = probabilities(*test, True)
    policies = [
        ExitPolicy(thresholds(confidences, each), ensemble) for each in shares
    ]
    decisions = [policy.decide(answers) for policy in policies]
    at_exits = np.array(
        [
            np.bincount(each.exit_index, minlength=len(costs)) / len(answers)
            for each in decisions
        ]
    )
    return BudgetedResult(
        tuple(policies),
        shares @ costs,
        at_exits @ costs,
        np.array([(each.label == test[1]).mean() for each in decisions]),
        at_exits,
        costs,
        len(answers),
    )


def exit_costs(model):
    """Return the multiply-adds up to each exit, `(exits,)`.

    Args:
        model: a `MultiExitModel`.
    """
    return np.array(
        [each.cumulative.multiply_adds for each in model.exit_costs()], float
    )


def geometric_shares(num_exits, num_budgets=100):
    """Return the shares of the sweep: exit `i` gets a share like `p**i`.

    `p = k / 20` for `k = 1, 2, ..., num_budgets`: the sweep of the code that
    accompanies MSDNet, continued to the 100 budgets of NEO-KD.

    Args:
        num_exits: integer >= 1.
        num_budgets: integer >= 1. Defaults to 100.

    Returns:
        Array `(num_budgets, num_exits)`; each row adds up to 1.
    """
    return np.stack(
        [_powers(k / 20, num_exits) for k in range(1, num_budgets + 1)]
    )


def shares_for_budget(budget, exit_costs):
    """Return geometric shares whose mean cost is a budget.

    Args:
        budget: mean multiply-adds per image.
        exit_costs: multiply-adds up to each exit, `(exits,)`, increasing.

    Returns:
        Array `(exits,)`.

    Raises:
        ValueError: if no shares cost that much.
    """
    first, last = exit_costs[0], exit_costs[-1]
    if not first <= budget <= last:
        raise ValueError(
            f"A budget of {budget:,.0f} multiply-adds is out of reach: the "
            f"first exit costs {first:,.0f}, the last {last:,.0f}."
        )
    ends = (np.eye(len(exit_costs))[0], np.eye(len(exit_costs))[-1])
    for end in ends:
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
    """Return the shares of images at each exit for each of several budgets.

    Args:
        costs: multiply-adds up to each exit, `(exits,)`.
        budgets: list of mean multiply-adds per image; `None` (default) for
            the sweep of `geometric_shares`.

    Returns:
        Array `(budgets, exits)`, cheapest budget first.

    Raises:
        ValueError: if a budget is out of reach, or a later exit costs no more
            than an earlier one.
    """
    if (np.diff(costs) <= 0).any():
        raise ValueError(
            "A later exit has to cost more than an earlier one, received "
            f"{[int(each) for each in costs]} multiply-adds."
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
    """Return the thresholds at which images leave in given shares.

    Exit by exit, of the images that are left, those with the largest
    confidence leave; the threshold is the smallest of theirs.

    Args:
        confidences: of validation images, `(examples, exits)`.
        shares: share of the images to leave at each exit, `(exits,)`.

    Returns:
        List of one threshold per exit but the last; infinity, so that no
        image leaves, where the share is less than one image or fewer images
        are left than are to leave.
    """
    count, num_exits = confidences.shape
    left = np.ones(count, bool)
    found = []
    for exit_ in range(num_exits - 1):
        # Shares such as 0.29 * 100 are a little less than a whole number.
        wanted = math.floor(count * shares[exit_] + 1e-9)
        pool = np.sort(confidences[left, exit_])[::-1]
        if not 0 < wanted <= len(pool):
            found.append(math.inf)
            continue
        threshold = float(pool[wanted - 1])
        found.append(threshold)
        left &= confidences[:, exit_] < threshold
    return found


def _powers(p, num_exits):
    # Divided by the largest first: p**i of many exits leaves float64.
    exponents = np.arange(num_exits) * math.log(p)
    powers = np.exp(exponents - exponents.max())
    return powers / powers.sum()


def _pair(name, pair, model, batch_size):
    """Return checked images and labels from an argument that holds both."""
    pair = checks.sequence(name, pair, "images and labels")
    if len(pair) != 2:
        raise ValueError(
            f"`{name}` needs images and labels, received {len(pair)} values."
        )
    return batches.check(model, *pair, batch_size)


def _refuse_overlap(validation, test):
    known = {np.asarray(image, "float32").tobytes() for image in validation}
    twins = sum(
        np.asarray(image, "float32").tobytes() in known for image in test
    )
    if twins > _LARGEST_OVERLAP * min(len(validation), len(test)):
        raise ValueError(
            f"{twins} of {len(test)} test images are among the "
            f"{len(validation)} validation images, too. "
            "Thresholds may not be set on test data: hold images out of "
            "training for validation (data.validation_size)."
        )
