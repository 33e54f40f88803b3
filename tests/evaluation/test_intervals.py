"""Confidence intervals of accuracies, costs and savings."""

import math

import numpy as np
import pytest
from scipy import stats

from keras_neokd.evaluation import mean_cost_interval
from keras_neokd.evaluation import saving_interval
from keras_neokd.evaluation import wilson_interval
from tests import arrays

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    ("correct", "count"), [(0, 10), (7, 10), (860, 1000), (10, 10), (0, 1)]
)
def test_the_interval_is_scipys(correct, count):
    expected = stats.binomtest(correct, count).proportion_ci(
        0.95, method="wilson"
    )
    assert wilson_interval(correct / count, count) == pytest.approx(
        (expected.low, expected.high), abs=1e-12
    )


@pytest.mark.parametrize("accuracy", [0.0, 0.3, 1.0])
def test_it_lies_in_0_and_1_and_holds_the_accuracy(accuracy):
    low, high = wilson_interval(accuracy, 7)
    assert 0 <= low <= accuracy <= high <= 1
    assert low < high


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1.2, 10), "`accuracy` needs .* <= 1, received 1.2"),
        ((-0.1, 10), "`accuracy` needs .* >= 0"),
        ((0.5, 0), "`num_examples` needs an integer >= 1"),
    ],
)
def test_impossible_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        wilson_interval(*arguments)


def test_the_cost_of_two_exits_has_the_interval_of_agresti_and_coull():
    # 30 of 200 images at an exit of cost 1, the others at one of cost 0:
    # (30 + 1.9207) / 203.8415 = 0.15660 with half of 1.96 *
    # sqrt(0.15660 * 0.84340 / 203.8415) = 0.04989.
    low, high = mean_cost_interval([0.85, 0.15], [0.0, 1.0], 200)
    assert low == pytest.approx(0.15660 - 0.04989, abs=2e-5)
    assert high == pytest.approx(0.15660 + 0.04989, abs=2e-5)
    # Costs in other units, from another zero.
    scaled = mean_cost_interval([0.85, 0.15], [5.0, 7.0], 200)
    arrays.close(scaled, [5 + 2 * low, 5 + 2 * high])


@pytest.mark.parametrize("shares", [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
@pytest.mark.parametrize("count", [1, 10, 200])
def test_images_that_all_leave_at_one_exit_do_not_make_a_cost_certain(
    shares, count
):
    costs = [1.0, 2.0, 4.0]
    low, high = mean_cost_interval(shares, costs, count)
    assert 1 <= low <= np.dot(shares, costs) <= high <= 4
    assert low < high


def test_the_interval_covers_the_mean_cost_of_all_images():
    generator = np.random.default_rng(0)
    costs = np.array([1.0, 2.5, 4.0, 6.0])
    for shares in ([0.25, 0.25, 0.25, 0.25], [0.7, 0.2, 0.08, 0.02]):
        samples = generator.multinomial(200, shares, 1000) / 200
        ends = np.array([mean_cost_interval(s, costs, 200) for s in samples])
        mean = np.dot(shares, costs)
        covered = ((ends[:, 0] <= mean) & (mean <= ends[:, 1])).mean()
        assert 0.93 <= covered <= 0.975


def test_a_single_exit_costs_what_it_costs():
    assert mean_cost_interval([1.0], [3.0], 10) == (3.0, 3.0)


def test_more_images_give_a_smaller_interval():
    widths = [
        np.diff(mean_cost_interval([0.5, 0.5], [1.0, 2.0], count))[0]
        for count in (200, 800)
    ]
    assert widths[0] == pytest.approx(2 * widths[1], rel=0.02)


@pytest.mark.parametrize("shares", [[0.5, 0.4], [0.5, 0.5, 0.0], [0.5]])
def test_shares_are_one_per_exit_and_one_in_all(shares):
    with pytest.raises(ValueError, match="one share for each of the 2 exits"):
        mean_cost_interval(shares, [1.0, 2.0], 10)


def test_a_saving_against_a_cost_that_is_certain_has_the_interval_of_its_cost():
    low, high = saving_interval(2.0, (1.0, 3.0), 4.0, (4.0, 4.0))
    assert (low, high) == pytest.approx((0.25, 0.75))
    # And the other way around: 1 - 4 / 2, from costs of 3 and of 1.
    low, high = saving_interval(4.0, (4.0, 4.0), 2.0, (1.0, 3.0))
    assert (low, high) == pytest.approx((-3.0, 1 - 4 / 3))


def test_two_uncertain_costs_add_up_as_independent_ones():
    # The difference of logarithms has a half of hypot(0.3, 0.4) = 0.5.
    low, high = saving_interval(
        1.0,
        (math.exp(-0.3), math.exp(0.3)),
        2.0,
        (2 * math.exp(-0.4), 2 * math.exp(0.4)),
    )
    assert low == pytest.approx(1 - 0.5 * math.exp(0.5))
    assert high == pytest.approx(1 - 0.5 * math.exp(-0.5))


def test_an_exit_that_costs_nothing_leaves_a_saving_open():
    low, high = saving_interval(2.0, (0.0, 3.0), 4.0, (4.0, 4.0))
    assert (low, high) == pytest.approx((0.25, 1.0))
    low, high = saving_interval(4.0, (4.0, 4.0), 2.0, (0.0, 3.0))
    assert (low, high) == pytest.approx((-math.inf, 1 - 4 / 3))


@pytest.mark.parametrize("interval", [(3.0, 4.0), (1.0, 1.5), (3.0, 1.0), (2,)])
def test_an_interval_holds_its_cost(interval):
    message = "`interval` needs a lower and an upper end around 2, received"
    with pytest.raises(ValueError, match=message):
        saving_interval(2.0, interval, 4.0, (4.0, 4.0))
    # A cost that was rounded is still in it.
    saving_interval(2.0, (2.0 + 1e-12, 3.0), 4.0, (4.0, 4.0))


def test_costs_do_not_fall():
    with pytest.raises(ValueError, match="`exit_costs` .* do not fall"):
        mean_cost_interval([0.5, 0.5], [2.0, 1.0], 10)
