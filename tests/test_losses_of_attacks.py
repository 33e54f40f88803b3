"""What attacks maximise besides the cross-entropy: margin and logits ratio."""

import numpy as np
import pytest
from keras import ops

from keras_neokd import backend
from keras_neokd import losses
from tests.reference import equations as reference

# Calculated by hand.
LOGITS = [[2.0, 1.0, 0.5, -1.0, 0.0]]


def tensor(values, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(values, dtype))


def integers(*values):
    return tensor(values, "int32")


def random_logits(num_examples):
    shape = (num_examples, 3, 10)
    return np.random.default_rng(5).normal(scale=2.0, size=shape)


def assert_close(received, expected, atol=1e-5):
    np.testing.assert_allclose(
        ops.convert_to_numpy(received), expected, rtol=1e-5, atol=atol
    )


# The margin.


@pytest.mark.parametrize(
    ("logits", "label", "expected"),
    [
        *(([3.0, 1.0, -2.0], *each) for each in ((0, -2), (1, 2), (2, 5))),
        # The true class counts for nothing where all logits are negative.
        ([-7.0, -5.0, -9.0], 1, -2),
    ],
)
def test_margin_is_the_best_wrong_logit_minus_the_true_one(
    logits, label, expected
):
    margin = losses.margin(tensor([logits]), integers(label))
    assert_close(margin, [expected])


def test_margin_is_positive_exactly_where_the_prediction_is_wrong():
    logits, labels = random_logits(60), np.arange(60) % 10
    expected = np.stack(
        [reference.margin(logits[:, i], labels) for i in range(3)], axis=1
    )
    margin = losses.margin(tensor(logits), tensor(labels, "int32"))
    assert_close(margin, expected)
    wrong = logits.argmax(axis=2) != labels[:, None]
    assert 0 < wrong.mean() < 1
    np.testing.assert_array_equal(ops.convert_to_numpy(margin) > 0, wrong)


def test_margin_of_float16_logits_is_finite():
    logits = ops.cast(tensor([[1.0, 2.0, 3.0]]), "float16")
    assert_close(losses.margin(logits, tensor([0], "int32")), [2])


# The difference of logits ratio.


@pytest.mark.parametrize(("label", "expected"), [(0, -2 / 3), (1, 2 / 3)])
def test_golden_ratio(label, expected):
    assert_close(losses.dlr(tensor(LOGITS), integers(label)), [expected])


def test_golden_targeted_ratio():
    # (0.5 - 2) / (2 - (0.5 + 0) / 2)
    ratio = losses.targeted_dlr(tensor(LOGITS), integers(0), integers(2))
    assert_close(ratio, [-0.857143])
    margin = losses.targeted_margin(tensor(LOGITS), integers(0), integers(2))
    assert_close(margin, [-1.5])


def test_ratios_equal_their_definitions_at_any_scale():
    logits = random_logits(60)[:, 0]
    labels, targets = np.arange(60) % 10, np.arange(60) // 10 + 4
    targets = np.where(targets == labels, 0, targets)
    for scale in (1e-3, 1.0, 1e3):
        given = tensor(scale * logits)
        assert_close(
            losses.dlr(given, tensor(labels, "int32")),
            reference.dlr(logits, labels),
        )
        assert_close(
            losses.targeted_dlr(
                given, tensor(labels, "int32"), tensor(targets, "int32")
            ),
            reference.targeted_dlr(logits, labels, targets),
        )


def test_ratio_is_one_at_most_where_the_true_class_is_third():
    # It cannot be raised by lowering the true class further.
    logits = tensor([[3.0, 2.0, 1.0, 0.0], [3.0, 2.0, 1.0, 0.0]])
    assert_close(losses.dlr(logits, integers(2, 3)), [1, 1.5])


def test_the_true_class_may_be_anywhere_among_equal_logits():
    ties = tensor([[1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]])
    assert_close(losses.dlr(ties, integers(0, 0)), [0, -1])
    assert_close(losses.dlr(ties, integers(1, 2)), [0, 1])
    # The third and the fourth are equal, and so is their mean.
    assert_close(
        losses.targeted_dlr(ties, integers(0, 0), integers(2, 3)), [-1, -1]
    )


def test_equal_logits_have_ratio_zero_and_finite_gradients():
    equal = tensor([[1.0, 1.0, 1.0, 1.0]])
    for function in (
        lambda x: losses.dlr(x, integers(2)),
        lambda x: losses.targeted_dlr(x, integers(2), integers(1)),
    ):
        value, gradient = backend.value_and_input_gradient(function, equal)
        assert_close(value, [0])
        assert np.isfinite(ops.convert_to_numpy(gradient)).all()


def test_gradients_equal_central_differences():
    logits = random_logits(6)[:, 0]
    labels, targets = np.arange(6), np.array([3, 4, 5, 0, 1, 2])
    given = (tensor(labels, "int32"), tensor(targets, "int32"))
    for ours, definition in (
        (lambda x: losses.dlr(x, given[0]), lambda x: reference.dlr(x, labels)),
        (
            lambda x: losses.targeted_dlr(x, *given),
            lambda x: reference.targeted_dlr(x, labels, targets),
        ),
        (
            lambda x: losses.targeted_margin(x, *given),
            lambda x: x[np.arange(6), targets] - x[np.arange(6), labels],
        ),
    ):
        _, gradient = backend.value_and_input_gradient(ours, tensor(logits))
        expected = reference.central_difference(definition, logits)
        assert abs(expected).max() > 0.1
        assert_close(gradient, expected)
