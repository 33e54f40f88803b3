"""Dense layers that begin as PyTorch's do."""

import keras
import numpy as np
import pytest

from keras_neokd.models.dense import dense


@pytest.fixture(scope="module")
def layer():
    inputs = keras.Input((3, 400))
    x = dense(inputs, 200, "head", activation="relu", dtype="float32")
    return keras.Model(inputs, x).get_layer("head")


def test_weights_are_uniform_within_one_over_root_inputs(layer):
    for weights in layer.get_weights():
        largest = np.abs(weights).max()
        assert 0.9 / 20 < largest <= 1.000001 / 20


def test_the_layer_is_built_as_asked_for(layer):
    assert layer.output.shape == (None, 3, 200)
    assert layer.activation is keras.activations.relu
    assert layer.compute_dtype == "float32"
