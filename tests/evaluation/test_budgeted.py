"""Budgeted accuracy: golden thresholds, shares, and a run in plain NumPy."""

import math
from fractions import Fraction

import keras
import numpy as np
import pytest

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import evaluation
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.evaluation.budgeted import BudgetedResult
from keras_neokd.evaluation.budgeted import budgeted
from keras_neokd.evaluation.exit_shares import geometric_shares
from keras_neokd.evaluation.exit_shares import shares_for_budget
from keras_neokd.evaluation.exit_shares import thresholds
from tests import arrays
from tests.reference import equations
from tests.training import tiny

# Eight images, two exits and a last one; reaches and leavers worked out by
# hand: T1 is the fourth of exit 1, T2 the second of the rest at exit 2.
CONFIDENCES = np.array(
    [
        [0.95, 0.60, 0.5],
        [0.90, 0.99, 0.5],
        [0.80, 0.85, 0.5],
        [0.70, 0.65, 0.5],
        [0.60, 0.92, 0.5],
        [0.55, 0.88, 0.5],
        [0.50, 0.70, 0.5],
        [0.40, 0.45, 0.5],
    ]
)
# By hand, of `tiny.dense_model`: 64 pixels to 6 units, 6 to 6, 6 to 8.
COSTS = np.array([64 * 6 + 48, 64 * 6 + 48 + 84, 64 * 6 + 48 + 2 * 84])


# Thresholds.


@pytest.mark.parametrize(
    ("shares", "expected"),
    [
        ((0.5, 0.25, 0.25), [0.70, 0.88]),
        # Less than one image: 0.96 of 8, or none.
        ((0.12, 0.25, 0.63), [math.inf, 0.92]),
        ((0.0, 0.0, 1.0), [math.inf] * 2),
        # Fewer are left than are to leave. As in MSDNet-PyTorch's
        # adaptive_inference, which then never finds the image that sets the
        # threshold.
        ((0.75, 0.5, 0.0), [0.55, math.inf]),
        # All that are left.
        ((0.75, 0.25, 0.0), [0.55, 0.45]),
    ],
)
def test_thresholds_let_the_asked_shares_leave(shares, expected):
    assert thresholds(CONFIDENCES, shares) == expected
    # The order of the images does not matter.
    order = np.random.default_rng(0).permutation(8)
    assert thresholds(CONFIDENCES[order], shares) == expected


def test_equal_confidences_leave_together():
    # Two were to leave; the third is as confident as the second. Of the one
    # that is left, exit 2 takes none: it was to take two.
    confidences = np.array([[0.9, 0.3], [0.8, 0.3], [0.8, 0.3], [0.1, 0.3]])
    confidences = np.concatenate([confidences, confidences[:, 1:]], axis=1)
    shares = (0.5, 0.5, 0.0)
    assert thresholds(confidences, shares) == [0.8, math.inf]


def test_a_whole_number_of_images_survives_rounding():
    # 0.29 * 100 is 28.999999999999996 in float64.
    confidences = np.stack([np.arange(100.0), np.zeros(100)], axis=1)
    assert thresholds(confidences, (0.29, 0.71)) == [71.0]


def test_a_single_exit_needs_no_threshold():
    assert thresholds(CONFIDENCES[:, :1], (1.0,)) == []


# Shares.


def test_the_sweep_is_geometric():
    shares = geometric_shares(3, 40)
    assert shares.shape == (40, 3)
    arrays.close(shares[9], [4 / 7, 2 / 7, 1 / 7])  # p = 1/2
    arrays.close(shares[19], [1 / 3] * 3)  # p = 1
    arrays.close(shares[39], [1 / 7, 2 / 7, 4 / 7])  # p = 2
    arrays.close(shares.sum(axis=1), 1)


def test_the_sweep_has_100_budgets_unless_told_otherwise():
    shares = geometric_shares(3)
    assert shares.shape == (100, 3)
    arrays.close(shares[-1], np.array([1, 5, 25]) / 31)


