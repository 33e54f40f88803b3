"""LW: which weights it takes; its values are in the battery."""

import keras
import numpy as np
import pytest

from keras_neokd import MultiExitModel
from keras_neokd import methods
from keras_neokd import models
from tests import arrays
from tests.training import tiny


def test_the_kernels_are_those_of_the_last_dense_layers():
    model = models.SmallCNN()
    shapes = [tuple(kernel.shape) for kernel in model.head_kernels()]
    assert shapes == [(200, 10)] * 3
    names = {kernel.path.split("/")[-1] for kernel in model.head_kernels()}
    assert names == {"kernel"}
    assert len({id(kernel) for kernel in model.head_kernels()}) == 3


def test_a_kernel_of_zeros_has_a_finite_gradient():
    # The last kernel of SmallCNN starts at zero.
    model = tiny.dense_model()
    model.set_weights([np.zeros_like(each) for each in model.get_weights()])
    tiny.compiled(model, method=methods.LW(1.0))
    images, labels = tiny.data()
    model.train_on_batch(images, labels)
    assert all(np.isfinite(each).all() for each in model.get_weights())


def test_sample_weights_do_not_touch_it():
    images, labels = tiny.data()
    model = tiny.compiled(tiny.dense_model(), method=methods.LW(1.0))
    logs = model.train_on_batch(
        images, labels, sample_weight=np.zeros(12), return_dict=True
    )
    norms = [
        np.linalg.norm(tiny.array(kernel))
        for kernel in tiny.dense_model().head_kernels()
    ]
    found = [float(logs[f"{name}_lw_loss"]) for name in tiny.NAMES]
    arrays.close(found, norms, rtol=1e-5)
    assert float(logs["loss"]) == pytest.approx(sum(norms), rel=1e-5)


def test_an_exit_without_a_dense_layer_is_refused():
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(8, 3)(inputs)
    first = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    second = keras.layers.Dense(8)(keras.layers.Flatten()(x))
    model = MultiExitModel(inputs, [first, second])
    with pytest.raises(ValueError, match="'exit_1' does not end in.*is 'pool'"):
        tiny.compiled(model, method="lw")


def test_exit_weights_have_to_fit_the_model():
    with pytest.raises(ValueError, match="expected 3, received 2"):
        tiny.compiled(
            tiny.dense_model(), method=methods.LW(exit_weights=(1, 2))
        )
