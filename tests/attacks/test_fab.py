"""FAB against plain NumPy and against SciPy's optimisers."""

import numpy as np
import pytest
from scipy import optimize

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.attacks import fab
from tests import arrays
from tests.attacks import running
from tests.marks import slow
from tests.reference import searches

NORMS = ("linf", "l2")
EPSILON = {"linf": 0.15, "l2": 0.5}


def moved(points, normal, level, norm):
    """`fab.move_to_plane` of NumPy arrays, compiled."""
    move = backend.compile_function(
        lambda *planes: fab.move_to_plane(*planes, norm), []
    )
    planes = map(arrays.tensor, (points, normal, level))
    return arrays.array(move(*planes)).astype("float64")


def random_planes(count=12, pixels=10, seed=0):
    """Points, normals and levels that some move inside [0, 1] reaches."""
    rng = np.random.default_rng(seed)
    points = rng.uniform(size=(count, pixels))
    points[0] = np.round(points[0])
    normal = rng.normal(size=(count, pixels)) * (
        10.0 ** rng.uniform(-3, 2, size=(count, 1))
    )
    normal[1, :5] = 0
    targets = rng.uniform(size=(count, pixels))
    return points, normal, np.sum(normal * targets, axis=1)


def shortest_in_linf(point, normal, level):
    """Length of the shortest move, by linear programming."""
    pixels = len(point)
    # Variables: the move, and its length.
    bounds = [(-x, 1 - x) for x in point] + [(0, None)]
    below = np.block(
        [
            [np.eye(pixels), -np.ones((pixels, 1))],
            [-np.eye(pixels), -np.ones((pixels, 1))],
        ]
    )
    solved = optimize.linprog(
        np.eye(pixels + 1)[-1],
        below,
        np.zeros(2 * pixels),
        np.append(normal, 0)[None],
        [level - normal @ point],
        bounds,
    )
    return solved.fun


def shortest_in_l2(point, normal, level):
    """Length of the shortest move, by quadratic programming."""
    scale = np.linalg.norm(normal)
    solved = optimize.minimize(
        lambda move: move @ move,
        np.zeros_like(point),
        jac=lambda move: 2 * move,
        method="SLSQP",
        bounds=[(-x, 1 - x) for x in point],
        constraints={
            "type": "eq",
            "fun": lambda move: (normal @ (point + move) - level) / scale,
            "jac": lambda move: normal / scale,
        },
        options={"ftol": 1e-12, "maxiter": 500},
    )
    return np.sqrt(solved.fun)


@pytest.mark.parametrize("norm", NORMS)
def test_move_reaches_the_plane_inside_the_pixel_range(norm):
    points, normal, level = random_planes(60)
    after = points + moved(points, normal, level, norm)
    distance = (np.sum(normal * after, axis=1) - level) / np.linalg.norm(
        normal, axis=1
    )
    arrays.close(distance, 0, atol=1e-5)
    assert after.min() > -1e-6 and after.max() < 1 + 1e-6


