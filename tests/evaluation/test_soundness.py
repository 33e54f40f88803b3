"""Soundness: four planted frauds are flagged, honest models are not."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd.evaluation import searching
from keras_neokd.evaluation import soundness
from tests.training import tiny

NUM_CLASSES = 4
SHAPE = (3, 3, 1)


def prototypes():
    return np.random.default_rng(1).uniform(0.2, 0.8, (NUM_CLASSES, 9))


def data(count=24):
    """Images near the prototype of their class."""
    labels = np.arange(count) % NUM_CLASSES
    noise = np.random.default_rng(2).uniform(-0.02, 0.02, (count, 9))
    images = (prototypes()[labels] + noise).reshape(count, *SHAPE)
    return images.astype("float32"), labels


def nearest_prototype(scale=20.0, before=None, after=None):
    """A model whose two exits answer with the prototype that is nearest.

    Args:
        scale: factor of the logits.
        before: layer between the image and the exits, or `None`.
        after: layer between an exit and its output, or `None`.
    """
    inputs = keras.Input(SHAPE)
    x = keras.layers.Flatten()(inputs if before is None else before(inputs))
    heads = [keras.layers.Dense(NUM_CLASSES) for _ in range(2)]
    outputs = [head(x) for head in heads]
    if after is not None:
        outputs = [after(each) for each in outputs]
    model = MultiExitModel(inputs, outputs)
    # -|x - p|^2, less |x|^2, which all classes share.
    centres = prototypes()
    for head in heads:
        head.set_weights(
            [2 * scale * centres.T, -scale * (centres**2).sum(axis=1)]
        )
    return model


def codes(model):
    findings = soundness.check_model(model, *data())
    for finding in findings:
        assert finding.message
    return [finding.code for finding in findings]


def test_an_honest_model_gives_no_finding():
    assert codes(nearest_prototype()) == []


def test_an_adversarially_trained_model_gives_no_finding():
    inputs = keras.Input(SHAPE)
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(16, "relu")(x)
    early = keras.layers.Dense(NUM_CLASSES)(x)
    x = keras.layers.Dense(16, "relu")(x)
    late = keras.layers.Dense(NUM_CLASSES)(x)
    model = tiny.randomized(MultiExitModel(inputs, [early, late]))
    model.compile(
        keras.optimizers.Adam(0.05),
        method="adversarial_training",
        attack=attacks.PGD(0.02, 0.02, 1),
    )
    logs = model.fit(*data(), 24, epochs=12, verbose=0).history
    assert logs["adversarial_accuracy"][-1] > 0.9
    assert codes(model) == []


class HiddenSoftmax(keras.layers.Layer):
    """A softmax that no activation and no layer's type gives away."""

    def call(self, logits):
        powers = ops.exp(logits - ops.max(logits, axis=-1, keepdims=True))
        return powers / ops.sum(powers, axis=-1, keepdims=True)


class Rounding(keras.layers.Layer):
    """Leaves 16 levels of grey."""

    def call(self, images):
        return ops.round(15 * images) / 15


class Blind(keras.layers.Layer):
    """Answers for class 0 whatever it is asked."""

    def call(self, logits):
        return 1e-9 * logits + ops.one_hot(0, NUM_CLASSES)


def test_softmax_heads():
    model = nearest_prototype(after=HiddenSoftmax())
    assert codes(model) == ["softmax_outputs"]


def test_logits_so_large_that_the_softmax_is_saturated():
    model = nearest_prototype(scale=1e5)
    # The margin has a gradient all the same, so the model is not robust.
    (finding,) = soundness.check_model(model, *data())
    assert finding.code == "zero_gradient"
    assert "'exit_1'" in finding.message
    assert "100 % of the images" in finding.message


def test_noise_at_inference():
    assert "randomised_model" in codes(
        nearest_prototype(before=tiny.NoiseLayer(0.02))
    )


def test_rounding_that_hides_the_gradient():
    found = codes(nearest_prototype(before=Rounding()))
    # TensorFlow knows no gradient of rounding; for the others it is 0.
    if keras.config.backend() == "tensorflow":
        assert found == ["no_gradient"]
    else:
        assert found[0] == "zero_gradient"


