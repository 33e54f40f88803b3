"""Carlini and Wagner's attack against plain NumPy."""

import numpy as np
import pytest
from keras import ops

from keras_neokd import attacks
from tests import arrays
from tests.attacks import running
from tests.reference import searches


def reference_attempt(attack):
    def attempt(example, number):
        return searches.cw(
            example,
            attack.c,
            attack.kappa,
            attack.num_steps,
            attack.learning_rate,
            attack.epsilon,
        )

    return attempt


@pytest.mark.parametrize(
    ("attack", "success"),
    [
        (attacks.CW(num_steps=30, learning_rate=0.02), "all"),
        (attacks.CW(2.0, 0.5, 30, 0.02, epsilon=0.6), "all"),
        (attacks.CW(0.5, num_steps=25, learning_rate=0.05), "any"),
    ],
    ids=repr,
)
def test_adam_equals_plain_numpy(attack, success):
    attack = attack.with_objective(attacks.AverageExits(success=success))
    winners = running.assert_found(
        attack,
        reference_attempt(attack),
        running.batch(),
        atol=1e-4,
        success=success,
    )
    assert 0 in winners
    # The ball excludes some of what is found without it.
    assert attack.epsilon is None or None in winners


def test_an_image_whose_own_cost_rises_is_left_alone():
    # Large steps overshoot: costs rise, for one image sooner than another.
    model, images, labels = running.batch()
    attack = attacks.CW(num_steps=40, learning_rate=0.3)
    attempt = reference_attempt(attack)
    results = [
        attempt(each, 0) for each in running.examples(model, images, labels)
    ]
    assert len({each["steps"] for each in results}) > 1
    assert min(each["steps"] for each in results) < 40
    state = running.final_state(attack, model, images, labels)
    stopped = [each["steps"] < 40 for each in results]
    arrays.equal(~state["active"], stopped)
    found = [each["found"] is not None for each in results]
    arrays.equal(state["fooled"], found)
    for image, result in zip(state["adversarial"], results, strict=True):
        if result["found"] is not None:
            arrays.close(image, result["found"], atol=1e-3)


def attacked_pixel(attack):
    """Attack one pixel of 0.5; above 0.6 the second class wins."""

    def function(images, exits):
        pixel = ops.reshape(images, (-1, 1))
        return [ops.concatenate([0.0 * pixel + 0.6, pixel], axis=1)]

    function.num_exits = 1
    image = np.full((1, 1, 1, 1), 0.5, "float32")
    return running.attacker(attack, function)(image, [0]).item()


def test_the_smallest_change_that_fools_is_kept():
    # The cost pushes the pixel beyond 0.6, the distance pulls it back.
    attack = attacks.CW(c=2.0, num_steps=200, learning_rate=0.003)
    assert 0.6 < attacked_pixel(attack) < 0.605


@pytest.mark.parametrize(("epsilon", "expected"), [(0.05, 0.5), (0.2, 0.6)])
def test_changes_longer_than_epsilon_do_not_count(epsilon, expected):
    attack = attacks.CW(2.0, 0, 40, 0.02, epsilon=epsilon)
    assert attacked_pixel(attack) == pytest.approx(expected, abs=0.01)


def test_black_and_white_pixels_can_move():
    # Their inverse tanh is infinite, and so it would stay.
    model, images, _ = running.batch()
    images = np.round(images)
    labels = running.predicted(model, images)
    attack = attacks.CW(20.0, num_steps=60, learning_rate=0.3)
    received = running.attacker(attack, model)(images, labels)
    assert np.isfinite(received).all()
    assert received.min() >= 0 and received.max() <= 1
    assert abs(received - images).max() > 0.05


def test_defaults_are_those_of_torchattacks():
    assert attacks.CW().arguments() | {"objective": None} == {
        "c": 1.0,
        "kappa": 0.0,
        "num_steps": 50,
        "learning_rate": 0.01,
        "epsilon": None,
        "objective": None,
    }
    assert attacks.CW().norm == "l2"
