"""Multi-exit models whose gradients are known in closed form."""

import keras
import numpy as np

from keras_neokd import MultiExitModel

SHAPE = (4, 3, 2)
NUM_CLASSES = 5
LABELS = np.array([0, 1, 2, 3, 4, 0, 1])


def images(count=7):
    rng = np.random.default_rng(7)
    return rng.uniform(size=(count, *SHAPE)).astype("float32")


def model_of(exits, shape=SHAPE):
    """Return the Keras model of a `equations.LinearExits`."""
    inputs = keras.Input(shape)
    flat = keras.layers.Flatten()(inputs)
    heads = [keras.layers.Dense(each.shape[1]) for each in exits.weights]
    model = MultiExitModel(inputs, [head(flat) for head in heads])
    for head, *weights in zip(heads, exits.weights, exits.offsets, strict=True):
        head.set_weights(weights)
    return model


class GivenExits:
    """Weights `(exits, pixels, classes)` and offsets, given in full."""

    def __init__(self, weights, offsets):
        self.weights = np.array(weights, "float64")
        self.offsets = np.array(offsets, "float64")
