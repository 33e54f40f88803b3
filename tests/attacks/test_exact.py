"""Attacks on a function in lower precision choose by the exact one.

Here the two functions disagree about everything, so that a choice by the wrong
one cannot be missed.
"""

import numpy as np
from keras import ops

from keras_neokd import attacks
from keras_neokd.attacks import search
from tests.training import tiny

IMAGES = np.full((4, 2, 2, 1), 0.5, "float32")
LABELS = np.zeros(4, "int32")


def exit_logits(*weights, exact=None):
    """Return an `ExitLogits`; each exit weighs the left and right pixels.

    A third weight is the margin of grey images, 0 without one.
    `exact` is another `ExitLogits`.
    """

    def function(images, exits):
        columns = ops.mean(images, axis=(1, 3)) - 0.5
        found = []
        for index in exits:
            left, right, *bias = weights[index]
            margin = left * columns[:, 0] + right * columns[:, 1] + sum(bias)
            found.append(ops.stack([-margin, margin], axis=1))
        return tuple(found)

    given = None if exact is None else lambda: exact
    return attacks.ExitLogits(function, len(weights), given)


def attacked(attack, predict):
    """Return the images of an attack, and its info."""
    given = IMAGES, LABELS, np.arange(4, dtype="int32")
    images, info = attack.generate(predict, *map(ops.convert_to_tensor, given))
    return images, {name: tiny.array(each) for name, each in info.items()}


def left_of(images):
    return tiny.array(images)[:, :, 0].mean(axis=(1, 2))


def test_without_another_one_a_function_is_exact():
    predict = exit_logits((1, 1))
    assert predict.exact is predict
    assert predict.staggered((0,)).exact.num_exits == 1


def test_restarts_are_compared_by_the_exact_function():
    # Of long and few steps, so that starts differ to the end.
    attack = attacks.PGD(0.2, 0.01, 1, num_restarts=8)
    lower = exit_logits((9, 0))
    plain, _ = attacked(attack, lower)
    opposed, _ = attacked(
        attack, exit_logits((9, 0), exact=exit_logits((-9, 0)))
    )
    assert (left_of(plain) > left_of(opposed) + 0.05).all()
    same, _ = attacked(attack, exit_logits((9, 0), exact=lower))
    np.testing.assert_array_equal(tiny.array(same), tiny.array(plain))


def test_staggered_batches_have_an_exact_function_of_each_exit():
    exact = exit_logits((-9, 0), (0, -9))
    staggered = exit_logits((9, 0), (0, 9), exact=exact).staggered((1, 0))
    images = np.concatenate([IMAGES + 0.1, IMAGES - 0.2])
    images = ops.convert_to_tensor(images)
    (logits,) = staggered.exact(images)
    np.testing.assert_allclose(
        tiny.array(logits)[:, 1], [-0.9] * 4 + [1.8] * 4, rtol=1e-5
    )
    np.testing.assert_array_equal(
        tiny.array(staggered(images)[0]), -tiny.array(logits)
    )


def test_candidates_are_chosen_by_the_exact_function():
    pgd = attacks.PGD(0.1, 0.1, 1, random_start=False)
    # The first exit moves the left pixels, the second the right ones.
    weights = (9, 0), (0, 3)
    shares = [
        attacked(attacks.MaxAverage(pgd), predict)[1]["selected_share"]
        for predict in (
            exit_logits(*weights),
            exit_logits(*weights, exact=exit_logits((3, 0), (0, 9))),
        )
    ]
    np.testing.assert_array_equal(shares[0], [[1, 0]] * 4)
    np.testing.assert_array_equal(shares[1], [[0, 1]] * 4)


def test_the_worst_of_attacks_is_what_the_exact_function_says():
    to_left, to_right = (
        attacks.PGD(
            0.1, 0.1, 1, random_start=False, objective=attacks.SingleExit(exit)
        )
        for exit in (0, 1)
    )
    attack = attacks.WorstCase([to_left, to_right], attacks.SingleExit(2))
    images = [
        left_of(
            attacked(
                attack,
                exit_logits(
                    (9, 0),
                    (0, 9),
                    (1, -1, -0.05),
                    exact=exit_logits((9, 0), (0, 9), last),
                ),
            )[0]
        )
        for last in ((1, -1, -0.05), (-1, 1, -0.05))
    ]
    np.testing.assert_allclose(images[0], 0.6, atol=1e-6)
    np.testing.assert_allclose(images[1], 0.5, atol=1e-6)


def test_a_search_judges_every_step_by_the_exact_function():
    class Moving(search.SearchAttack):
        """Keeps what fools after one change."""

        num_steps = 1

        def __init__(self, epsilon, norm="linf", objective=None):
            super().__init__(epsilon, norm, objective)

        def start(self, problem, attempt):
            state = search.fresh_state(problem.images)
            moved = problem.images + 0.1
            fooled = problem.fooled(problem.logits(moved))
            return {**state, **search.keep_fooled(state, moved, fooled)}

        def step(self, problem):
            return lambda number, state: state

    start = IMAGES + 0.2  # Its logits tell the classes apart.

    def moved(predict):
        given = start, LABELS, np.arange(4, dtype="int32")
        images, info = Moving(0.1).generate(
            predict, *map(ops.convert_to_tensor, given)
        )
        changed = tiny.array(images) - start
        fooled = tiny.array(info["fooled"])
        return fooled.min(), fooled.max(), changed.min(), changed.max()

    wrong, right = exit_logits((9, 0)), exit_logits((-9, 0))
    right_at_first = exit_logits((9, 0, -9 * 0.25))
    for weights in ((9, 0), (-9, 0)):  # Whatever the other one says.
        found = moved(exit_logits(weights, exact=right_at_first))
        np.testing.assert_allclose(found, (1, 1, 0.1, 0.1), atol=1e-6)
        assert moved(exit_logits(weights, exact=wrong)) == (1, 1, 0, 0)
        assert moved(exit_logits(weights, exact=right)) == (0, 0, 0, 0)
