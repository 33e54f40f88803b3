"""Randomised smoothing: bounds from SciPy, radii by hand, noise in NumPy."""

import statistics
import sys

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_neokd import evaluation
from keras_neokd.evaluation import smoothing
from tests import arrays
from tests.evaluation import linear
from tests.reference import equations as reference
from tests.refusals import bad
from tests.training import tiny

NORMAL = statistics.NormalDist()
EXITS = reference.LinearExits(2, linear.SHAPE, linear.NUM_CLASSES, scale=0.3)
IMAGES, LABELS = linear.images(), linear.LABELS
SIGMA, NUM_SELECTION, NUM_ESTIMATION = 0.4, 15, 60


@pytest.fixture(scope="module")
def model():
    return linear.model_of(EXITS)


def certify(model, **arguments):
    arguments = {
        "images": IMAGES,
        "labels": LABELS,
        "sigma": SIGMA,
        "num_selection": NUM_SELECTION,
        "num_estimation": NUM_ESTIMATION,
        "seed": 3,
        **arguments,
    }
    return evaluation.certify(model, **arguments)


@pytest.fixture(scope="module")
def certified(model):
    return certify(model)


def clopper_pearson(hits, total, failure_probability):
    test = stats.binomtest(hits, total, alternative="greater")
    return test.proportion_ci(1 - failure_probability, method="exact").low


