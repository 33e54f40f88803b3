"""MaxPooling gives what keras.layers.MaxPooling2D gives."""

import keras
import numpy as np
import pytest

from keras_neokd.models.pooling import MaxPooling
from tests import arrays


@pytest.mark.parametrize("arguments", [{}, {"strides": 1}], ids=str)
def test_training_moves_weights_before_it_as_max_pooling_does(arguments):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 7, 8, 3)).astype("float32")
    weights, after = None, []
    for layer in (MaxPooling, keras.layers.MaxPooling2D):
        model = keras.Sequential(
            [
                keras.Input((7, 8, 3)),
                keras.layers.Dense(4),
                layer(2, **arguments),
            ]
        )
        weights = weights or [
            rng.normal(size=each.shape) for each in model.get_weights()
        ]
        model.set_weights(weights)
        model.compile("sgd", "mse")
        targets = np.ones(model.compute_output_shape(images.shape))
        model.train_on_batch(images, targets)
        after.append(model.get_weights())
    for ours, reference in zip(*after, strict=True):
        arrays.close(ours, reference, atol=1e-6)


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
