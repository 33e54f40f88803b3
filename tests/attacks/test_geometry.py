"""Projection, norms, steps and random vectors."""

import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_neokd.attacks import geometry
from keras_neokd.base import randomness
from tests import arrays
from tests.reference import equations as reference

SHAPE = (3, 2, 2)


def project(points, clean, epsilon, norm):
    points, clean = arrays.tensor(points), arrays.tensor(clean)
    return geometry.project(points, clean, epsilon, norm)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize("epsilon", [0.0, 0.05, 0.3, 1.0])
def test_projection_equals_the_reference(norm, epsilon):
    rng = np.random.default_rng(2)
    clean = rng.uniform(size=(8, *SHAPE)).astype("float32")
    # Also values next to the image, on which projection must do nothing.
    points = clean + rng.normal(scale=0.5, size=clean.shape)
    points[::2] = clean[::2] + 0.01
    points = points.astype("float32")
    projected = project(points, clean, epsilon, norm)
    expected = reference.project(points, clean, epsilon, norm)
    arrays.close(projected, expected, atol=1e-6)
    if epsilon == 0:
        arrays.equal(projected, clean)


@pytest.mark.parametrize(
    ("epsilon", "norm", "expected"),
    [
        # The change is (0.3, 0.4) for both: length 0.5.
        (0.1, "linf", [[0.6, 0.6], [1.0, 0.6]]),
        (0.25, "l2", [[0.65, 0.7], [1.0, 0.7]]),
        (0.6, "l2", [[0.8, 0.9], [1.0, 0.9]]),
    ],
)
def test_projection_by_hand(epsilon, norm, expected):
    clean, points = [[0.5, 0.5], [0.9, 0.5]], [[0.8, 0.9], [1.2, 0.9]]
    arrays.close(project(points, clean, epsilon, norm), expected, atol=1e-6)


def test_without_a_ball_only_the_pixel_range_counts():
    projected = project([[-0.5, 0.3, 1.5]], [[0, 0, 0]], None, "l2")
    arrays.close(projected, [[0, 0.3, 1]], atol=1e-7)


def test_norms_of_each_example_by_hand():
    x = arrays.tensor([[[3.0], [-4.0]], [[0.0], [0.0]]])
    for norm, expected in (
        ("l2", [[[5.0]], [[0.0]]]),
        ("linf", [[[4.0]], [[0.0]]]),
    ):
        received = geometry.example_norm(x, norm)
        arrays.close(received, expected)
    arrays.equal(geometry.example_norm(x), geometry.example_norm(x, "l2"))


@pytest.mark.parametrize("scale", [1e30, 1.0, 1e-15, 1e-30])
def test_steepest_step_has_length_one_whatever_the_gradient(scale):
    gradient = arrays.tensor([[[3.0 * scale], [-4.0 * scale]], [[0.0], [0.0]]])
    for norm, expected in (
        ("linf", [[[1], [-1]], [[0], [0]]]),
        ("l2", [[[0.6], [-0.8]], [[0], [0]]]),
    ):
        step = geometry.steepest_step(gradient, norm)
        arrays.close(step, expected, rtol=1e-5)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_no_step_of_length_one_goes_further_up(norm):
    rng = np.random.default_rng(4)
    gradient = rng.normal(size=(1, 6))
    others = rng.normal(size=(500, 6))
    order = {"linf": np.inf, "l2": 2}[norm]
    others /= np.linalg.norm(others, order, axis=1, keepdims=True)
    step = ops.convert_to_numpy(
        geometry.steepest_step(arrays.tensor(gradient), norm)
    )
    assert np.linalg.norm(step[0], order) == pytest.approx(1, rel=1e-6)
    assert ((step - others) @ gradient[0] > 0).all()


def directions(norm, count=400):
    keys = ops.convert_to_tensor(
        randomness.host_bits(3, np.arange(count)).view("int32")
    )
    drawn = geometry.random_direction(keys, SHAPE, norm)
    return ops.convert_to_numpy(drawn)


def test_random_directions_equal_the_reference():
    keys = reference.bits(3, np.arange(400))
    uniform = 2 * reference.example_uniform(keys, SHAPE) - 1
    largest = abs(uniform).max(axis=(1, 2, 3), keepdims=True)
    normal = reference.example_normal(keys, SHAPE)
    arrays.close(directions("linf"), uniform / largest, atol=1e-5)
    arrays.close(
        directions("l2"), normal / reference.lengths(normal), atol=1e-5
    )


def test_random_directions_have_length_one_and_no_preference():
    for norm in ("linf", "l2"):
        drawn = directions(norm).reshape(400, -1)
        order = {"linf": np.inf, "l2": 2}[norm]
        lengths = np.linalg.norm(drawn, order, axis=1)
        arrays.close(lengths, 1, rtol=1e-5)
        # Standard errors are below 0.03.
        assert abs(drawn.mean(axis=0)).max() < 0.12
        signs = (drawn > 0).sum()
        assert stats.binomtest(int(signs), drawn.size).pvalue > 1e-3


def test_values_of_examples_broadcast_and_select():
    images = arrays.tensor(np.arange(8).reshape((2, 2, 2, 1)))
    values = geometry.per_example(arrays.tensor([10.0, 100.0]), images)
    arrays.equal(ops.convert_to_numpy(images * values)[:, 1, 1, 0], [30, 700])
    chosen = geometry.select(arrays.tensor([True, False]), images, -images)
    arrays.equal(ops.convert_to_numpy(chosen)[:, 1, 1, 0], [3, -7])
