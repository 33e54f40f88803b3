"""Gradients of several batches added up: `gradient_accumulation_steps`."""

import keras
import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd.training import checkpoints
from tests import arrays
from tests.marks import slow
from tests.training import tiny

IMAGES, LABELS = tiny.data(16)


class MovedImages(attacks.Attack):
    """Moves every image by what only the image says."""

    def perturb(self, predict, images, labels, keys):
        return images + 0.05 * keras.ops.sign(images - 0.5), {}


def optimizers(steps):
    return {
        "torch_sgd": tiny.sgd(gradient_accumulation_steps=steps),
        # Keras' own decay, which is not part of the gradient.
        "adamw": keras.optimizers.AdamW(
            0.01, weight_decay=0.1, gradient_accumulation_steps=steps
        ),
    }


def compiled(steps, name="torch_sgd", **arguments):
    return tiny.compiled(
        tiny.dense_model(),
        **{
            "optimizer": optimizers(steps)[name],
            "method": "adversarial_training",
            "attack": MovedImages(0.1),
            **arguments,
        },
    )


def fit(model, batch_size, epochs=2, **arguments):
    return tiny.fit(
        model, IMAGES, LABELS, batch_size=batch_size, epochs=epochs, **arguments
    )


@pytest.mark.parametrize("name", ["torch_sgd", slow("adamw")])
def test_four_batches_of_two_move_weights_as_one_of_eight(name):
    whole, parts = compiled(None, name), compiled(4, name)
    expected, found = fit(whole, 8), fit(parts, 2)
    start = tiny.dense_model().get_weights()
    tiny.assert_equal_states(
        whole.get_weights(), parts.get_weights(), tolerance=1e-5
    )
    moved = [
        np.abs(a - b).max()
        for a, b in zip(whole.get_weights(), start, strict=True)
    ]
    assert min(moved) > 0.01
    tiny.assert_equal_logs(found, expected, tolerance=1e-5)
    assert int(tiny.array(parts.optimizer.iterations)) == 4


def test_weights_stand_still_until_enough_batches_were_seen():
    model = compiled(3)
    before = model.get_weights()
    for batch in range(3):
        tiny.assert_equal_states(before, model.get_weights())
        part = slice(2 * batch, 2 * batch + 2)
        model.train_on_batch(IMAGES[part], LABELS[part])
    assert any(
        (a != b).any() for a, b in zip(before, model.get_weights(), strict=True)
    )


def test_a_checkpoint_in_the_middle_of_an_accumulation_goes_on():
    batches = [(IMAGES[i : i + 2], LABELS[i : i + 2]) for i in range(0, 16, 2)]
    arguments = {"method": tiny.neo_kd(), "attack": tiny.pgd()}
    model = compiled(3, **arguments)
    for batch in batches[:4]:
        model.train_on_batch(*batch)
    state = checkpoints.training_state(model)
    other = compiled(3, **arguments)
    checkpoints.restore(other, state)
    for each in (model, other):
        for batch in batches[4:]:
            each.train_on_batch(*batch)
    expected = checkpoints.training_state(model)
    for name, value in checkpoints.training_state(other).items():
        arrays.equal(value, expected[name], err_msg=name)
    start = tiny.dense_model().get_weights()
    assert any(
        (a != b).any() for a, b in zip(start, model.get_weights(), strict=True)
    )


def test_gradients_add_up_under_loss_scaling_too():
    def model(steps):
        optimizer = keras.optimizers.LossScaleOptimizer(
            optimizers(steps)["torch_sgd"], initial_scale=2.0**4
        )
        return compiled(None, optimizer=optimizer)

    whole, parts = model(None), model(2)
    fit(whole, 8, epochs=1), fit(parts, 4, epochs=1)
    tiny.assert_equal_states(
        whole.get_weights(), parts.get_weights(), tolerance=1e-5
    )
