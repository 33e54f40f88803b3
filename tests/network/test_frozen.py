"""A frozen network: the logits of the model, with less to compute."""

from collections import Counter

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.backend import precision
from keras_neokd.network.frozen import FrozenNetwork
from tests.network.models import MODELS
from tests.network.models import assert_close
from tests.network.models import calls_of
from tests.training import tiny

layers = keras.layers


ATTACK = attacks.MaxAverage(attacks.PGD(0.03, 0.02, 2))


def attacked(model):
    """Return 4 images and what the attack makes of them."""
    images, labels = tiny.data(4, shape=model.input_shape[1:])
    images, labels, keys = map(
        ops.convert_to_tensor, (images, labels, np.arange(4, dtype="int32"))
    )
    return images, ATTACK.generate(model.exit_logits(), images, labels, keys)[0]


def convolutions():
    """Return a model of all that a convolution can be merged with, or not."""
    inputs = keras.Input((9, 8, 3))
    x = layers.ZeroPadding2D(((1, 0), (0, 2)))(inputs)
    x = layers.Conv2D(4, 3, strides=2, use_bias=False)(x)
    x = layers.BatchNormalization()(x)
    shared = layers.Conv2D(4, (3, 2), padding="same", groups=2)
    x = layers.ReLU()(shared(x))
    pooled = layers.Conv2D(4, 1, activation="relu")(x)
    pooled = layers.MaxPooling2D(2)(pooled)
    pooled = layers.Conv2D(4, 1)(layers.ReLU()(layers.Conv2D(4, 1)(pooled)))
    pooled = layers.AveragePooling2D((2, 1))(pooled)
    pooled = layers.MaxPooling2D(1)(layers.Conv2D(4, 1)(pooled))
    first = layers.Dense(8)(layers.Flatten()(pooled))
    y = layers.Conv2D(6, 2, strides=(2, 1), padding="same")(shared(x))
    # Two take what the convolution gives, so its batch norm stays.
    x = layers.BatchNormalization(scale=False)(y)
    x = layers.LeakyReLU()(x)
    x = layers.Concatenate()([x, y])
    x = layers.Conv2D(4, 3, padding="same", dilation_rate=2)(x)
    x = layers.BatchNormalization(center=False, epsilon=0.1)(x)
    x = layers.Activation("relu")(x)
    x = layers.Conv2D(4, 1, activation="gelu")(x)
    x = layers.Conv2D(4, 1, activation="relu")(x)
    x = layers.BatchNormalization()(x)
    second = layers.Dense(8)(layers.GlobalAveragePooling2D()(x))
    return MultiExitModel(inputs, [first, second])


def special_calls():
    """Return a model of calls that ask for more than their tensors."""
    inputs = keras.Input((9, 8, 3))
    x = layers.Conv2D(4, 3, dtype="bfloat16")(inputs)
    x = layers.Conv2D(4, 3, dtype="float32")(x)
    x = layers.LeakyReLU()(x)
    x = layers.MaxPooling2D(2, strides=1)(x)
    x = layers.MaxPooling2D(2, strides=1, padding="same")(x)
    # The mode of the whole call wins over the mode of a layer's call.
    x = layers.BatchNormalization()(x, training=True)
    x = layers.Dropout(0.5)(x, training=True)
    scale = np.linspace(0.5, 2.0, 4).astype("float32")
    x = ops.multiply(x, ops.convert_to_tensor(scale))
    first = layers.Dense(8)(layers.Flatten()(x))
    x = layers.AveragePooling2D((2, 1), strides=(2, 1))(x)
    x = layers.Conv2D(4, (1, 2), activation="relu")(x)
    second = layers.Dense(8)(layers.GlobalAveragePooling2D()(x))
    return MultiExitModel(inputs, [first, second])


CASES = {**MODELS, "convolutions": convolutions, "special_calls": special_calls}


@pytest.fixture(scope="module", params=CASES)
def model(request):
    return tiny.randomized(CASES[request.param]())


def images_for(model, count=6, seed=0):
    images = tiny.data(count, seed, shape=model.input_shape[1:])[0]
    return ops.convert_to_tensor(images)


def rounding(model):
    """Return how far merging may move results: 1e-5 in float32.

    A convolution in 16 bits rounds its sum, and the sum with the bias; merged,
    it may do both at once. Each rounding is of half a step of the format.
    """
    steps = [
        2 * float(ml_dtypes.finfo(layer.compute_dtype).eps) / 2
        for layer in model.layers
        if isinstance(layer, layers.Conv2D) and layer.compute_dtype != "float32"
    ]
    assert bool(steps) == (precision.layer_dtypes(model) != ["float32"])
    return sum(steps, start=1e-5)


def test_every_exit_gives_the_logits_of_the_model(model):
    predict, images = model.exit_logits(), images_for(model)
    expected = predict(images)
    frozen = predict.frozen()
    exits = tuple(range(model.num_exits))
    for chosen in (exits, exits[::-1], exits[-1:], exits[:1]):
        logits = frozen(images, chosen)
        assert len(logits) == len(chosen)
        for index, each in zip(chosen, logits, strict=True):
            assert_close(each, expected[index], rounding(model))


