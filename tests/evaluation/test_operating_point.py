"""Thresholds for a budget or an accuracy, and whether they still fit."""

import math

import numpy as np
import pytest

from keras_neokd.base.exit_policy import Decision
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.evaluation import exit_drift
from keras_neokd.evaluation import fit_temperatures
from keras_neokd.evaluation import policy_at
from tests.reference import equations

pytestmark = pytest.mark.any_backend

COSTS = (1.0, 2.5, 4.0)
COUNT = 400


@pytest.fixture(scope="module")
def answers():
    """Probabilities of three exits, each better than the one before, labels."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, COUNT)
    logits = rng.normal(size=(COUNT, 3, 4))
    logits += np.eye(4)[labels][:, None] * np.array([1.0, 2.0, 4.0])[:, None]
    return equations.softmax(logits.astype("float32")), labels


def paid(policy, probabilities):
    exits = policy.decide(probabilities).exit_index
    return np.array(COSTS)[exits].mean()


@pytest.mark.parametrize("budget", [1.0, 1.7, 2.5, 3.9, 4.0])
def test_the_budget_is_the_mean_cost(answers, budget):
    probabilities, labels = answers
    policy = policy_at(probabilities, labels, COSTS, budget=budget)
    # One image more or less leaves at each exit.
    assert paid(policy, probabilities) == pytest.approx(budget, abs=6 / COUNT)


@pytest.mark.parametrize("confidence", ["margin", "entropy"])
def test_the_budget_holds_for_other_confidences(answers, confidence):
    probabilities, labels = answers
    policy = policy_at(
        *(probabilities, labels, COSTS),
        budget=2.0,
        confidence=confidence,
        temperatures=(2.0, 1.0, 0.5),
    )
    assert (policy.confidence, policy.temperatures) == (
        confidence,
        (2.0, 1.0, 0.5),
    )
    assert paid(policy, probabilities) == pytest.approx(2.0, abs=6 / COUNT)
    plain = policy_at(probabilities, labels, COSTS, budget=2.0)
    assert policy.thresholds != plain.thresholds


def test_temperatures_are_found_again():
    """Of labels that are drawn from the predictions, at temperature 1."""
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2, (20000, 2, 4))
    sums = equations.softmax(logits[:, 0]).cumsum(axis=1)
    labels = (rng.random((20000, 1)) > sums).sum(axis=1)
    logits[:, 1] = 3 * logits[:, 0]
    first, second = fit_temperatures(equations.softmax(logits), labels)
    assert first == pytest.approx(1.0, rel=0.03)
    assert second == pytest.approx(3 * first, rel=1e-3)


def test_labels_of_no_class_are_refused(answers):
    probabilities, labels = answers
    with pytest.raises(ValueError, match="from 0 to 3, received 0 to 4"):
        fit_temperatures(probabilities, np.where(labels == 3, 4, labels))


@pytest.mark.parametrize("ensemble", [False, True])
def test_an_accuracy_is_reached_and_no_cheaper_budget_does(answers, ensemble):
    probabilities, labels = answers
    last = np.mean(probabilities[:, 2].argmax(axis=1) == labels)
    wanted = last - 0.05

    def accuracy(policy):
        return np.mean(policy.decide(probabilities).label == labels)

    policy = policy_at(
        *(probabilities, labels, COSTS), accuracy=wanted, ensemble=ensemble
    )
    assert policy.ensemble == ensemble
    assert accuracy(policy) >= wanted
    price = paid(policy, probabilities)
    assert 1 < price < 4
    for budget in np.linspace(1, price - 0.2, 8):
        cheaper = policy_at(
            *(probabilities, labels, COSTS), budget=budget, ensemble=ensemble
        )
        assert accuracy(cheaper) < wanted
    # What only the last exit reaches leads there.
    if not ensemble:
        policy = policy_at(probabilities, labels, COSTS, accuracy=last)
        assert accuracy(policy) >= last


def test_one_hot_labels_are_the_same(answers):
    probabilities, labels = answers
    found = [
        policy_at(probabilities, each, COSTS, accuracy=0.7).thresholds
        for each in (labels, np.eye(4)[labels])
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({}, ValueError, "either `budget` or `accuracy`"),
        ({"budget": 2, "accuracy": 0.5}, ValueError, "either `budget`"),
        ({"budget": 0.5}, ValueError, "out of reach"),
        ({"budget": math.nan}, ValueError, "budget"),
        ({"accuracy": 1.1}, ValueError, "accuracy"),
        ({"accuracy": 1.0}, ValueError, r"No policy classifies 100\.00%"),
        ({"budget": 2, "costs": (1, 2)}, ValueError, "each of the 3 exits"),
        ({"budget": 2, "costs": (1, 3, 3)}, ValueError, "has to cost more"),
        ({"budget": 2, "costs": "fast"}, (TypeError, ValueError), "costs"),
        ({"budget": 2, "labels": [0]}, ValueError, "received 1 for 400"),
        ({"budget": 2, "probabilities": [0.5]}, ValueError, "examples, exits"),
    ],
)
def test_what_does_not_fit_is_refused(answers, changes, error, message):
    given = {"probabilities": answers[0], "labels": answers[1], "costs": COSTS}
    with pytest.raises(error, match=message):
        policy_at(**{**given, **changes})


def decision(counts):
    exits = np.repeat(np.arange(len(counts)), counts)
    return Decision(exits, exits, exits.astype("float32"))


def test_drift_is_the_test_of_homogeneity():
    found = exit_drift(decision([50, 50]), decision([70, 30]))
    np.testing.assert_allclose(found.before, [0.5, 0.5])
    np.testing.assert_allclose(found.now, [0.7, 0.3])
    # Fisher's exact test.
    assert found.p_value == pytest.approx(0.00588, abs=0.0025)


@pytest.mark.parametrize(
    ("before", "now", "exact"),
    [
        # The one late image of 1,020 is one of the last 20; of 50 and so on.
        ([1000, 0], [19, 1], 20 / 1020),
        ([1999, 1], [49, 1], 1 - 2000 * 1999 / (2050 * 2049)),
    ],
)
def test_rare_exits_do_not_look_like_drift(before, now, exact):
    found = exit_drift(decision(before), decision(now))
    assert found.p_value == pytest.approx(exact, abs=0.006)


def test_exits_that_no_image_takes_say_nothing():
    assert exit_drift(decision([9]), decision([3])).p_value == 1
    with_gap = exit_drift(decision([50, 0, 50]), decision([70, 0, 30]))
    assert with_gap.p_value == pytest.approx(0.00588, abs=0.0025)
    assert exit_drift(decision([90]), decision([0, 0, 90])).p_value == 0.0001
    with pytest.raises(ValueError, match="of no image"):
        exit_drift(decision([]), decision([3]))


def test_a_policy_of_equal_shares_drifts_by_chance_alone(answers):
    probabilities, labels = answers
    policy = policy_at(probabilities, labels, COSTS, budget=2.0)
    assert isinstance(policy, ExitPolicy)
    halves = (
        policy.decide(probabilities[::2]),
        policy.decide(probabilities[1::2]),
    )
    assert exit_drift(*halves).p_value > 0.01