@pytest.mark.parametrize("num_exits", [7, 400])
def test_the_sweep_of_many_exits_stays_finite_and_rises(num_exits):
    shares = geometric_shares(num_exits)
    assert np.isfinite(shares).all()
    arrays.close(shares.sum(axis=1), 1)
    costs = shares @ np.arange(1.0, num_exits + 1)
    assert (np.diff(costs) > 0).all()


@pytest.mark.parametrize("budget", [10.5, 12.0, 16.0, 19.9999])
def test_shares_cost_the_budget(budget):
    costs = np.array([10.0, 15.0, 17.0, 20.0])
    shares = shares_for_budget(budget, costs)
    assert shares @ costs == pytest.approx(budget, rel=1e-12)
    assert shares.sum() == pytest.approx(1)
    # Geometric: each exit has the same multiple of the one before.
    ratios = shares[1:] / shares[:-1]
    arrays.close(ratios, ratios[0], rtol=1e-9)


def test_shares_of_two_exits_by_hand():
    shares = shares_for_budget(13.0, np.array([10.0, 20.0]))
    arrays.close(shares, [0.7, 0.3], rtol=1e-12)


def test_the_cheapest_and_dearest_budgets_are_one_exit():
    costs = np.array([10.0, 15.0, 20.0])
    arrays.equal(shares_for_budget(10.0, costs), [1, 0, 0])
    arrays.equal(shares_for_budget(20.0, costs), [0, 0, 1])


@pytest.mark.parametrize("budget", [9.9, 20.1, math.nan])
def test_budgets_out_of_reach_are_refused(budget):
    message = "out of reach: the first exit costs 10, the last 20"
    with pytest.raises(ValueError, match=message):
        shares_for_budget(budget, np.array([10.0, 20.0]))


# Costs and savings.


def result(accuracy, costs):
    """Return a result of which only accuracy and costs are looked at."""
    costs = np.array(costs, float)
    accuracy = np.array(accuracy, float)
    shares = np.ones((len(costs), 1))
    return BudgetedResult((), costs, costs, accuracy, shares, costs[:1], 100)


def test_the_cost_of_an_accuracy_is_the_smallest_that_reaches_it():
    # Accuracy may fall again; the cheapest budget counts.
    measured = result([0.30, 0.42, 0.40, 0.45], [10, 12, 13, 15])
    assert measured.cost_of(0.30) == 10
    assert measured.cost_of(0.31) == 12
    assert measured.cost_of(0.41) == 12
    assert measured.cost_of(0.45) == 15
    assert math.isnan(measured.cost_of(0.46))


def test_real_costs_may_be_out_of_order():
    # A nominally larger budget was cheaper on the test images.
    assert result([0.42, 0.42], [13, 12]).cost_of(0.4) == 12


def test_the_saving_of_the_paper():
    # CIFAR-10, average attack: 41.21 % costs 10.59 million multiply-adds
    # with NEO-KD, 20.46 million with adversarial training.
    neo_kd = result([0.40, 0.4121, 0.4554], [10.3, 10.59, 22.05])
    adversarial = result([0.38, 0.4100, 0.4121], [10.3, 15.0, 20.46])
    saving = neo_kd.saving_against(adversarial, 0.4121)
    assert saving == pytest.approx(0.4824, abs=5e-5)
    # The highest accuracy that both reach is this one.
    assert neo_kd.saving_against(adversarial) == saving
    other_way = adversarial.saving_against(neo_kd)
    assert other_way == pytest.approx(1 - 20.46 / 10.59)


def test_no_saving_at_an_accuracy_that_one_does_not_reach():
    better, worse = result([0.5], [10]), result([0.4], [10])
    assert math.isnan(better.saving_against(worse, 0.45))
    assert math.isnan(worse.saving_against(better, 0.45))
    assert better.saving_against(worse) == 0


def spread(accuracy, shares):
    """Return a result of 100 images at exits that cost 1 and 3."""
    shares, exit_costs = np.array(shares), np.array([1.0, 3.0])
    costs = shares @ exit_costs
    return BudgetedResult(
        (), costs, costs, np.array(accuracy), shares, exit_costs, 100
    )


