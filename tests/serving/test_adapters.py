"""Multi-exit models as classifiers of one output, against plain NumPy."""

import keras
import numpy as np
import pytest

from keras_neokd import MultiExitModel
from keras_neokd.serving.adapters import as_single_output
from tests.network.models import Counted
from tests.reference import equations
from tests.training import tiny

IMAGES = tiny.data(5)[0]


@pytest.fixture(scope="module")
def model():
    """A model with everything that differs between training and inference."""
    return tiny.dense_model(norm=True, dropout=0.5)


@pytest.fixture(scope="module")
def logits(model):
    """Logits of every exit, by Keras' own `predict`."""
    predictions = model.predict(IMAGES, verbose=0)
    return np.stack([predictions[name] for name in tiny.NAMES], axis=1)


def outputs(classifier, images=IMAGES, **arguments):
    return tiny.array(
        classifier(keras.ops.convert_to_tensor(images), **arguments)
    )


@pytest.mark.parametrize(
    ("arguments", "place"), [(["exit_2"], 1), ([1], 1), ([-2], 1), ([], 2)]
)
def test_the_logits_of_one_exit(model, logits, arguments, place):
    classifier = as_single_output(model, *arguments)
    assert classifier.output_shape == (None, 8)
    found = outputs(classifier)
    np.testing.assert_allclose(found, logits[:, place], atol=1e-5)


@pytest.mark.parametrize("exit", [0, 1, 2])
def test_an_ensemble_is_the_mean_softmax_up_to_the_exit(model, logits, exit):
    found = outputs(as_single_output(model, exit, ensemble=True))
    mean = equations.softmax(logits[:, : exit + 1]).mean(axis=1)
    # Its logarithm, so that a softmax gives the mean back.
    np.testing.assert_allclose(found, np.log(mean), atol=1e-5)
    np.testing.assert_allclose(equations.softmax(found), mean, atol=1e-6)


def test_large_logits_do_not_become_infinite():
    inputs = keras.Input((8, 8, 1))
    flat = keras.layers.Flatten()(inputs)
    head = keras.layers.Dense(8, use_bias=False)
    exits = [head(flat), keras.layers.Rescaling(1.0)(head(flat))]
    model = MultiExitModel(inputs, exits)
    kernel = np.zeros((64, 8), "float32")
    kernel[:, 0] = 1e4
    head.set_weights([kernel])
    found = outputs(as_single_output(model, ensemble=True))
    assert np.isfinite(found).all()
    np.testing.assert_array_equal(found.argmax(axis=1), 0)


@pytest.mark.parametrize("ensemble", [False, True])
def test_images_may_have_their_channels_first(ensemble):
    shape = (4, 6, 3)
    inputs = keras.Input(shape)
    flat = keras.layers.Flatten()(inputs)
    model = MultiExitModel(inputs, [keras.layers.Dense(4)(flat)])
    tiny.randomized(model)
    images = tiny.data(3, shape=shape)[0]
    last, first = (
        as_single_output(model, ensemble=ensemble, channels_first=each)
        for each in (False, True)
    )
    assert first.input_shape == (None, 3, 4, 6)
    found = outputs(first, np.moveaxis(images, 3, 1))
    np.testing.assert_allclose(found, outputs(last, images), atol=1e-6)


@pytest.mark.parametrize("ensemble", [False, True])
def test_inference_mode_where_a_tool_says_nothing(model, ensemble):
    classifier = as_single_output(model, ensemble=ensemble)
    expected = outputs(classifier, training=False)
    before = tiny.snapshot(model)
    if keras.config.backend() == "torch":
        classifier.train()  # What PyTorch's modules are in when new.
    np.testing.assert_array_equal(outputs(classifier), expected)
    tiny.assert_equal_states(before, tiny.snapshot(model))


def test_weights_are_shared():
    model = tiny.dense_model()
    classifier = as_single_output(model, ensemble=True)
    tiny.randomized(model, seed=3)
    expected = outputs(as_single_output(model, ensemble=True))
    np.testing.assert_array_equal(outputs(classifier), expected)
    own = {id(each) for each in model.weights}
    assert {id(each) for each in classifier.weights} == own


# What is computed.


@pytest.fixture
def counting():
    """Return a model, and a layer in front of each of its exits."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    counters, exits = [], []
    for _ in range(3):
        counters.append(Counted())
        x = counters[-1](keras.layers.Dense(8)(x))
        exits.append(x)
    return MultiExitModel(inputs, exits), counters


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("exit", [0, 1, 2])
def test_nothing_is_computed_beyond_the_exit_or_twice(counting, exit, ensemble):
    model, counters = counting
    classifier = as_single_output(model, exit, ensemble)
    for counter in counters:
        counter.runs = 0
    outputs(classifier)
    expected = [int(number <= exit) for number in range(3)]
    assert [counter.runs for counter in counters] == expected


# What is refused.


def test_models_of_one_output_need_no_adapter():
    with pytest.raises(TypeError, match="needs a MultiExitModel"):
        as_single_output(keras.Sequential())


@pytest.mark.parametrize("exit", ["exit_4", 3, -4, 1.5])
def test_exits_have_to_exist(model, exit):
    with pytest.raises(ValueError, match="has no exit"):
        as_single_output(model, exit)