def test_an_exit_that_nothing_can_fool():
    model = nearest_prototype(after=Blind())
    images, labels = data()
    found = soundness.check_model(model, images, 0 * labels)
    assert "resists_any_change" in [finding.code for finding in found]


def test_the_first_images_are_looked_at():
    images, labels = data()
    images[6:] = np.nan
    assert soundness.check_model(nearest_prototype(), images, labels, 6) == []
    with pytest.raises(ValueError, match="finite pixels"):
        soundness.check_model(nearest_prototype(), images, labels, 7)


def test_a_tenth_without_a_gradient_is_tolerated():
    # Saturated, but a wrong answer pulls: all but a few labels are wrong.
    model = nearest_prototype(scale=1e5)
    images, labels = data()
    for right, expected in ((2, []), (3, ["zero_gradient"])):
        given = (labels + (np.arange(24) >= right)) % NUM_CLASSES
        found = soundness.check_model(model, images, given)
        assert [finding.code for finding in found] == expected


def result(fooled_by, names):
    return searching.SearchResult(
        np.zeros((len(fooled_by), 1, 1, 1)), np.array(fooled_by), names
    )


def test_square_that_beats_gradients():
    names = ("APGD", "TargetedFAB", "Square")
    fooled_by = [0] * 150 + [-1] * 46 + [2] * 4
    (finding,) = soundness.check_search(result(fooled_by, names))
    assert finding.code == "square_beats_gradients"
    assert "2.0 % of the images" in finding.message


def test_only_a_square_after_gradients_counts():
    names = ("Square", "APGD", "Square")
    (finding,) = soundness.check_search(result([0] * 5 + [2] * 5, names))
    assert "50.0 % of the images" in finding.message


@pytest.mark.parametrize(
    ("fooled_by", "names"),
    [
        # 1 of 200 may be chance.
        ([0] * 199 + [2], ("APGD", "TargetedFAB", "Square")),
        # Nothing went before, or nothing but Square did.
        ([0] * 10, ("Square",)),
        ([0] * 10, ("Square", "APGD")),
        ([1] * 10, ("Square", "Square")),
        ([1] * 10, ("UniformNoise", "Square")),
        ([0, 1, -1, -2], ("APGD", "TargetedAPGD")),
    ],
)
def test_square_that_does_not(fooled_by, names):
    assert soundness.check_search(result(fooled_by, names)) == []


def test_a_curve_that_falls_gives_no_finding():
    falling = [0.9, 0.5, 0.5, 0.503, 0.0]
    assert soundness.check_curve("epsilon", [0, 1, 2, 3, 4], falling) == []
    assert soundness.check_curve("epsilon", [0.1], [0.9]) == []


@pytest.mark.parametrize("name", ["epsilon", "num_steps"])
def test_every_rise_of_a_curve_is_told(name):
    findings = soundness.check_curve(name, [1, 2, 4, 8], [0.5, 0.52, 0.2, 0.4])
    assert [finding.code for finding in findings] == [f"rises_with_{name}"] * 2
    assert f"from 50.0 % at {name} 1 to 52.0 % at 2" in findings[0].message
    assert f"from 20.0 % at {name} 4 to 40.0 % at 8" in findings[1].message


def test_a_curve_needs_as_many_accuracies_as_values():
    with pytest.raises(ValueError, match="zip"):
        soundness.check_curve("epsilon", [0.1, 0.2], [0.5])


@pytest.mark.parametrize(
    ("attack", "num_classes", "told"),
    [
        (attacks.TargetedAPGD(0.1, num_targets=9), 10, False),
        (attacks.TargetedAPGD(0.1, num_targets=9), 9, True),
        (attacks.TargetedAPGD(0.1, num_targets=None), 4, False),
        (attacks.AutoAttack(0.1, num_targets=9), 10, False),
        (attacks.AutoAttack(0.1, num_targets=9), 5, True),
        (attacks.APGD(0.1), 2, False),
        (attacks.PGD(0.1, 0.1, 1), 2, False),
    ],
)
def test_more_target_classes_than_there_are(attack, num_classes, told):
    findings = soundness.check_attack(attack, num_classes)
    assert [finding.code for finding in findings] == ["fewer_targets"] * told
    for finding in findings:
        assert f"only {num_classes - 1} wrong ones" in finding.message
