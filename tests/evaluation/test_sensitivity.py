"""Sensitivity: golden curves by hand, steps in proportion, findings, errors."""

import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd import evaluation
from keras_neokd.evaluation.sensitivity import changed
from tests import arrays
from tests.evaluation import linear

# One pixel; class 1 above 0.5 at the first exit, above 0.4 at the second.
WEIGHTS = [[[0.0, 1.0]], [[0.0, 1.0]]]
OFFSETS = [(0.0, -0.5), (0.0, -0.4)]
IMAGES = np.array([0.55, 0.65, 0.75, 0.95], "float32").reshape(-1, 1, 1, 1)
LABELS = np.ones(4, "int32")


@pytest.fixture(scope="module")
def model():
    return linear.model_of(linear.GivenExits(WEIGHTS, OFFSETS), (1, 1, 1))


def curve(model, attack, name, values):
    return evaluation.sensitivity(model, IMAGES, LABELS, attack, name, values)


def test_accuracy_against_epsilon_by_hand(model):
    pgd = attacks.PGD(0.1, 0.05, 4, random_start=False)
    result = curve(model, pgd, "epsilon", (0.3, 0.0, 0.1, 0.1))
    assert result.name == "epsilon"
    assert result.values == (0.0, 0.1, 0.3)
    # Every pixel falls by epsilon.
    expected = [[4 / 4, 4 / 4], [3 / 4, 4 / 4], [1 / 4, 2 / 4]]
    arrays.close(result.accuracy, expected)
    assert result.findings == []


def test_accuracy_against_steps_by_hand(model):
    pgd = attacks.PGD(0.3, 0.1, 7, random_start=False)
    result = curve(model, pgd, "num_steps", (1, 2, 9))
    # They fall by 0.1, 0.2 and, at the border of the ball, 0.3.
    expected = [[3 / 4, 4 / 4], [2 / 4, 3 / 4], [1 / 4, 2 / 4]]
    arrays.close(result.accuracy, expected)


def test_steps_stay_in_proportion_to_epsilon(model):
    pgd = attacks.PGD(0.3, 0.1, 7)
    weaker = changed(pgd, "epsilon", 0.03)
    assert weaker.step_size == pytest.approx(0.01)
    assert weaker.num_steps == 7
    longer = changed(pgd, "num_steps", 50)
    assert (longer.epsilon, longer.step_size) == (0.3, 0.1)
    assert changed(attacks.APGD(0.3), "epsilon", 0.1).epsilon == 0.1
    # There is nothing to be in proportion to.
    assert changed(attacks.PGD(0, 0.1, 1), "epsilon", 0.1).step_size == 0.1


class Timid(attacks.Attack):
    """Does less, the more it may do."""

    def perturb(self, predict, images, labels, keys):
        return images - (0.3 - self.epsilon), {}


def test_a_rise_is_a_finding(model):
    result = curve(model, Timid(0.1), "epsilon", (0.15, 0.29))
    (finding,) = result.findings
    assert finding.code == "rises_with_epsilon"
    assert "at epsilon 0.15" in finding.message


@pytest.mark.parametrize(
    ("attack", "name"),
    [
        (attacks.MaxAverage(attacks.PGD(0.1, 0.1, 1)), "epsilon"),
        (attacks.UniformNoise(0.1), "num_steps"),
        (attacks.PGD(0.1, 0.1, 1), "num_restarts"),
        (None, "epsilon"),
    ],
)
def test_an_attack_without_the_argument(model, attack, name):
    with pytest.raises(ValueError, match="cannot be made stronger by"):
        curve(model, attack, name, (1, 2))


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("epsilon", -0.1, ValueError),
        ("num_steps", 0, ValueError),
        ("num_steps", 2.5, TypeError),
    ],
)
def test_values_that_are_not_possible(model, name, value, error):
    with pytest.raises(error, match="needs"):
        curve(model, attacks.PGD(0.1, 0.1, 1), name, (value,))


def test_no_values(model):
    with pytest.raises(ValueError, match="at least one value"):
        curve(model, attacks.PGD(0.1, 0.1, 1), "epsilon", ())