def test_costs_and_savings_have_intervals():
    ours = spread([0.3, 0.5], [[0.9, 0.1], [0.5, 0.5]])
    theirs = spread([0.5], [[0.2, 0.8]])
    expected = [
        evaluation.mean_cost_interval(shares, [1.0, 3.0], 100)
        for shares in ([0.9, 0.1], [0.5, 0.5])
    ]
    arrays.close(ours.cost_intervals(), expected)
    low, high = ours.saving_interval_against(theirs)
    assert low < ours.saving_against(theirs) < high
    expected = evaluation.saving_interval(
        2.0, expected[1], 2.6, theirs.cost_intervals()[0]
    )
    assert (low, high) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(ours.saving_interval_against(theirs, 0.6)).all()


# A whole run.


class Shift(attacks.Attack):
    """Adds epsilon to every pixel: what it does is known without running."""

    def perturb(self, predict, images, labels, keys):
        return images + self.epsilon, {}


def shifted(images):
    return np.clip(images + np.float32(0.1), 0, 1)


VALIDATION = tiny.data(30, seed=1)
TEST = tiny.data(25, seed=2)


@pytest.fixture(scope="module")
def model():
    return tiny.dense_model()


def softmaxes(model, images):
    logits = model.predict(images, verbose=0)
    stacked = np.stack([logits[name] for name in tiny.NAMES], axis=1)
    return equations.softmax(stacked.astype("float64"))


def exact_shares(k):
    """Return the geometric shares of `p = k / 20` without rounding."""
    powers = [Fraction(k, 20) ** i for i in range(3)]
    return [each / sum(powers) for each in powers]


def thresholds_by_hand(confidences, shares):
    """The loop of MSDNet-PyTorch's adaptive_inference, one image at a time."""
    taken = np.zeros(len(confidences), bool)
    found = []
    for exit_ in range(2):
        wanted = math.floor(shares[exit_] * len(confidences))
        threshold, count = math.inf, 0
        for row in np.argsort(-confidences[:, exit_]):
            if not taken[row]:
                count += 1
                if count == wanted:
                    threshold = confidences[row, exit_]
                    break
        taken |= confidences[:, exit_] >= threshold
        found.append(threshold)
    return [*found, -math.inf]


def run_by_hand(on_validation, on_test, labels, k, ensemble):
    """Return accuracy and the share of the test images at each exit."""
    bounds = thresholds_by_hand(on_validation.max(axis=2), exact_shares(k))
    correct, leaves = 0, np.zeros(3)
    for probabilities, label in zip(on_test, labels, strict=True):
        exit_ = 0
        while probabilities[exit_].max() < bounds[exit_]:
            exit_ += 1
        first = 0 if ensemble else exit_
        vote = probabilities[first : exit_ + 1].mean(axis=0)
        correct += int(vote.argmax() == label)
        leaves[exit_] += 1
    return correct / len(labels), leaves / len(labels)


@pytest.mark.parametrize("ensemble", [True, False])
@pytest.mark.parametrize("kind", ["none", "attacked", "clean"])
def test_a_run_equals_plain_numpy(model, kind, ensemble):
    images = {False: (VALIDATION[0], TEST[0])}
    images[True] = [*map(shifted, images[False])]
    arguments = {"attack": Shift(0.1), "threshold_data": kind}
    measured = budgeted(
        model,
        VALIDATION,
        TEST,
        ensemble=ensemble,
        batch_size=8,
        **(arguments if kind != "none" else {}),
    )
    arrays.equal(measured.exit_costs, COSTS)
    validation = softmaxes(model, images[kind == "attacked"][0])
    test = softmaxes(model, images[kind != "none"][1])
    by_hand = [
        run_by_hand(validation, test, TEST[1], k, ensemble)
        for k in range(1, 101)
    ]
    accuracy, shares = map(np.array, zip(*by_hand, strict=True))
    nominal = [float(np.dot(exact_shares(k), COSTS)) for k in range(1, 101)]
    arrays.close(measured.accuracy, accuracy)
    arrays.close(measured.exit_shares, shares)
    arrays.close(measured.costs, shares @ COSTS)
    arrays.close(measured.nominal_costs, nominal)
    assert {policy.ensemble for policy in measured.policies} == {ensemble}
    # Else the sweep would not have tested anything.
    assert len(np.unique(accuracy)) > 2
    assert len(np.unique(shares, axis=0)) > 10