@pytest.mark.parametrize("norm", NORMS)
def test_no_move_is_shorter_by_linear_and_quadratic_programming(norm):
    points, normal, level = random_planes()
    shortest = {"linf": shortest_in_linf, "l2": shortest_in_l2}[norm]
    expected = [
        shortest(*each) for each in zip(points, normal, level, strict=True)
    ]
    moves = moved(points, normal, level, norm)
    order = {"linf": np.inf, "l2": 2}[norm]
    arrays.close(
        np.linalg.norm(moves, order, axis=1), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("norm", NORMS)
def test_move_equals_the_one_found_by_sorting(norm):
    points, normal, level = random_planes(60, pixels=40, seed=1)
    expected = [
        searches.move_to_plane(*each, norm)
        for each in zip(points, normal, level, strict=True)
    ]
    arrays.close(moved(points, normal, level, norm), expected, atol=1e-5)


def test_moves_by_hand():
    # From (0.5, 0.9) to x + 2 y = 2.3 + missing: y can only go to 1.
    points, normal = [[0.5, 0.9]] * 3, [[1.0, 2.0]] * 3
    levels = [2.45, 2.8, 1.7]
    for norm, expected in (
        ("linf", [[0.05, 0.05], [0.3, 0.1], [-0.2, -0.2]]),
        ("l2", [[0.03, 0.06], [0.3, 0.1], [-0.12, -0.24]]),
    ):
        arrays.close(moved(points, normal, levels, norm), expected, atol=1e-6)


@pytest.mark.parametrize("norm", NORMS)
def test_a_plane_out_of_reach_is_approached_as_far_as_possible(norm):
    points = [[0.25, 0.5, 0.75], [0.25, 0.5, 0.75], [0.25, 0.5, 0.75]]
    normal = [[1.0, -2.0, 0.0], [1.0, -2.0, 0.0], [0.0, 0.0, 0.0]]
    moves = moved(points, normal, [5.0, -5.0, 1.0], norm)
    # What has no weight stays, and so does everything without a plane.
    arrays.close(
        moves, [[0.75, -0.5, 0], [-0.25, 0.5, 0], [0, 0, 0]], atol=1e-6
    )


@pytest.mark.parametrize("norm", NORMS)
def test_a_point_on_the_plane_stays(norm):
    arrays.equal(moved([[0.5, 0.25]], [[1.0, 2.0]], [1.0], norm), [[0, 0]])


@pytest.mark.parametrize("norm", NORMS)
def test_pixels_that_stop_one_after_the_other_need_many_newton_steps(norm):
    # Each pixel has half the room and twice the weight of the one before,
    # so that every step of Newton's method ends just after the next stop.
    count = 24
    room = 0.5 ** np.arange(count)
    weight = 2.0 ** np.arange(count)
    if norm == "l2":
        weight = weight**0.5
    points, normal = room, weight
    for share in (0.3, 0.9, 0.99):
        level = weight @ (points - share * room)
        expected = searches.move_to_plane(points, normal, level, norm)
        received = moved(points[None], normal[None], [level], norm)[0]
        arrays.close(received, expected, rtol=1e-3, atol=1e-5)


def fab_of(norm, kind=attacks.FAB, **arguments):
    defaults = {"epsilon": EPSILON[norm], "num_steps": 15, "norm": norm}
    return kind(**{**defaults, **arguments})


def batch():
    # The boundary of the mean logits has to be near those of both exits.
    return running.batch(alike=10)


def attempt_of(attack, num_targets=0):
    """The reference's attempt, towards targets in turn if there are any."""

    def attempt(example, number=0):
        if num_targets:
            rank = number % num_targets
            example.target = example.likely_classes()[rank]
        return searches.fab(
            example,
            attack.epsilon,
            attack.num_steps,
            attack.norm,
            number,
            is_first=number < max(num_targets, 1),
        )

    return attempt


def assert_ends(attack, given, attempt=0, num_targets=0, seed=0):
    run = attempt_of(attack, num_targets)
    running.assert_ends(
        attack,
        lambda each: run(each, attempt),
        given,
        {"x": "images"},
        attempt,
        seed,
        atol=1e-4,
    )


@pytest.mark.parametrize("norm", NORMS)
def test_a_run_to_its_end_equals_plain_numpy(norm):
    model, images, labels = batch()
    # Half of them start on the wrong side.
    labels[::2] = running.LABELS[::2]
    attack = fab_of(norm, objective=running.NeverFooled())
    assert_ends(attack, (model, images, labels))


@pytest.mark.parametrize(
    ("norm", "success"),
    [("linf", "all"), ("l2", "any"), slow("linf", "any"), slow("l2", "all")],
)
def test_what_comes_back_equals_plain_numpy(norm, success):
    attack = fab_of(norm, objective=attacks.AverageExits(success=success))
    winners = running.assert_found(
        attack, attempt_of(attack), batch(), 1, 1e-4, success=success
    )
    assert set(winners) == {None, 0}


@pytest.mark.parametrize("norm", ["linf", slow("l2")])
def test_later_restarts_begin_at_random_points(norm):
    attack = fab_of(
        norm, num_steps=6, num_restarts=3, objective=running.NeverFooled()
    )
    for attempt in (0, 2):
        assert_ends(attack, batch(), attempt, seed=4)


@pytest.mark.parametrize(("norm", "num_targets"), [("linf", 9), ("l2", 3)])
def test_targets_are_the_likely_wrong_classes_in_turn(norm, num_targets):
    # Nine targets are the four wrong classes of five.
    count = min(num_targets, 4)
    attack = fab_of(norm, attacks.TargetedFAB, num_targets=num_targets)
    assert attack.num_attempts(5) == count
    # All targets begin at the image.
    attempt = attempt_of(attack, count)
    winners = running.assert_found(attack, attempt, batch(), count, 1e-4)
    assert len(set(winners) - {None}) > 1


def test_restarts_of_targets_begin_with_all_targets_at_the_image():
    attack = fab_of(
        "linf",
        attacks.TargetedFAB,
        num_steps=3,
        num_targets=2,
        num_restarts=2,
        objective=running.NeverFooled(),
    )
    for attempt in (1, 2):
        assert_ends(attack, batch(), attempt, num_targets=2)
