"""Choose thresholds for a budget or an accuracy, and see later if they fit.

    probabilities = exit_probabilities(model, images, labels)
    policy = policy_at(probabilities, labels, costs, budget=2e6)
    policy = policy_at(
        *(probabilities, labels, costs),
        budget=2e6,
        temperatures=fit_temperatures(probabilities, labels),
    )
    policy = policy_at(probabilities, labels, milliseconds, accuracy=0.9)
    exit_drift(policy.decide(probabilities), policy.decide(later)).p_value

Probabilities may be of a model or of an artefact, on clean or on attacked
images; costs may be multiply-adds or times that were measured.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_neokd.base import checks
from keras_neokd.base.exit_policy import Decision
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.base.typing import Array
from keras_neokd.evaluation import exit_shares

_DEALS = 9999


def policy_at(
    probabilities: Array,
    labels: Array,
    costs: Sequence[float],
    budget: float | None = None,
    accuracy: float | None = None,
    ensemble: bool = False,
    confidence: str = "max_softmax",
    temperatures: Sequence[float] | None = None,
) -> ExitPolicy:
    """Return the `ExitPolicy` for a mean cost, or the cheapest one for an aim.

    The shares of images at each exit are geometric, as in MSDNet's code
    (Huang et al. 2018); for an accuracy the 100 budgets of NEO-KD and the first
    and the last exit alone are tried.

    Args:
        probabilities: softmax of every exit on validation images, `(examples,
            exits, classes)`; never of test images.
        labels: integers `(examples,)` or one-hot.
        costs: of an image that leaves at each exit, `(exits,)`, increasing, in
            any unit, such as multiply-adds or milliseconds.
        budget: mean cost per image, from the first of `costs` to the last.
        accuracy: share from 0 to 1 of the images to classify correctly.
            Exactly one of the two is given.
        ensemble, confidence, temperatures: see `ExitPolicy`.

    Raises:
        TypeError, ValueError: if an argument is not as described, or no policy
            reaches the accuracy.
    """
    if (budget is None) == (accuracy is None):
        raise ValueError(
            "`policy_at` needs either `budget` or `accuracy`, received "
            f"budget={budget!r}, accuracy={accuracy!r}."
        )
    probabilities, labels = _checked(probabilities, labels)
    prices = _prices(costs, probabilities.shape[1])
    never = [math.inf] * (len(prices) - 1)
    rule = ensemble, confidence, temperatures
    answers, confidences = ExitPolicy(never, *rule).answers(probabilities)
    if budget is not None:
        budget = checks.number("budget", budget)
        (shares,) = exit_shares.shares_of_budgets(prices, [budget])
        return ExitPolicy(exit_shares.thresholds(confidences, shares), *rule)
    accuracy = checks.number("accuracy", accuracy, minimum=0, maximum=1)
    ends = np.eye(len(prices))[[0, -1]]
    shares = np.concatenate([exit_shares.shares_of_budgets(prices), ends])
    policies = [
        ExitPolicy(exit_shares.thresholds(confidences, each), *rule)
        for each in shares
    ]
    rows = np.arange(len(labels))
    exits = [policy.exits(confidences) for policy in policies]
    right = np.array([np.mean(answers[rows, i] == labels) for i in exits])
    paid = np.array([prices[each].mean() for each in exits])
    enough = np.flatnonzero(right >= accuracy)
    if not len(enough):
        raise ValueError(
            f"No policy classifies {accuracy:.2%} of the {len(labels)} "
            f"validation images correctly: the best reaches {right.max():.2%}."
        )
    return policies[enough[paid[enough].argmin()]]


def fit_temperatures(probabilities: Array, labels: Array) -> tuple[float, ...]:
    """Return the temperature of each exit at which it is best calibrated.

    That is the one with the least mean cross-entropy (Guo et al. 2017), from
    0.05 to 20.

    Args:
        probabilities, labels: as for `policy_at`.

    Raises:
        TypeError, ValueError: as `policy_at`.
    """
    optimize = _optimize()
    probabilities, labels = _checked(probabilities, labels)
    logits = np.log(np.maximum(probabilities.astype("float64"), 1e-30))
    rows = np.arange(len(labels))

    def cross_entropy(log_temperature, logits):
        scaled = logits / math.exp(log_temperature)
        log_sums = np.logaddexp.reduce(scaled, axis=1)
        return np.mean(log_sums - scaled[rows, labels])

    limits = -math.log(20), math.log(20)
    return tuple(
        math.exp(
            optimize.minimize_scalar(
                cross_entropy,
                bounds=limits,
                args=(logits[:, exit],),
                method="bounded",
            ).x
        )
        for exit in range(logits.shape[1])
    )


def _optimize():
    try:
        from scipy import optimize
    except ImportError as error:
        raise ImportError(
            "Temperatures are fitted by SciPy, which is not installed. Run: "
            "pip install scipy"
        ) from error
    return optimize


class Drift(NamedTuple):
    """How the shares of images at each exit have moved.

    Attributes:
        before, now: shares up to the deepest exit that an image reached.
        p_value: probability of shares at least so far apart, by Pearson's
            chi-squared, if nothing has changed: the exits of all images dealt
            out anew 9,999 times, so at least 0.0001.
    """

    before: np.ndarray
    now: np.ndarray
    p_value: float


def exit_drift(before: Decision, now: Decision) -> Drift:
    """Compare where images leave with where they left at the calibration.

    Args:
        before: `Decision` on the validation images, by the policy in use.
        now: `Decision` on later images, which need no labels.

    Raises:
        ValueError: if one of them is about no image.
    """
    counts = [np.bincount(each.exit_index) for each in (before, now)]
    if not all(map(len, counts)):
        raise ValueError(
            "Two decisions are compared, received one of no image."
        )
    size = max(map(len, counts))
    table = np.array([np.pad(each, (0, size - len(each))) for each in counts])
    old, new = table / table.sum(axis=1, keepdims=True)
    totals = table.sum(axis=0)
    dealt = np.random.default_rng(0).multivariate_hypergeometric(
        totals, table[0].sum(), _DEALS, method="marginals"
    )
    expected = totals * table[0].sum() / table.sum()

    def distance(counts):
        # That of `now` is the same but for a factor, as totals are fixed.
        squares = np.square(counts - expected)
        return (squares / np.maximum(expected, 1e-9)).sum(axis=-1)

    # A little less: sums of the same counts may differ by rounding.
    as_far = distance(dealt) >= distance(table[0]) - 1e-9
    return Drift(old, new, float((1 + as_far.sum()) / (1 + _DEALS)))


def _checked(probabilities, labels):
    probabilities = np.asarray(probabilities)
    if probabilities.ndim != 3 or not len(probabilities):
        raise ValueError(
            "A policy needs probabilities (examples, exits, classes), received "
            f"shape {probabilities.shape}."
        )
    labels = ops.convert_to_tensor(np.asarray(labels))
    labels = ops.convert_to_numpy(checks.class_indices(labels))
    if len(labels) != len(probabilities):
        raise ValueError(
            f"One label per image is needed: received {len(labels)} for "
            f"{len(probabilities)} images."
        )
    checks.confidences(probabilities.max(axis=2))
    if not (0 <= labels.min() <= labels.max() < probabilities.shape[2]):
        raise ValueError(
            f"Labels need integers from 0 to {probabilities.shape[2] - 1}, "
            f"received {labels.min()} to {labels.max()}."
        )
    return probabilities, labels


def _prices(costs, num_exits):
    prices = [
        checks.number("costs", each, above=0)
        for each in checks.sequence("costs", costs, "costs of exits")
    ]
    if len(prices) != num_exits:
        raise ValueError(
            f"`costs` needs one number for each of the {num_exits} exits, "
            f"received {len(prices)}."
        )
    return np.array(prices)
