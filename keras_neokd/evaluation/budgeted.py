"""Accuracy within a budget: each image leaves at the first confident exit.

    result = budgeted(model, validation=(images, labels),
                      test=(test_images, test_labels), attack=pgd_50)
    result.accuracy, result.nominal_costs, result.costs
    result.saving_against(other)        # multiply-adds at equal accuracy

A budget is the mean number of multiply-adds per image. It fixes the share of
images that leave at each exit; the thresholds that give these shares come from
validation images and are applied to test images, whose real costs are reported
beside the nominal ones (NEO-KD, appendix A.3; Huang et al. 2018).
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_neokd.attacks.attack import Attack
from keras_neokd.base import checks
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Row
from keras_neokd.evaluation import batches
from keras_neokd.evaluation import exit_shares
from keras_neokd.evaluation.anytime import Evaluator
from keras_neokd.evaluation.intervals import mean_cost_interval
from keras_neokd.evaluation.intervals import saving_interval
from keras_neokd.evaluation.protocol import Protocol
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import table
from keras_neokd.network.multi_exit import MultiExitModel

_SOURCES = ("attacked", "clean")
# Test images that may also be validation images: data sets hold a few twins.
_LARGEST_OVERLAP = 0.01


@dataclasses.dataclass(frozen=True)
class BudgetedResult(Result):
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
        exit_names: names of the exits in depth order.
    """

    columns = {
        "budget": "cost",
        "multiply-adds": "cost",
        "multiply-adds low": "cost?",
        "multiply-adds high": "cost?",
        "accuracy": "share",
        "share at": "share?",
        "threshold at": "number?",
    }

    policies: tuple[ExitPolicy, ...]
    nominal_costs: np.ndarray
    costs: np.ndarray
    accuracy: np.ndarray
    exit_shares: np.ndarray
    exit_costs: np.ndarray
    num_examples: int
    exit_names: tuple[str, ...] = ()

    def rows(self) -> list[Row]:
        """Return a row per budget; no image leaves where a threshold is None.

        The columns are `budget` (nominal), `multiply-adds` (realised) with
        the ends of its 95 % interval, `accuracy`, and for each exit the share
        of the images and the threshold.
        """
        bounds = [each.thresholds for each in self.policies]
        values = (
            self.nominal_costs,
            self.costs,
            *self.cost_intervals().T,
            self.accuracy,
            (self.exit_names, self.exit_shares),
            (self.exit_names[:-1], bounds),
        )
        return table(**dict(zip(self.columns, values, strict=True)))

    def cost_intervals(self) -> Array:
        """Return the ends of the 95 % interval of each cost, `(budgets, 2)`.

        See `evaluation.mean_cost_interval`.
        """
        return np.array(
            [
                mean_cost_interval(each, self.exit_costs, self.num_examples)
                for each in self.exit_shares
            ]
        )

    def cost_of(self, accuracy: float) -> float:
        """Return the smallest real cost, in multiply-adds, of an accuracy.

        NaN if no budget reaches the accuracy, a number from 0 to 1.
        """
        cheapest = self._cheapest(accuracy)
        return math.nan if cheapest is None else float(self.costs[cheapest])

    def saving_against(
        self, other: "BudgetedResult", accuracy: float | None = None
    ) -> float:
        """Return the share of another's cost saved at equal accuracy.

        Negative where this model costs more; NaN where one of them does not
        reach the accuracy.

        Args:
            other: the `BudgetedResult` of another model.
            accuracy: from 0 to 1; `None` (default) for the highest that both
                reach.
        """
        accuracy = self._common_accuracy(other, accuracy)
        return 1.0 - self.cost_of(accuracy) / other.cost_of(accuracy)

    def saving_interval_against(
        self, other: "BudgetedResult", accuracy: float | None = None
    ) -> tuple[float, float]:
        """Return both ends of the 95 % interval of `saving_against`.

        It covers the choice of the test images for both costs, at the budgets
        that were found; not that they reach the accuracy on these images,
        which `evaluation.wilson_interval` says. See
        `evaluation.saving_interval`; arguments and NaN as `saving_against`.
        """
        accuracy = self._common_accuracy(other, accuracy)
        costs: list[Any] = []
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


def _check_settings(threshold_data, ensemble):
    checks.choice("threshold_data", threshold_data, _SOURCES)
    checks.boolean("ensemble", ensemble)


def _check(model, validation, attack, budgets, **settings):
    del validation, attack
    _check_settings(**settings)
    try:
        costs = exit_shares.exit_costs(model)
        exit_shares.shares_of_budgets(costs, budgets or None)
    except ValueError as error:
        raise ValueError(f"`budgets`: {error}") from error


@Protocol("budgeted", BudgetedResult, _check, num_exits=2)
def budgeted(
    model: MultiExitModel,
    validation: tuple[Array, Array],
    test: tuple[Array, Array],
    attack: Attack | None = None,
    threshold_data: str = "attacked",
    ensemble: bool = True,
    budgets: Sequence[float] | None = None,
    batch_size: int = 256,
    seed: int = 0,
) -> BudgetedResult:
    """Return a `BudgetedResult` of clean or attacked images.

    Args:
        model, attack, batch_size, seed: as for `anytime`.
        validation: tuple of images and labels that set the thresholds; never
            test images.
        test: tuple of images and labels that are scored.
        threshold_data: `"attacked"` (default) for validation images under the
            same attack, which the paper's numbers suggest, or `"clean"`.
        ensemble: predict by the mean of the chosen exit and all before it,
            as the paper does. Defaults to True.
        budgets: list of mean multiply-adds per image, from the first exit's
            to the last's; `None` (default): `exit_shares.geometric_shares`.

    Raises:
        ValueError: if the data is not as described, a test image is one for
            validation, a budget is out of reach, or the exits cost the same.
    """
    batches.check_model(model)
    _check_settings(threshold_data, ensemble)
    validation = batches.pair("validation", validation, model, batch_size)
    test = batches.pair("test", test, model, batch_size)
    _refuse_overlap(validation[0], test[0])
    costs = exit_shares.exit_costs(model)
    wanted = exit_shares.shares_of_budgets(costs, budgets)
    # One without an attack gives the images back as they are.
    attacker = Evaluator(model, attack, batch_size)
    if threshold_data == "attacked":
        validation = attacker.attacked(*validation, seed)
    confidences = attacker.probabilities(*validation).max(axis=2)
    answers = attacker.probabilities(*attacker.attacked(*test, seed))
    policies = [
        ExitPolicy(exit_shares.thresholds(confidences, each), ensemble)
        for each in wanted
    ]
    decisions = [policy.decide(answers) for policy in policies]
    accuracy = [np.mean(each.label == test[1]) for each in decisions]
    shares = [exit_shares.shares_at_exits(each, model) for each in decisions]
    shares = np.stack(shares)
    return BudgetedResult(
        policies=tuple(policies),
        nominal_costs=wanted @ costs,
        costs=shares @ costs,
        accuracy=np.array(accuracy),
        exit_shares=shares,
        exit_costs=costs,
        num_examples=len(answers),
        exit_names=model.exit_names,
    )


def _refuse_overlap(validation, test):
    known = {image.tobytes() for image in validation}
    twins = sum(image.tobytes() in known for image in test)
    if twins > _LARGEST_OVERLAP * min(len(validation), len(test)):
        raise ValueError(
            f"{twins} of {len(test)} test images are among the "
            f"{len(validation)} validation images, too. "
            "Thresholds may not be set on test data: hold images out of "
            "training for validation (data.validation_size)."
        )
