"""Confidence intervals of accuracies."""

import pytest
from scipy import stats

from keras_neokd.evaluation import wilson_interval


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
