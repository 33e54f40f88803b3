"""The calls of a model, where its configuration would tell them wrongly."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd import evaluation
from keras_neokd.network.graph import Graph
from keras_neokd.serving.predictor import EarlyExitPredictor
from tests import arrays
from tests.network import models
from tests.training import tiny

layers = keras.layers

IMAGES, LABELS = tiny.data(4, num_classes=4)


def sub_model(shape=(8, 8, 4)):
    source = keras.Input(shape)
    x = layers.GlobalAveragePooling2D()(source)
    return keras.Model(source, layers.Dense(4)(x), name="head")


def two_convolutions():
    inputs = keras.Input((8, 8, 1))
    first = layers.Conv2D(4, 3, padding="same")(inputs)
    return inputs, first, layers.Conv2D(4, 3, padding="same")(first)


def head_of_two():
    """Return a model with one sub-model as the head of two exits."""
    head, (inputs, first, second) = sub_model(), two_convolutions()
    outputs = {"exit_1": head(first), "exit_2": head(second)}
    return tiny.randomized(MultiExitModel(inputs, outputs))


def head_of_one():
    """Return a model with a sub-model as the head of one exit."""
    inputs, first, second = two_convolutions()
    outputs = [sub_model()(first), layers.Dense(4)(layers.Flatten()(second))]
    return tiny.randomized(MultiExitModel(inputs, outputs))


MODELS = pytest.mark.parametrize("build", [head_of_one, head_of_two])


def logits_of(model):
    return models.logits_of(model, IMAGES)


def assert_frozen_as_it_is(model):
    frozen = model.exit_logits().frozen()
    assert frozen is not model.exit_logits()
    for index, expected in enumerate(logits_of(model)):
        (received,) = frozen(ops.convert_to_tensor(IMAGES), (index,))
        arrays.close(received, expected, atol=1e-5)


@MODELS
def test_an_exit_with_a_sub_model_as_its_head_is_the_one_attacked(build):
    model = build()
    predict = model.exit_logits()
    attack = attacks.PGD(0.1, 0.1, 1, random_start=False)
    images, labels = map(ops.convert_to_tensor, (IMAGES, LABELS))
    for index in range(2):
        single = attack.with_objective(attacks.SingleExit(index))
        received = single.generate(predict, images, labels, np.arange(4))[0]

        def loss(x, exit_=index):
            return keras.losses.sparse_categorical_crossentropy(
                labels, model.exit_model(exit_)(x), from_logits=True
            )

        gradient = backend.value_and_input_gradient(loss, images)[1]
        expected = np.clip(IMAGES + 0.1 * np.sign(tiny.array(gradient)), 0, 1)
        arrays.close(received, expected, atol=1e-6)


@MODELS
def test_sub_models_as_heads_train_and_are_evaluated(build):
    model = tiny.compiled(build(), method="adversarial_training")
    assert np.isfinite(model.train_on_batch(IMAGES, LABELS)).all()
    decision = EarlyExitPredictor(model, (0.0,))(IMAGES)
    arrays.equal(decision.label, logits_of(model)[0].argmax(axis=1))
    latencies = evaluation.exit_latency(model, IMAGES[:1], num_calls=2)
    assert len(latencies) == 2


def test_the_arguments_of_a_call_are_those_of_the_moment():
    # Under TensorFlow, a configuration holds the number and not the variable.
    scale = keras.Variable(2.0)
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(inputs) * scale
    model = tiny.randomized(MultiExitModel(inputs, [layers.Dense(4)(x)]))
    assert_frozen_as_it_is(model)
    scale.assign(5.0)
    assert_frozen_as_it_is(model)


class Untold(layers.Layer):
    """Cannot tell its configuration."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def call(self, x):
        return self.function(x)


def untold(x):
    return Untold(lambda y: y * 2.0)(x)


def mapped(x):
    return ops.map(lambda image: image * 2.0, x)


class Inner(layers.Layer):
    """Is in training mode unless it is told."""

    def call(self, x, training=True):
        return x + 1.0 if training else x


class Outer(layers.Layer):
    """Has no argument for the mode."""

    def __init__(self):
        super().__init__()
        self.inner = Inner()

    def call(self, x):
        return self.inner(x)


