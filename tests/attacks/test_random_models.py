"""Attacks on models that are random at inference: gradients of many draws."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd import evaluation
from tests import arrays
from tests.training import tiny

SHAPE = (2, 2, 1)
IMAGES = np.full((3, *SHAPE), 0.5, "float32")
LABELS = np.zeros(3, "int32")


@pytest.fixture(scope="module")
def model():
    inputs = keras.Input(SHAPE)
    flat = keras.layers.Flatten()(tiny.NoiseLayer(0.1)(inputs))
    head = keras.layers.Dense(3)
    model = MultiExitModel(inputs, [head(flat)])
    head.set_weights([np.eye(4)[:, :3] - 0.5 * np.eye(4)[:, 1:], np.zeros(3)])
    return model


def draws(model, numbers):
    """Logits of the same images, one array per number of a draw."""
    predict = model.exit_logits()

    def of_draw(noise):
        images = ops.convert_to_tensor(IMAGES)
        return predict(images, noise=noise)[0]

    compiled = backend.compile_function(of_draw, model.variables)
    return [
        ops.convert_to_numpy(compiled(np.array(each, "int32")))
        for each in numbers
    ]


def test_a_numbered_draw_is_always_the_same_and_unlike_others(model):
    before = [np.array(each) for each in model.get_weights()]
    first, again, second = draws(model, (1, 1, 2))
    arrays.equal(first, again)
    assert np.abs(first - second).max() > 1e-3
    tiny.assert_equal_states(before, model.get_weights())


def recorded(num_draws):
    """Return the draws that APGD asks for, start and two steps."""
    asked = []

    def function(images, exits, noise=None):
        del exits
        asked.append(None if noise is None else int(noise))
        flat = ops.reshape(images, (-1, 4))
        return [flat[:, :3] * (1.0 if noise is None else float(noise))]

    predict = attacks.ExitLogits(function, 1)
    attack = attacks.APGD(
        0.1,
        num_steps=2,
        objective=attacks.SingleExit(0, loss="margin"),
        num_draws=num_draws,
    )
    attack(predict, IMAGES, LABELS)
    return asked


@pytest.mark.skipif(
    keras.config.backend() != "torch", reason="sees numbers only in eager mode"
)
def test_every_point_has_draws_of_its_own():
    asked = [each for each in recorded(3) if each is not None]
    assert asked == [0, 1, 2, 3, 4, 5, 6, 7, 8]
    assert set(recorded(1)) == {None}


def test_rand_attacks_with_twenty_draws(model):
    attack = attacks.AutoAttack(0.3, version="rand", num_steps=5)
    assert [type(each).__name__ for each in attack.members] == ["APGD"] * 2
    assert [each.num_draws for each in attack.members] == [20, 20]
    assert [each.objective.loss for each in attack.members] == [
        "cross_entropy",
        "dlr",
    ]
    result = evaluation.search(model, IMAGES, LABELS, attack)
    assert np.abs(result.adversarial - IMAGES).max() <= 0.3 + 1e-6
    assert result.robust_accuracy() == 0
