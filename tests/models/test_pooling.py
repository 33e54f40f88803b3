"""MaxPooling gives what keras.layers.MaxPooling2D gives."""

import keras
import numpy as np
import pytest

from keras_neokd.models.pooling import MaxPooling
from tests import arrays
from tests.models.backbones import battery


@pytest.mark.parametrize("arguments", [{}, {"strides": 1}], ids=str)
def test_training_moves_weights_before_it_as_max_pooling_does(arguments):
    ours, theirs = (
        layer(2, **arguments)
        for layer in (MaxPooling, keras.layers.MaxPooling2D)
    )
    battery.assert_trains_as(ours, theirs, (7, 8, 3), 4, atol=1e-6)


@pytest.mark.skipif(
    keras.config.backend() != "jax", reason="JAX's symbols for free sizes"
)
def test_the_gradient_takes_a_batch_of_any_size():
    import jax
    from jax import export

    def gradient(images):
        pool = MaxPooling(2)
        return jax.grad(lambda images: (pool(images) ** 2).sum())(images)

    images = np.random.default_rng(0).random((3, 5, 4, 2), "float32")
    (batch,) = export.symbolic_shape("batch")
    of_any_size = export.export(jax.jit(gradient))(
        jax.ShapeDtypeStruct((batch, *images.shape[1:]), "float32")
    )
    arrays.equal(of_any_size.call(images), gradient(images))


def test_padding_is_refused():
    with pytest.raises(ValueError, match="use keras.layers.MaxPooling2D"):
        MaxPooling(2, padding="same")
