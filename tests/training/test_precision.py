"""Layers that compute in 16 bits: gradients, steps, checkpoints."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd import methods
from keras_neokd.backend import precision
from keras_neokd.training import checkpoints
from tests import arrays
from tests import saving
from tests.training import tiny

IMAGES, LABELS = tiny.data(8)


def dense_model(dtype, lead=0.0):
    """Return the same network in another precision; heads in float32.

    `lead` is what the last exit adds to the logit of class 0.
    """
    model = tiny.dense_model(dtype=dtype, norm=True)
    bias = model.exit_model(2).layers[-1].bias
    bias.assign(tiny.array(bias) + lead * np.eye(tiny.NUM_CLASSES)[0])
    return model


def half_model(x):
    """Logits of a layer in float16: the sum of squares."""
    half = ops.cast(x, "float16")
    return (ops.cast(ops.sum(half * half, axis=1, keepdims=True), "float32"),)


def test_a_gradient_that_float16_cannot_hold_comes_back_exact():
    x = ops.convert_to_tensor(np.array([[0.5, 2.0], [1.0, 0.25]], "float32"))

    def gradient_through(function):
        # The logits of an image that is classified well have such gradients.
        values, gradient = backend.value_and_input_gradient(
            lambda x: 1e-9 * ops.sum(function(x)[0], axis=1), x
        )
        return tiny.array(values), tiny.array(gradient)

    values, plain = gradient_through(half_model)
    same, exact = gradient_through(precision.rescaled(half_model, False))
    assert not plain.any()
    arrays.equal(same, values)
    arrays.close(exact, 2e-9 * tiny.array(x), rtol=1e-3)


@pytest.mark.parametrize("together", [False, True])
def test_each_image_has_its_own_scale_unless_images_see_each_other(
    together, monkeypatch
):
    # Two exits; the larger gradient of the two counts.
    of_exits = [[1.0, -0.5], [0.0, 1e-7]], [[0.5, 0.5], [-1e-7, 0.0]]
    seen = []

    def spy(function, x, factors):
        gradients = tuple(
            ops.convert_to_tensor(np.array(each, "float32"))
            for each in of_exits
        )
        seen.append(tiny.array(factors(gradients)))
        return function(x)

    monkeypatch.setattr(backend, "call_with_factors", spy)
    precision.rescaled(lambda x: (x,), together)(ops.ones((2, 3)))
    expected = [64, 64] if together else [64, 64e7]
    arrays.close(seen[0], expected, rtol=1e-5)


def gradients(model, exits, training=False, labels=LABELS):
    """Return the gradient of the cross-entropy, in one compiled function."""

    def function(images, labels):
        predict = model.exit_logits(training).frozen()
        objective = attacks.AverageExits(exits)

        def score(x):
            return objective(predict(x, exits), labels)

        return backend.value_and_input_gradient(score, images)[1]

    compiled = backend.compile_function(function, model.variables)
    gradient = compiled(*map(ops.convert_to_tensor, (IMAGES, labels)))
    assert keras.backend.standardize_dtype(gradient.dtype) == "float32"
    return tiny.array(gradient)


# A step of the format at 1. Batch norm of eight images, which divides by
# their small spread, blows the rounding of the layer below it up.
@pytest.mark.parametrize("training, steps", [(False, 1), (True, 16)])
@pytest.mark.parametrize(
    "dtype, step", [("mixed_float16", 2.0**-10), ("mixed_bfloat16", 2.0**-7)]
)
def test_gradients_of_images_are_those_of_float32(dtype, step, training, steps):
    expected = gradients(dense_model("float32"), (0, 2), training)
    found = gradients(dense_model(dtype), (0, 2), training)
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert 1e-5 < error < steps * step
    assert (np.sign(found) == np.sign(expected)).mean() > 0.95


def test_float16_keeps_the_gradients_of_images_that_are_classified_well():
    # Wrong classes of a probability of e^-25: nothing in plain float16.
    labels = np.zeros(len(IMAGES), "int32")
    expected, found = (
        gradients(dense_model(dtype, lead=25.0), (2,), labels=labels)
        for dtype in ("float32", "mixed_float16")
    )
    assert 0 < np.abs(expected).max() < 1e-8
    assert (np.sign(found) == np.sign(expected)).mean() > 0.95
    error = np.linalg.norm(found - expected) / np.linalg.norm(expected)
    assert error < 0.1


@pytest.mark.parametrize(
    "attack",
    [
        attacks.MaxAverage(tiny.pgd(num_steps=3)),
        attacks.PGD(1.0, 0.3, 3, norm="l2"),
    ],
    ids=["max_average", "l2"],
)
def test_attacks_find_in_float16_what_they_find_in_float32(attack):
    def crafted(model):
        found = attack(model.exit_logits(), IMAGES, LABELS, seed=3)
        return tiny.array(found)

    one, other = map(crafted, map(dense_model, ("float32", "mixed_float16")))
    assert np.abs(one - IMAGES).max() > 0.09
    assert (np.abs(one - other) < 0.02).mean() > 0.95


def trained(dtype, epochs=3, **arguments):
    # No batch norm: of a few images it would blow rounding up.
    model = tiny.compiled(
        tiny.dense_model(dtype=dtype),
        method="adversarial_training",
        validation_attack=tiny.pgd(),
        **arguments,
    )
    history = tiny.fit(
        model,
        IMAGES,
        LABELS,
        batch_size=3,
        epochs=epochs,
        validation_data=(IMAGES, LABELS),
    )
    return model, history


@pytest.fixture(scope="module")
def in_float16():
    return trained("mixed_float16")


def test_training_in_float16_logs_the_losses_of_float32():
    # With the initial scale of Keras the first steps overflow.
    optimizer = keras.optimizers.LossScaleOptimizer(
        tiny.sgd(), initial_scale=2.0**4
    )
    model, history = trained("mixed_float16", optimizer=optimizer)
    _, expected = trained("float32")
    assert set(history) == set(expected)
    assert history["loss"] == pytest.approx(expected["loss"], rel=0.02)
    assert history["val_loss"] == pytest.approx(expected["val_loss"], rel=0.02)
    assert history["loss"] != expected["loss"]
    assert {each.dtype for each in model.weights} == {"float32"}


def test_only_float16_scales_the_loss(in_float16):
    optimizer = in_float16[0].optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    model = tiny.compiled(dense_model("mixed_bfloat16"))
    assert not isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)


def test_a_loss_that_is_scaled_already_is_not_scaled_again():
    optimizer = tiny.sgd(loss_scale_factor=1024.0)
    model = tiny.compiled(dense_model("mixed_float16"), optimizer=optimizer)
    assert model.optimizer is optimizer
    optimizer = keras.optimizers.LossScaleOptimizer(tiny.sgd())
    model = tiny.compiled(dense_model("mixed_float16"), optimizer=optimizer)
    assert model.optimizer is optimizer


def test_a_step_that_overflows_changes_no_weight_and_is_made_again():
    model = tiny.compiled(
        dense_model("mixed_float16"),
        method="adversarial_training",
        attack=tiny.NoiseImages(),
    )
    optimizer = model.optimizer
    optimizer.dynamic_scale.assign(2.0**127)
    before = [tiny.array(each) for each in model.trainable_weights]

    def step():
        logs = model.train_on_batch(IMAGES[:1], LABELS[:1], return_dict=True)
        model.reset_metrics()
        return float(logs["exit_1_noise"]), float(logs["loss"])

    noise, loss = step()
    tiny.assert_equal_states(
        before, [tiny.array(each) for each in model.trainable_weights]
    )
    assert tiny.array(optimizer.dynamic_scale) == 2.0**126
    assert tiny.array(optimizer.iterations) == 0
    assert np.isfinite(loss)
    optimizer.dynamic_scale.assign(2.0**10)
    # The step number counts updates, so the same noise comes once more.
    assert step()[0] == noise
    assert tiny.array(optimizer.iterations) == 1
    assert step()[0] != noise
    after = [tiny.array(each) for each in model.trainable_weights]
    assert any((a != b).any() for a, b in zip(before, after, strict=True))


def test_a_checkpoint_holds_the_scale_and_goes_on(in_float16):
    model, _ = trained("mixed_float16", epochs=1)
    model.optimizer.dynamic_scale.assign(2.0**3)
    state = checkpoints.training_state(model)

    def go_on(model):
        checkpoints.restore(model, state)
        model.set_epoch(1)
        for i in (0, 4):
            model.train_on_batch(IMAGES[i : i + 4], LABELS[i : i + 4])
        return checkpoints.training_state(model)

    one, other = go_on(model), go_on(in_float16[0])
    assert 2.0**3 in [value for value in state.values() if value.shape == ()]
    for name, value in one.items():
        arrays.equal(other[name], value, err_msg=name)


def test_a_saved_model_goes_on_in_float16(in_float16, tmp_path):
    model, _ = in_float16
    loaded = saving.reloaded(model, tmp_path)
    optimizer = loaded.optimizer
    assert isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    assert type(optimizer.inner_optimizer) is type(tiny.sgd())
    for each in (model, loaded):
        each.set_epoch(0)  # Callers say where they are.
        each.train_on_batch(IMAGES[:4], LABELS[:4])
    tiny.assert_equal_states(model.get_weights(), loaded.get_weights(), 1e-6)


def test_methods_that_differentiate_input_gradients_refuse_float16():
    teacher = tiny.dense_model(num_exits=1)
    with pytest.raises(ValueError, match="KDIGA differentiates.*bfloat16"):
        tiny.compiled(
            dense_model("mixed_float16"), method=methods.KDIGA(teacher)
        )
