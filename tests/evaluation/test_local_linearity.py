"""Local linearity: against a search in NumPy and values by hand."""

import numpy as np
import pytest

from keras_neokd import evaluation
from tests import arrays
from tests.evaluation import linear
from tests.reference import equations as reference
from tests.training import tiny

EPSILON, STEP_SIZE, NUM_STEPS, SEED = 0.15, 0.1, 6, 5
EXITS = reference.LinearExits(2, linear.SHAPE, linear.NUM_CLASSES)
IMAGES, LABELS = linear.images(), linear.LABELS


@pytest.fixture(scope="module")
def model():
    return linear.model_of(EXITS)


def measure(model, epsilon=EPSILON, **arguments):
    arguments = {
        "step_size": STEP_SIZE,
        "num_steps": NUM_STEPS,
        "seed": SEED,
        **arguments,
    }
    return evaluation.local_linearity(
        model, IMAGES, LABELS, epsilon, **arguments
    )


def deviations_along_the_way(exit_):
    """Search as described in the docstring, in float64: all iterates."""

    def loss(points):
        return EXITS.score(points, LABELS, (exit_,))

    slope = EXITS.gradient(IMAGES, LABELS, (exit_,))
    keys = reference.bits(SEED, np.arange(len(IMAGES)))
    unit = reference.example_uniform(reference.bits(keys, exit_), linear.SHAPE)
    low, high = np.maximum(IMAGES - EPSILON, 0), np.minimum(IMAGES + EPSILON, 1)
    points = low + unit * (high - low)
    found = []
    for _ in range(NUM_STEPS + 1):
        rise = ((points - IMAGES) * slope).sum(axis=(1, 2, 3))
        found.append(loss(points) - loss(IMAGES) - rise)
        gradient = EXITS.gradient(points, LABELS, (exit_,)) - slope
        points = points + STEP_SIZE * np.sign(gradient)
        points = reference.project(points, IMAGES, EPSILON, "linf")
    return np.array(found)


def test_the_search_equals_one_in_numpy(model):
    result = measure(model)
    assert result.exit_names == ("exit_1", "exit_2")
    assert result.epsilon == EPSILON
    for exit_ in range(2):
        expected = deviations_along_the_way(exit_).max(axis=0)
        arrays.close(
            result.deviations[:, exit_], expected, rtol=1e-4, atol=1e-5
        )
    arrays.close(result.mean(), result.deviations.mean(axis=0), rtol=1e-6)


def test_one_pixel_and_two_classes_by_hand():
    # Logits (8x, 0), label 0: l(x) = log(1 + exp(-8x)), bent upwards, so the
    # largest deviation is at an end of the interval [0.1, 0.3] or [0, 0.1].
    exits = linear.GivenExits([[[8, 0]]], [[0, 0]])
    model = linear.model_of(exits, shape=(1, 1, 1))
    images = np.array([0.2, 0.0], "float32").reshape(2, 1, 1, 1)
    result = evaluation.local_linearity(model, images, [0, 0], epsilon=0.1)

    def loss(x):
        return np.log1p(np.exp(-8 * x))

    def deviation(x, d):
        slope = -8 / (1 + np.exp(8 * x))
        return loss(x + d) - loss(x) - d * slope

    first, second = result.deviations[:, 0]
    ends = [deviation(0.2, -0.1), deviation(0.2, 0.1)]
    assert min(abs(first - ends)) < 1e-6
    # Pixels stay in [0, 1]: of the second interval only one end is left.
    assert second == pytest.approx(deviation(0.0, 0.1), abs=1e-6)


def test_a_ball_without_room_gives_exactly_zero(model):
    arrays.equal(measure(model, 0).deviations, 0)


def test_twice_the_radius_bends_four_times_as_much(model):
    small, large = (
        measure(model, radius, num_steps=50).mean() for radius in (0.01, 0.02)
    )
    arrays.close(large / small, 4, rtol=0.15)


def test_a_loss_below_its_tangent_plane_counts_as_zero():
    # Label 0 never wins: l is linear in x up to rounding.
    exits = linear.GivenExits([[[0, 1]], [[0, 1]]], [[0, 50], [0, 50]])
    model = linear.model_of(exits, shape=(1, 1, 1))
    images = np.full((3, 1, 1, 1), 0.5, "float32")
    result = evaluation.local_linearity(model, images, [0] * 3, epsilon=0.2)
    assert (result.deviations >= 0).all()
    arrays.close(result.deviations, 0, atol=1e-5)


def test_the_batch_size_changes_nothing(model):
    expected = measure(model, batch_size=7).deviations
    for size in (1, 3, 256):
        found = measure(model, batch_size=size).deviations
        arrays.close(found, expected, rtol=1e-4, atol=1e-5)


def test_the_start_is_that_of_the_seed(model):
    first, again, other = (
        measure(model, seed=seed, num_steps=1).deviations for seed in (0, 0, 1)
    )
    arrays.equal(first, again)
    assert np.abs(first - other).max() > 0


def test_a_second_measurement_is_the_same():
    images, labels = tiny.data()
    model = tiny.dense_model(norm=True, dropout=0.5)
    first, again = (
        evaluation.local_linearity(model, images, labels, 0.1, num_steps=2)
        for _ in range(2)
    )
    arrays.equal(first.deviations, again.deviations)
    assert (first.mean() > 0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"epsilon": -0.1}, "`epsilon` needs"),
        ({"epsilon": 8}, "mean epsilon=8/255"),
        ({"step_size": 0}, "`step_size` needs"),
        ({"num_steps": 0}, "`num_steps` needs"),
    ],
)
def test_bad_arguments_are_refused_in_words(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        measure(model, **arguments)
