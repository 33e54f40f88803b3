"""Convolution gives what keras.layers.Conv2D gives, forward and backward."""

import keras
import numpy as np
import pytest

from keras_neokd.models.convolution import Convolution
from keras_neokd.models.convolution import ImageConv2D
from tests import arrays
from tests import saving
from tests.models.backbones import battery

SHAPE = (9, 8, 4)
ONE_CHANNEL = (9, 8, 1)
CASES = [
    {"kernel_size": 3},
    {"kernel_size": 3, "padding": "same"},
    {"kernel_size": (2, 3), "padding": "same", "strides": (2, 1)},
    {"kernel_size": 1},
    {"kernel_size": 1, "strides": (2, 3), "use_bias": False},
    {"kernel_size": 1, "groups": 2},
    {"kernel_size": 3, "padding": "same", "dilation_rate": 2, "groups": 2},
]


CASES = [(SHAPE, case) for case in CASES] + [
    # The first convolution of SmallCNN, which TensorFlow has a kernel for.
    (ONE_CHANNEL, {"kernel_size": (3, 2)}),
    (ONE_CHANNEL, {"kernel_size": 3, "padding": "same"}),
    (ONE_CHANNEL, {"kernel_size": 3, "strides": 2}),
]


@pytest.mark.parametrize(("shape", "arguments"), CASES, ids=str)
def test_training_moves_the_weights_as_conv2d_does(shape, arguments):
    ours, theirs = (
        layer(6, activation="relu", **arguments)
        for layer in (Convolution, keras.layers.Conv2D)
    )
    # So that the gradient of their images counts, too.
    battery.assert_trains_as(
        ours, theirs, shape, shape[-1], rtol=1e-5, atol=1e-5
    )


@pytest.mark.parametrize("kind", [Convolution, ImageConv2D])
def test_a_file_holds_its_arguments(tmp_path, kind):
    model = keras.Sequential(
        [keras.Input(SHAPE), kind(2, 3, strides=2, name="conv")]
    )
    loaded = saving.reloaded(model, tmp_path)
    layer = loaded.get_layer("conv")
    assert type(layer) is kind and layer.strides == (2, 2)
    images = np.ones((1, *SHAPE), "float32")
    arrays.equal(
        loaded.predict(images, verbose=0), model.predict(images, verbose=0)
    )


def test_a_small_kernel_with_strides_has_the_gradient_by_definition():
    # oneDNN's is wrong on some processors, and Keras' layer uses it.
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 12, 12, 3)).astype("float32")
    layer = Convolution(8, 1, strides=2, use_bias=False)
    model = keras.Sequential([keras.Input((12, 12, 3)), layer])
    before = model.get_weights()[0]
    model.compile(keras.optimizers.SGD(1.0), "mse")
    targets = rng.normal(size=(4, 6, 6, 8)).astype("float32")
    seen = images[:, ::2, ::2]
    error = seen @ before[0, 0] - targets
    gradient = np.einsum("bhwc,bhwf->cf", seen, error) * 2 / error.size
    model.train_on_batch(images, targets)
    arrays.close(
        before[0, 0] - model.get_weights()[0][0, 0],
        gradient,
        rtol=1e-4,
        atol=1e-6,
    )