@pytest.mark.parametrize("total", [1, 60, 1000, 100_000])
@pytest.mark.parametrize("failure_probability", [0.001, 0.05, 0.5])
def test_bounds_are_those_of_scipy(total, failure_probability):
    hits = sorted({0, 1, total // 2, total - 1, total})
    bounds = smoothing.lower_bound(hits, total, failure_probability)
    expected = [clopper_pearson(k, total, failure_probability) for k in hits]
    # SciPy searches for its bound, to about 1e-12.
    arrays.close(bounds, expected, rtol=1e-9, atol=1e-11)


def test_the_bound_of_nothing_but_hits_by_hand():
    # All n draws hit with probability p**n = alpha.
    bound = smoothing.lower_bound(1000, 1000, 0.001)
    assert bound == pytest.approx(0.001 ** (1 / 1000))
    assert bound == pytest.approx(0.993116, abs=1e-6)


def constant_model():
    """Exit 1 always says class 1, exit 2 always class 0."""
    exits = linear.GivenExits(np.zeros((2, 4, 2)), [[0, 1], [1, 0]])
    return linear.model_of(exits, shape=(2, 2, 1))


def test_a_constant_exit_is_certified_out_to_the_largest_radius():
    images = np.full((2, 2, 2, 1), 0.5, "float32")
    result = evaluation.certify(
        constant_model(), images, [0, 1], sigma=0.5, num_estimation=1000
    )
    radius = 0.5 * NORMAL.inv_cdf(0.001 ** (1 / 1000))
    assert radius == pytest.approx(1.2316, abs=1e-4)
    arrays.close(result.radii, radius)
    assert result.largest_radius() == pytest.approx(radius)
    arrays.equal(result.predictions, [[1, 0], [1, 0]])
    for smaller in (0, 0.5, radius - 1e-9):
        arrays.equal(result.certified_accuracy(smaller), [0.5, 0.5])
    arrays.equal(result.certified_accuracy(1.24), [0, 0])
    arrays.equal(result.abstention_rate(), [0, 0])
    assert result.confidence == 0.999


def test_an_undecided_exit_abstains():
    # The sign of the first pixel's noise decides: half of the draws each.
    weights = np.zeros((2, 4, 2))
    weights[:, 0, 1] = 1
    exits = linear.GivenExits(weights, [[0, -0.5], [0, 5]])
    model = linear.model_of(exits, shape=(2, 2, 1))
    images = np.full((3, 2, 2, 1), 0.5, "float32")
    result = evaluation.certify(
        model, images, [1, 1, 1], 0.25, num_estimation=500
    )
    arrays.equal(result.predictions, [[-1, 1]] * 3)
    arrays.equal(result.radii[:, 0], 0)
    assert (result.lower_bounds[:, 0] < 0.5).all()
    arrays.equal(result.abstention_rate(), [1, 0])
    arrays.equal(result.certified_accuracy(), [0, 1])


def test_the_radius_of_a_linear_exit_is_below_its_true_distance():
    # For a linear classifier the smoothed class changes at its boundary.
    weights = np.array([[3.0, 4.0, 0.0, 0.0]])  # Of length 5.
    exits = linear.GivenExits(
        [np.concatenate([np.zeros((1, 4)), weights]).T] * 2, [[0, 0]] * 2
    )
    model = linear.model_of(exits, shape=(2, 2, 1))
    images = np.zeros((9, 2, 2, 1), "float32")
    images[:, 0, 0, 0] = np.linspace(0.1, 0.9, 9)
    distance = 3 * images[:, 0, 0, 0] / 5
    result = evaluation.certify(
        model, images, [1] * 9, sigma=0.25, num_estimation=5000
    )
    radii = result.radii[:, 0]
    assert (radii > 0).all()
    assert (radii < distance).all()
    arrays.close(radii, distance, atol=0.05)


def test_certified_accuracy_counts_right_answers_within_the_radius():
    result = evaluation.SmoothingResult(
        exit_names=("exit_1", "exit_2"),
        sigma=0.5,
        failure_probability=0.01,
        num_estimation=100,
        labels=np.array([0, 1, 2, 3]),
        predictions=np.array([[0, 0], [1, 1], [0, -1], [-1, 3]]),
        lower_bounds=np.array([[0.6, 0.7], [0.8, 0.9], [0.9, 0.1], [0.2, 0.5]]),
        radii=np.array([[0.1, 0.2], [0.4, 0.6], [0.6, 0.0], [0.0, 0.0]]),
    )
    for radius, expected in (
        (0, [0.5, 0.75]),
        (0.1, [0.5, 0.5]),
        (0.4, [0.25, 0.25]),
        (0.5, [0, 0.25]),
    ):
        arrays.equal(result.certified_accuracy(radius), expected)
    arrays.equal(result.abstention_rate(), [0.25, 0.25])
    assert result.confidence == 0.99
    with pytest.raises(ValueError, match="`radius` needs"):
        result.certified_accuracy(-0.1)
    with pytest.raises(TypeError, match="`radius` needs"):
        result.certified_accuracy("0.1")


def test_the_answers_are_those_of_noise_in_numpy(certified):
    result = certified
    draws = np.arange(NUM_SELECTION + NUM_ESTIMATION).astype(object)
    for index in (0, 4):
        noise = reference.example_normal(
            reference.bits(3, index, draws), linear.SHAPE
        )
        for exit_ in range(2):
            # Not clipped to [0, 1].
            answers = EXITS.logits(IMAGES[index] + SIGMA * noise, exit_).argmax(
                axis=1
            )
            selected = np.bincount(answers[:NUM_SELECTION]).argmax()
            hits = int((answers[NUM_SELECTION:] == selected).sum())
            bound = clopper_pearson(hits, NUM_ESTIMATION, 0.001)
            assert result.lower_bounds[index, exit_] == pytest.approx(bound)
            if bound < 0.5:
                assert result.predictions[index, exit_] == -1
                assert result.radii[index, exit_] == 0
            else:
                assert result.predictions[index, exit_] == selected
                assert result.radii[index, exit_] == pytest.approx(
                    SIGMA * NORMAL.inv_cdf(bound)
                )


@pytest.mark.parametrize("batch_size", [7, 75, 256])
def test_the_batch_size_changes_nothing(model, certified, batch_size):
    again = certify(model, batch_size=batch_size)
    arrays.equal(certified.lower_bounds, again.lower_bounds)
    arrays.equal(certified.predictions, again.predictions)


def test_noise_is_that_of_seed_and_position(model, certified):
    fewer = certify(model, images=IMAGES[:3], labels=LABELS[:3])
    arrays.equal(fewer.radii, certified.radii[:3])
    other = certify(model, seed=4)
    assert (other.lower_bounds != certified.lower_bounds).any()


def test_all_exits_answer_the_same_noisy_images():
    weights = np.stack([EXITS.weights[0]] * 2)
    exits = linear.GivenExits(weights, np.stack([EXITS.offsets[0]] * 2))
    result = certify(linear.model_of(exits))
    arrays.equal(result.lower_bounds[:, 0], result.lower_bounds[:, 1])


class LowestAndHighest(keras.layers.Layer):
    """Logits of three classes: pixels below 0, pixels above 1, neither."""

    def call(self, images):
        low = -ops.min(images, axis=(1, 2, 3))
        high = ops.max(images, axis=(1, 2, 3)) - 1.0
        return ops.stack([low, high, ops.zeros_like(low)], axis=1)


def test_noisy_images_are_not_clipped():
    inputs = keras.Input((8, 8, 1))
    model = tiny.MultiExitModel(
        inputs, [LowestAndHighest()(inputs), LowestAndHighest()(inputs)]
    )
    images = np.stack([np.zeros((8, 8, 1)), np.ones((8, 8, 1))])
    result = evaluation.certify(model, images, [0, 1], 0.1, num_estimation=50)
    arrays.equal(result.predictions, [[0, 0], [1, 1]])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        bad("`sigma` needs", sigma=0),
        bad("`sigma` needs", TypeError, sigma="0.1"),
        bad("`sigma` .* which is 0 in float32", sigma=1e-320),
        bad("`sigma` .* changes nothing in float32", sigma=1e-30),
        bad("`num_selection` needs", num_selection=0),
        bad("`num_estimation` needs", num_estimation=0),
        bad("`failure_probability` needs", failure_probability=0),
        bad("> 0 and < 1, received 1", failure_probability=1),
    ],
)
def test_bad_arguments_are_refused_in_words(model, arguments, error, message):
    with pytest.raises(error, match=message):
        certify(model, **arguments)


def test_without_scipy_it_says_so_at_once(model, monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy", None)
    with pytest.raises(ImportError, match="pip install scipy"):
        certify(model)