def test_the_gradient_for_the_image_is_that_of_the_model(model):
    # Rounding to 16 bits decides about no maximum and no ReLU of these images:
    # there the gradient would jump.
    predict, images = model.exit_logits(), images_for(model, seed=1)

    def gradient(predict):
        return backend.value_and_input_gradient(
            lambda x: sum(ops.sum(each[:, :3], axis=1) for each in predict(x)),
            images,
        )[1]

    received, expected = gradient(predict.frozen()), gradient(predict)
    assert_close(received, expected, rounding(model))


@pytest.mark.parametrize("has_accelerator", [False, True])
def test_staggered_batches_leave_at_their_own_exits(
    model, has_accelerator, monkeypatch
):
    monkeypatch.setattr(backend, "has_accelerator", lambda: has_accelerator)
    predict = model.exit_logits()
    exits = tuple(range(model.num_exits))
    images = images_for(model, 2 * len(exits))
    expected = predict(images)
    for staggered in (
        predict.staggered(exits),
        predict.frozen().staggered(exits),
    ):
        (logits,) = staggered(images)
        for index in exits:
            own = slice(2 * index, 2 * index + 2)
            assert_close(logits[own], expected[index][own], rounding(model))


def test_staggered_batches_may_skip_exits_and_go_backwards(monkeypatch):
    monkeypatch.setattr(backend, "has_accelerator", lambda: True)
    model = tiny.randomized(convolutions())
    predict, images = model.exit_logits(), images_for(model, 4)
    (logits,) = predict.frozen().staggered((1, 0))(images)
    assert_close(logits[:2], predict(images)[1][:2])
    assert_close(logits[2:], predict(images)[0][2:])


@pytest.mark.filterwarnings("ignore:Layers of model.*convolve in 16 bits")
def test_a_network_read_in_a_compiled_step_is_good_for_later_ones():
    model = special_calls()
    model.compile("sgd", method="adversarial_training", attack=ATTACK)
    images, labels = tiny.data(4, shape=model.input_shape[1:])
    first, second = (model.train_on_batch(images, labels) for _ in range(2))
    assert np.isfinite([*first, *second]).all()
    attacked(model)


@pytest.mark.parametrize("has_accelerator", [False, True])
def test_accelerators_run_the_batches_of_all_exits_together(
    has_accelerator, monkeypatch
):
    monkeypatch.setattr(backend, "has_accelerator", lambda: has_accelerator)
    model = tiny.randomized(convolutions())
    convolve, sizes = backend.convolve, []

    def counted(images, *arguments, **named):
        sizes.append(images.shape[0])
        return convolve(images, *arguments, **named)

    monkeypatch.setattr(backend, "convolve", counted)
    model.exit_logits().frozen()(images_for(model, 8))
    to_choose = sizes.count(8)
    sizes.clear()
    attacked(model)
    # All 8 candidates run together when one is chosen per image, and on an
    # accelerator also while they are made.
    assert sizes.count(4) > 0
    assert (sizes.count(8) > to_choose) == has_accelerator


def test_padding_batch_norm_and_relu_become_part_of_convolutions():
    model = MODELS["msdnet"]()
    kinds = Counter(
        type(model.get_layer(each.call[0])).__name__
        for each in FrozenNetwork(model).calls((0, 1))
    )
    # What is merged has the name of its last call.
    assert set(kinds) == {
        "Activation",
        "Concatenate",
        "Dense",
        "GlobalAveragePooling2D",
    }


def test_what_cannot_be_merged_stays():
    model = convolutions()
    calls = FrozenNetwork(model).calls((0, 1))
    kinds = [
        [type(model.get_layer(name)).__name__ for name, _ in each.merged]
        for each in calls
    ]
    # What is merged is joined.
    expected = """
        ZeroPadding2D+Conv2D+BatchNormalization Conv2D+ReLU Conv2D MaxPooling2D
        Conv2D+ReLU Conv2D AveragePooling2D Conv2D MaxPooling2D Flatten Dense
        Conv2D Conv2D BatchNormalization LeakyReLU Concatenate
        Conv2D+BatchNormalization+Activation Conv2D Conv2D BatchNormalization
        GlobalAveragePooling2D Dense
    """
    assert ["+".join(each) for each in kinds] == expected.split()


def test_an_exit_computes_no_layer_that_it_does_not_need(model):
    network = FrozenNetwork(model)
    for index, name in enumerate(model.exit_names):
        made = Counter(
            name for each in network.calls((index,)) for name, _ in each.merged
        )
        assert made == calls_of(model.exit_model(name))


def test_weights_are_those_of_the_moment_of_freezing():
    model = tiny.randomized(MODELS["small_cnn"]())
    predict, images = model.exit_logits(), images_for(model)
    before = tiny.array(predict(images)[0])
    for weight in model.trainable_variables:
        weight.assign(weight * 1.5)
    after = tiny.array(predict.frozen()(images)[0])
    assert_close(after, predict(images)[0])
    assert abs(after - before).max() > 0.1


def test_no_variable_changes():
    model = tiny.randomized(MODELS["msdnet"]())
    before = tiny.snapshot(model)
    model.exit_logits().frozen()(images_for(model))
    tiny.assert_equal_states(tiny.snapshot(model), before)


def test_training_mode_is_not_frozen():
    predict = tiny.dense_model(norm=True).exit_logits(training=True)
    assert predict.frozen() is predict