def test_an_ensemble_is_the_default(model):
    plain = budgeted(model, VALIDATION, TEST)
    assert all(policy.ensemble for policy in plain.policies)


def test_thresholds_come_from_attacked_images_by_default(model):
    given = {"attack": Shift(0.1), "budgets": [500.0]}
    default, attacked, clean = (
        budgeted(model, VALIDATION, TEST, **given, **more)
        for more in (
            {},
            {"threshold_data": "attacked"},
            {"threshold_data": "clean"},
        )
    )
    expected = attacked.policies[0].thresholds
    assert default.policies[0].thresholds == expected
    assert clean.policies[0].thresholds != expected


def test_budgets_are_sorted_and_counted_once(model):
    measured = budgeted(model, VALIDATION, TEST, budgets=[600, 450.0, 432, 450])
    arrays.close(measured.nominal_costs, [432, 450, 600])
    # The ends are the first and the last exit alone, and so are the costs.
    assert measured.costs[-1] == 600
    arrays.equal(measured.exit_shares[-1], [0, 0, 1])
    assert measured.policies[-1].thresholds == (math.inf, math.inf)
    assert isinstance(measured.policies[0], ExitPolicy)


def test_the_batch_size_does_not_matter(model):
    # The noise of an image is that of (seed, index).
    attack = tiny.NoiseImages()
    first, second = (
        budgeted(model, VALIDATION, TEST, attack, batch_size=size, seed=3)
        for size in (7, 30)
    )
    arrays.equal(first.accuracy, second.accuracy)
    arrays.equal(first.exit_shares, second.exit_shares)


# What is refused.


def with_more(data, images, labels):
    return np.concatenate([data[0], images]), np.concatenate([data[1], labels])


def test_test_images_among_the_validation_images_are_refused(model):
    images, labels = TEST
    seen = with_more(VALIDATION, images[:2], labels[:2])
    message = "2 of 25 test images are among the .* validation images, too"
    with pytest.raises(ValueError, match=message):
        budgeted(model, seen, TEST)
    # Of another type they are the same images.
    with pytest.raises(ValueError, match=message):
        budgeted(model, (seen[0].astype("float64"), seen[1]), TEST)


def test_a_few_validation_images_out_of_many_test_images_are_refused(model):
    test = tiny.data(600, seed=3)
    seen = test[0][:3], test[1][:3]
    message = "3 of 600 test images are among the 3"
    with pytest.raises(ValueError, match=message):
        budgeted(model, seen, test, budgets=[500.0])


def test_few_twins_of_a_data_set_are_no_mistake(model):
    images, labels = tiny.data(100, seed=3)
    twin = with_more(tiny.data(99, seed=4), images[:1], labels[:1])
    budgeted(model, twin, (images, labels), budgets=[500.0])


def test_exits_that_cost_the_same_are_refused():
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    logits = keras.layers.Dense(8)(flat)
    same = MultiExitModel(inputs, {"exit_1": logits, "exit_2": logits})
    message = r"has to cost more than an earlier one.*\[512, 512\]"
    with pytest.raises(ValueError, match=message):
        budgeted(same, VALIDATION, TEST)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold_data": "adversarial"}, "threshold_data"),
        ({"budgets": [431.0]}, "A budget of 431 is out of reach"),
        ({"budgets": [450.0, 601.0]}, "A budget of 601 is out of reach"),
        ({"batch_size": 0}, "`batch_size` needs an integer >= 1"),
        ({"test": (TEST[0], TEST[1] + 8)}, "class indices from 0 to 7"),
        ({"attack": "pgd"}, "does not say how strong"),
    ],
)
def test_bad_arguments_are_refused_in_words(model, arguments, message):
    arguments = {"validation": VALIDATION, "test": TEST, **arguments}
    with pytest.raises(ValueError, match=message):
        budgeted(model, **arguments)
