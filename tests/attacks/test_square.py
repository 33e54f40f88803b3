"""The square attack against plain NumPy."""

import numpy as np
import pytest
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.attacks import square_changes
from keras_neokd.base import randomness
from tests import arrays
from tests.attacks import running
from tests.reference import searches

EPSILON = 0.12


def square_of(**arguments):
    return attacks.Square(**{"epsilon": EPSILON, "num_queries": 40} | arguments)


def test_squares_shrink_on_auto_attacks_schedule():
    sides = attacks.Square(0.1, num_queries=10_000).sides(32, 32)
    # The area is 0.8 of 1024 pixels, halved after these queries.
    expected = {
        0: 28.62,
        10: 28.62,
        11: 20.24,
        50: 20.24,
        51: 14.31,
        201: 10.12,
        501: 7.16,
        1001: 5.06,
        2001: 3.58,
        4001: 2.53,
        6001: 1.79,
        8000: 1.79,
        8001: 1.26,
        9999: 1.26,
    }
    assert len(sides) == 10_000
    for query, side in expected.items():
        assert sides[query] == round(side), query


def test_schedule_is_stretched_to_the_number_of_queries_only_if_asked():
    short = attacks.Square(0.1, num_queries=100)
    stretched = attacks.Square(0.1, num_queries=100, rescale_schedule=True)
    all_queries = attacks.Square(0.1, num_queries=10_000)
    arrays.equal(short.sides(32, 32), all_queries.sides(32, 32)[:100])
    arrays.equal(stretched.sides(32, 32), all_queries.sides(32, 32)[::100])


@pytest.mark.parametrize(
    ("height", "width", "area", "first", "last"),
    [
        (28, 28, 0.8, 25, 1),
        (4, 16, 1.0, 4, 1),  # No higher than the image.
        (2, 2, 0.001, 1, 1),  # At least one pixel.
    ],
)
def test_sides_fit_into_the_image(height, width, area, first, last):
    attack = attacks.Square(0.1, num_queries=10_000, area=area)
    sides = attack.sides(height, width)
    assert (sides[0], sides[-1]) == (first, last)
    assert (np.diff(sides) <= 0).all()


def test_windows_lie_in_the_image_and_have_one_sign_per_channel():
    keys = randomness.host_bits(2, np.arange(300)).view("int32")
    draw = backend.compile_function(
        lambda keys, side: changed_square(keys, side, (6, 4, 3)), []
    )
    for side in (1, 3, 4):
        windows = ops.convert_to_numpy(
            draw(ops.convert_to_tensor(keys), ops.convert_to_tensor(side))
        )
        corners = {corner_of(window, side) for window in windows}
        # As in auto-attack, the last position is never drawn.
        assert corners == {
            (row, column)
            for row in range(max(6 - side, 1))
            for column in range(max(4 - side, 1))
        }
        # Both signs are as likely: the standard error is 0.03.
        assert abs(windows.sum() / (300 * 3 * side**2)) < 0.12


def changed_square(keys, side, shape):
    """What one query adds to a grey image, in units of epsilon."""
    grey = ops.broadcast_to(0.5, (300, *shape))
    changes = square_changes.Squares(0.125, ops.reshape(side, (1,)), grey)
    drawn = changes.drawn(keys, ops.zeros((1,), "int32"))
    drawn = {name: each[0] for name, each in drawn.items()}
    return (changes.propose(grey, drawn) - grey) / 0.125


def corner_of(window, side):
    """The upper left corner of a window, after a look at what it holds."""
    rows = np.flatnonzero(window[..., 0].any(axis=1))
    columns = np.flatnonzero(window[..., 0].any(axis=0))
    inside = window[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    assert inside.shape == (side, side, 3)
    assert (inside == inside[0, 0]).all()
    assert (abs(inside) == 1).all()
    assert abs(window).sum() == inside.size
    return rows[0], columns[0]


# Windows in L2 are three pixels wide at least, and should have room to move.
SHAPES = {"linf": running.SHAPE, "l2": (6, 7, 2)}


def attempt_of(attack):
    run = {"linf": searches.square, "l2": searches.square_l2}[attack.norm]
    sides = attack.sides(*SHAPES[attack.norm][:2])
    return lambda each, number=0: run(each, attack.epsilon, sides, number)


@pytest.mark.parametrize(
    ("norm", "loss"),
    [("linf", "margin"), ("linf", "cross_entropy"), ("l2", "margin")],
)
def test_a_run_to_its_end_equals_plain_numpy(norm, loss):
    objective = running.NeverFooled(loss=loss)
    attack = square_of(num_queries=120, norm=norm, objective=objective)
    running.assert_ends(
        attack,
        attempt_of(attack),
        running.batch(SHAPES[norm]),
        {"best": "best", "x": "images"},
        seed=5,
        loss=loss,
    )


@pytest.mark.parametrize(
    ("norm", "epsilon", "success"),
    [("linf", EPSILON, "all"), ("linf", EPSILON, "any"), ("l2", 0.5, "all")],
)
def test_what_comes_back_equals_plain_numpy(norm, epsilon, success):
    batch = running.batch(SHAPES[norm])
    how = {"loss": "margin", "success": success}
    objective = attacks.AverageExits(**how)
    attack = square_of(
        epsilon=epsilon, norm=norm, num_restarts=2, objective=objective
    )
    winners = running.assert_found(attack, attempt_of(attack), batch, 2, **how)
    assert 0 < winners.count(None) < len(batch[1])


def test_in_l2_the_windows_have_a_centre():
    sides = square_of(num_queries=10_000, norm="l2").sides(32, 32)
    # As in L-infinity, but odd and at least 3.
    for query, side in {
        0: 29,
        11: 21,
        51: 15,
        501: 7,
        2001: 5,
        9999: 3,
    }.items():
        assert sides[query] == side, query
    assert set(square_of(norm="l2").sides(4, 4)) == {3, 4}
    assert set(square_of(norm="l2").sides(2, 2)) == {2}


def test_bumps_of_the_paper():
    arrays.close(
        square_changes.bumps(3) * np.sqrt(2),
        np.array([[0.25, 1.25, 0.25], [-0.25] * 3, [-0.25, -1.25, -0.25]])
        / np.sqrt([[1.6875], [1.875], [1.875]]),
        atol=1e-6,
    )
    for side in (1, 2, 5, 6):
        arrays.close(square_changes.bumps(side), searches.bumps(side))


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 48, 3), (9, 7, 2)])
def test_first_bumps_cover_images_of_any_size(shape):
    clean = ops.broadcast_to(0.5, (3, *shape))
    keys = randomness.host_bits(1, np.arange(3)).view("int32")
    windows = square_changes.Windows(0.25, np.array([3]), clean)
    received = windows.first(ops.convert_to_tensor(keys))
    expected = [
        searches.scaled(
            np.full(shape, 0.5), searches.first_bumps(shape, key), 0.25
        )
        for key in keys.tolist()
    ]
    arrays.close(received, expected, atol=1e-6)


def test_no_gradient_is_needed():
    model, images, labels = running.batch()

    def rounding(images, exits):
        return model(ops.round(20.0 * images) / 20.0, exits)

    rounding.num_exits = 2
    received = running.attacker(square_of(), rounding)(images, labels)
    assert (received != images).any()


def test_the_margin_is_what_is_maximised_unless_told_otherwise():
    assert square_of().objective.loss == "margin"
    objective = attacks.SingleExit(0)
    assert square_of(objective=objective).objective is objective
