"""16 bits beside float32: signs of gradients, accuracy under attack."""

import keras
import numpy as np
import pytest

from keras_neokd import evaluation
from keras_neokd import models
from keras_neokd.evaluation import precision
from keras_neokd.network.frozen import FrozenForward
from tests import arrays
from tests.training import tiny

IMAGES, LABELS = tiny.data(7)


def signs(model, exit_):
    """Signs of central differences of the cross-entropy, in float64."""
    weights = [
        each.astype("float64") for each in model.exit_model(exit_).get_weights()
    ]
    shift = 1e-6 * np.eye(64)

    def losses(images, label):
        *hidden, kernel, bias = weights
        for i in range(0, len(hidden), 2):
            images = np.maximum(images @ hidden[i] + hidden[i + 1], 0)
        logits = images @ kernel + bias
        return np.log(np.exp(logits).sum(1)) - logits[:, label]

    return np.array(
        [
            np.sign(losses(flat + shift, label) - losses(flat - shift, label))
            for flat, label in zip(IMAGES.reshape(7, 64), LABELS, strict=True)
        ]
    )


@pytest.mark.parametrize("batch_size", [3, 256])
def test_equal_signs_are_counted_pixel_by_pixel(monkeypatch, batch_size):
    # Two networks whose signs differ in many pixels, and no rounding.
    one = tiny.dense_model(num_exits=2)
    other = tiny.randomized(tiny.dense_model(num_exits=2), seed=5)
    monkeypatch.setattr(precision, "in_float32", lambda _: other)
    monkeypatch.setattr(precision, "check_not_float32", lambda _: 0)
    result = evaluation.precision_agreement(
        one, IMAGES, LABELS, tiny.pgd(), batch_size=batch_size
    )
    assert result.exit_names == ("exit_1", "exit_2")
    for exit_ in range(2):
        expected = (signs(one, exit_) == signs(other, exit_)).mean(axis=1)
        arrays.close(result.sign_agreement[:, exit_], expected, atol=0.05)
    mean = result.mean_sign_agreement()
    arrays.close(mean, result.sign_agreement.mean(0), rtol=1e-6)
    assert (mean < 0.9).all()


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_16_bits_agree_with_float32_nearly_everywhere(dtype):
    model = tiny.dense_model(dtype=dtype)
    attack = tiny.pgd(num_steps=3)
    result = evaluation.precision_agreement(model, IMAGES, LABELS, attack)
    mean = result.mean_sign_agreement()
    assert (mean > 0.9).all() and (mean <= 1).all()
    for one, each in (
        (model, result.accuracy()),
        (tiny.dense_model(), result.accuracy_in_float32()),
    ):
        alone = evaluation.anytime(one, IMAGES, LABELS, attack)
        arrays.equal(each, alone.accuracy())


def test_gradients_are_those_that_attacks_see(monkeypatch):
    model = tiny.dense_model(dtype="mixed_bfloat16")
    own, merged = model.frozen_network(), FrozenForward.__call__

    def opposed(self, images, exits):
        sign = -1.0 if self._network is own else 1.0
        return tuple(sign * each for each in merged(self, images, exits))

    monkeypatch.setattr(FrozenForward, "__call__", opposed)
    result = evaluation.precision_agreement(model, IMAGES, LABELS, tiny.pgd())
    assert result.mean_sign_agreement().max() < 0.5


def models_in_16_bits():
    yield tiny.dense_model(dtype="mixed_bfloat16", norm=True)
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        yield models.SmallCNN.mnist()
    finally:
        keras.config.set_dtype_policy("float32")


def test_the_twin_has_the_weights_and_computes_in_float32():
    for model in models_in_16_bits():
        twin = precision.in_float32(model)
        assert type(twin) is type(model)
        assert {each.compute_dtype for each in twin.layers} == {"float32"}
        assert "bfloat16" in {each.compute_dtype for each in model.layers}
        tiny.assert_equal_states(model.get_weights(), twin.get_weights())
        assert twin.exit_names == model.exit_names


def test_a_model_in_float32_has_nothing_to_compare():
    with pytest.raises(ValueError, match="nothing to compare.*precision="):
        evaluation.precision_agreement(
            tiny.dense_model(), IMAGES, LABELS, tiny.pgd()
        )