class Subclassed(keras.Model):
    """Has no graph to look into."""

    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(4)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    "function",
    [untold, mapped, lambda x: Outer()(x), lambda x: Subclassed()(x)],
)
def test_layers_without_a_configuration_are_called_as_keras_does(function):
    inputs = keras.Input((8, 8, 1))
    x = function(inputs)
    first = layers.Dense(4)(layers.Flatten()(x))
    second = layers.Dense(4)(layers.Dense(4)(layers.Flatten()(x)))
    model = tiny.randomized(MultiExitModel(inputs, [first, second]))
    assert_frozen_as_it_is(model)
    decision = EarlyExitPredictor(model, (np.inf,))(IMAGES)
    arrays.equal(decision.label, logits_of(model)[1].argmax(axis=1))


def masked(x):
    x = layers.Reshape((8, 8))(x)
    return layers.Masking(0.0)(x)


def masked_by_a_nested_model(x):
    source = keras.Input((8, 8, 1))
    return keras.Sequential([keras.Model(source, masked(source))])(x)


def patches(x):
    """Return a tensor with four rows per image."""
    return ops.reshape(x, (-1, 4, 4))


def pixels_first(x):
    return ops.transpose(x[..., 0], (1, 0, 2))


def one_number(x):
    return ops.mean(x)


def pooled(x, _):
    return layers.GlobalAveragePooling1D()(x)


# How to make such a tensor, and logits' features of it and the images.
INDIVISIBLE = {
    "masked": (masked, pooled),
    "nested": (masked_by_a_nested_model, pooled),
    "patches": (patches, lambda x, _: ops.reshape(x, (-1, 64))),
    "transposed": (pixels_first, lambda x, _: ops.mean(x, axis=0)),
    "number": (one_number, lambda x, images: layers.Flatten()(images) * x),
}


@pytest.mark.parametrize("kind", INDIVISIBLE)
def test_batches_that_cannot_be_divided_are_not(kind):
    make, features = INDIVISIBLE[kind]
    inputs = keras.Input((8, 8, 1))
    x = make(inputs)
    first = layers.Dense(4)(features(x, inputs))
    second = layers.Dense(4)(layers.Dense(4)(features(x, inputs)))
    model = tiny.randomized(MultiExitModel(inputs, [first, second]))
    predict = model.exit_logits()
    assert predict.frozen() is predict
    with pytest.raises(NotImplementedError, match="divided between exits"):
        EarlyExitPredictor(model, (0.5,))


def test_a_mask_that_no_stage_hands_on_is_no_obstacle():
    inputs = keras.Input((8, 8, 1))
    x = layers.GlobalAveragePooling1D()(masked(inputs))
    model = MultiExitModel(inputs, [layers.Dense(4)(x)])
    assert EarlyExitPredictor(model, ())(IMAGES).label.shape == (4,)


def test_a_model_for_one_size_of_batch_is_built():
    inputs = keras.Input(batch_shape=(4, 8, 8, 1))
    x = layers.Flatten()(keras.Model(inputs, ops.tanh(inputs))(inputs))
    model = tiny.randomized(MultiExitModel(inputs, [layers.Dense(4)(x)]))
    assert_frozen_as_it_is(model)


class ForFour(layers.Layer):
    """Takes four images and nothing else."""

    def call(self, x):
        if x.shape[0] not in (None, 4):
            raise ValueError("Four images, please.")
        return layers.Flatten()(x)

    def compute_output_spec(self, x):
        if x.shape[0] not in (None, 4):
            raise ValueError("Four images, please.")
        return keras.KerasTensor((x.shape[0], 64), x.dtype)


def test_a_layer_for_one_size_of_batch_is_called_as_it_is():
    inputs = keras.Input((8, 8, 1))
    model = MultiExitModel(inputs, [layers.Dense(4)(ForFour()(inputs))])
    predict = model.exit_logits()
    assert predict.frozen() is predict


def test_a_model_may_start_within_another():
    inputs = keras.Input((10, 10, 2))
    x = layers.Conv2D(1, 3)(inputs)
    logits = [layers.Dense(4)(layers.Flatten()(x))]
    logits.append(layers.Dense(4)(layers.Dense(4)(layers.Flatten()(x))))
    model = tiny.randomized(MultiExitModel(x, logits))
    assert_frozen_as_it_is(model)
    loaded = MultiExitModel.from_config(model.get_config())
    loaded.set_weights(model.get_weights())
    for received, expected in zip(
        logits_of(loaded), logits_of(model), strict=True
    ):
        arrays.close(received, expected, atol=1e-6)


def test_reading_a_model_leaves_it_as_it_is():
    model = head_of_two()
    before, summary = model.get_config(), []
    Graph(model.inputs, model.output)
    assert model.get_config() == before
    model.summary(print_fn=summary.append)
    assert "head" in "".join(summary)
