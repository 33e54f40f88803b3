"""BatchNormalization gives what keras.layers.BatchNormalization gives."""

import contextlib

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import backend
from keras_neokd.models.batch_normalization import BatchNormalization
from tests import arrays

EPSILON = 1e-5


SETTINGS = [
    {},
    {"scale": False},
    {"center": False},
    {"dtype": "mixed_bfloat16"},
    {"dtype": "bfloat16"},
]
if keras.config.backend() != "jax":  # It has to be started for float64.
    SETTINGS.append({"dtype": "float64"})


def in_one_operation():
    """Let TensorFlow do what it does in our training step without XLA."""
    if keras.config.backend() != "tensorflow":
        return contextlib.nullcontext()
    from keras_neokd.backend import tensorflow

    return tensorflow.fused_batch_norm()


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
        with in_one_operation():
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
    with in_one_operation():
        outputs = layer(np.full((1, 1, 1, 2), 3, "float32"), training=True)
    arrays.close(outputs, np.zeros((1, 1, 1, 2)), atol=1e-4)
    arrays.close(layer.moving_mean, [3, 3])
    arrays.close(layer.moving_variance, [0, 0], atol=1e-9)


def test_values_by_hand():
    images = np.array([1, 2, 3, 6], "float32").reshape(4, 1, 1, 1)
    layer = BatchNormalization(momentum=0.5, epsilon=0.5)
    with in_one_operation():
        outputs = layer(images, training=True)
    # Mean 3, variance (4 + 1 + 0 + 9) / 4 = 3.5; 3.5 + 0.5 is 2 squared.
    expected = np.reshape([-1, -0.5, 0, 1.5], images.shape)
    arrays.close(outputs, expected, atol=1e-6)
    arrays.close(layer.moving_mean, [0.5 * 3])
    arrays.close(layer.moving_variance, [0.5 + 0.5 * 3.5])


@pytest.mark.parametrize("epsilon", [EPSILON, 0])
def test_a_channel_that_is_constant_has_no_variance(epsilon):
    layer = BatchNormalization(momentum=0, epsilon=epsilon)
    with in_one_operation():
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


def test_features_without_positions_are_normalized_as_by_keras():
    features = np.random.default_rng(0).normal(size=(5, 3)).astype("float32")
    ours, expected = (
        layer(axis=-1)(features, training=True)
        for layer in (BatchNormalization, keras.layers.BatchNormalization)
    )
    arrays.equal(ours, arrays.array(expected))


@pytest.mark.skipif(
    keras.config.backend() == "torch",
    reason="images are cut off from what they were made of",
)
@pytest.mark.parametrize("fused", [False, True])
def test_the_second_derivative(fused):
    """The input gradient's square, differentiated by a shift of the inputs.

    Central differences of the gradient are what to expect.
    """
    rng = np.random.default_rng(0)
    images, weights, shift = rng.normal(size=(3, 4, 2, 2, 1))
    layer = BatchNormalization(epsilon=0.1, momentum=1)

    def size(moved):
        def weighted(images):
            outputs = layer(images, training=True)
            weighted = ops.sum(outputs**3 * tensors[1], axis=(1, 2, 3))
            return weighted

        gradient = backend.differentiable_input_gradient(weighted, moved)
        return ops.sum(gradient**2, axis=(1, 2, 3))

    tensors = [arrays.tensor(each) for each in (images, weights, shift)]
    with in_one_operation() if fused else contextlib.nullcontext():
        layer(tensors[0])
        _, gradient = backend.value_and_input_gradient(size, tensors[0])
        step = 1e-2
        high, low = (
            arrays.array(size(tensors[0] + sign * step * tensors[2])).sum()
            for sign in (1, -1)
        )
    received = (arrays.array(gradient) * shift).sum()
    np.testing.assert_allclose(received, (high - low) / (2 * step), rtol=5e-3)


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow", reason="XLA of TensorFlow"
)
def test_xla_loses_no_variance_beside_a_large_mean():
    import tensorflow as tf

    rng = np.random.default_rng(0)
    images = rng.normal(100, 0.1, (16, 8, 8, 3)).astype("float32")
    layer = BatchNormalization(momentum=0, epsilon=EPSILON)
    layer.build(images.shape)
    tf.function(layer, jit_compile=True)(images, training=True)
    arrays.close(
        layer.moving_variance,
        images.astype("float64").var((0, 1, 2)),
        rtol=1e-2,
    )
