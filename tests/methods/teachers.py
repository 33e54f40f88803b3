"""Teachers of `tiny.dense_model`, of several kinds."""

import keras
from keras import layers

from keras_neokd import MultiExitModel
from tests.training import tiny

SHAPE = (8, 8, 1)


def single(units=tiny.NUM_CLASSES, shape=SHAPE, activation=None, seed=1):
    inputs = keras.Input(shape)
    x = layers.Dense(5, "tanh")(layers.Flatten()(inputs))
    outputs = layers.Dense(units, activation=activation)(x)
    model = keras.Model(inputs, outputs, name=f"teacher_{seed}")
    return tiny.randomized(model, seed)


def network(kind):
    """Return `single()`, or it and that of seed 2 as outputs of one model."""
    if kind == "one":
        return single()
    inputs = keras.Input(SHAPE)
    outputs = [single()(inputs), single(seed=2)(inputs)]
    if kind == "dict":
        outputs = {"early": outputs[0], "late": outputs[1]}
    if kind == "exits":
        return MultiExitModel(inputs, outputs)
    return keras.Model(inputs, outputs)
