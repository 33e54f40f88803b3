"""A small model of four exits that says something, and images for it."""

import keras
import numpy as np

from keras_neokd import MultiExitModel

IMAGES = np.random.default_rng(1).random((24, 6, 5, 1), "float32")
# Sorted by name, `exit_10` would come after `exit_1`.
NAMES = ("exit_1", "exit_2", "exit_3", "exit_10")


def untrained_model():
    """Return a model with layers of many kinds."""
    x = images = keras.Input((6, 5, 1))
    exits = []
    for number in range(len(NAMES)):
        x = keras.layers.Conv2D(3, 3, padding="same", activation="relu")(x)
        if number == 0:
            x = keras.layers.BatchNormalization()(x)
            x = keras.layers.Dropout(0.5)(x)
        if number == 2:
            x = keras.layers.MaxPooling2D(2)(x)
        exits.append(keras.layers.Dense(4)(keras.layers.Flatten()(x)))
    return MultiExitModel(images, dict(zip(NAMES, exits, strict=True)))


def model():
    """Return a model whose exits are sure of something, and disagree."""
    made, rng = untrained_model(), np.random.default_rng(3)
    made.set_weights(
        [
            rng.uniform(0.5, 1.5, each.shape)
            if "variance" in each.path or "gamma" in each.path
            else rng.normal(0, 0.3, each.shape)
            for each in made.weights
        ]
    )
    return made
