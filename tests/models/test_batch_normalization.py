"""BatchNormalization gives what keras.layers.BatchNormalization gives."""

import keras
import numpy as np
import pytest

from keras_neokd.models.batch_normalization import BatchNormalization
from tests import arrays

EPSILON = 1e-5


SETTINGS = [
    {},
    {"scale": False},
    {"center": False},
    {"dtype": "mixed_bfloat16"},
]
if keras.config.backend() != "jax":  # It has to be started for float64.
    SETTINGS.append({"dtype": "float64"})


def trained(kind, images, **settings):
    """Return the weights and outputs of a network after three steps."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input(images.shape[1:]),
            keras.layers.Conv2D(3, 1),
            kind(axis=-1, momentum=0.9, epsilon=EPSILON, **settings),
            keras.layers.Activation("tanh", dtype="float32"),
            keras.layers.Conv2D(2, 1),
        ]
    )
    model.compile(keras.optimizers.SGD(0.1), "mse")
    targets = np.random.default_rng(1).normal(size=(*images.shape[:3], 2))
    for _ in range(3):
        model.train_on_batch(images, targets)
    return [*model.get_weights(), model.predict(images, verbose=0)]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_training_is_that_of_keras(settings):
    images = np.random.default_rng(0).normal(1, 3, (6, 4, 5, 2))
    pairs = zip(
        trained(BatchNormalization, images, **settings),
        trained(keras.layers.BatchNormalization, images, **settings),
        strict=True,
    )
    for ours, expected in pairs:
        arrays.close(ours, expected, rtol=1e-5, atol=2e-6)


def test_a_single_value_per_channel_is_its_mean():
    layer = BatchNormalization(momentum=0)
    outputs = layer(np.full((1, 1, 1, 2), 3, "float32"), training=True)
    arrays.close(outputs, np.zeros((1, 1, 1, 2)), atol=1e-4)
    arrays.close(layer.moving_mean, [3, 3])
    arrays.close(layer.moving_variance, [0, 0], atol=1e-9)


def test_values_by_hand():
    images = np.array([1, 2, 3, 6], "float32").reshape(4, 1, 1, 1)
    layer = BatchNormalization(momentum=0.5, epsilon=0.5)
    outputs = layer(images, training=True)
    # Mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5; 3.5 + 0.5 is 2 squared.
    expected = np.reshape([-1, -0.5, 0, 1.5], images.shape)
    arrays.close(outputs, expected, atol=1e-6)
    arrays.close(layer.moving_mean, [0.5 * 3])
    arrays.close(layer.moving_variance, [0.5 + 0.5 * 3.5])


def test_a_channel_that_is_constant_has_no_variance():
    layer = BatchNormalization(momentum=0, epsilon=EPSILON)
    layer(np.full((4, 2, 2, 1), 7, "float32"), training=True)
    arrays.close(layer.moving_variance, [0], atol=1e-9)


def test_the_averages_normalize_without_training():
    images = np.random.default_rng(1).normal(size=(4, 3, 3, 2))
    layer = BatchNormalization(epsilon=EPSILON)
    outputs = layer(images.astype("float32"), training=False)
    arrays.close(outputs, images / np.sqrt(1 + EPSILON), atol=1e-6)
    arrays.close(layer.moving_mean, [0, 0])


def test_frozen_layers_keep_their_averages():
    layer = BatchNormalization(trainable=False)
    layer(np.ones((2, 2, 2, 1), "float32"), training=True)
    arrays.close(layer.moving_mean, [0])
