"""What the tests of other tools share: a model that is easy to fool."""

import keras
import numpy as np

from keras_neokd import MultiExitModel
from keras_neokd.serving.adapters import as_single_output
from tests.reference import equations
from tests.training import tiny

EPSILON = 0.3
EXIT = 1


def easy_model():
    """Return a model of two exits for images of 8 x 8 pixels."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Rescaling(4.0, offset=-2.0)(inputs)
    x = keras.layers.Flatten()(x)
    exits = []
    for _ in range(2):
        x = keras.layers.Dense(16, "relu")(x)
        exits.append(keras.layers.Dense(tiny.NUM_CLASSES)(x))
    return tiny.randomized(MultiExitModel(inputs, exits), seed=2)


def examples(model, count=12):
    """Return images, and the second exit's answers as their labels."""
    images, _ = tiny.data(count)
    logits = model.predict(images, verbose=0)["exit_2"]
    return images, logits.argmax(axis=1)


def assert_fooled(
    model, images, labels, adversarial, ensemble=False, epsilon=EPSILON
):
    """See, by Keras' own `predict`, that a tool found adversarial images."""
    assert adversarial.shape == images.shape
    assert adversarial.min() >= 0
    assert adversarial.max() <= 1
    if epsilon is not None:
        assert np.abs(adversarial - images).max() <= epsilon + 1e-5
    logits = model.predict(adversarial.astype("float32"), verbose=0)
    votes = equations.softmax(logits["exit_2"])
    if ensemble:
        votes = votes + equations.softmax(logits["exit_1"])
    assert (votes.argmax(axis=1) != labels).mean() > 0.5


def classifier_of(model, **arguments):
    return as_single_output(model, EXIT, **arguments)
