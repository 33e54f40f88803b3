"""ImageConv2D gives what keras.layers.Conv2D gives, forward and backward."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import backend
from keras_neokd.models.image_conv import ImageConv2D


def test_result_and_image_gradient_equal_a_hand_written_convolution():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(2, 6, 5, 1)).astype("float32")
    kernel = rng.normal(size=(3, 2, 1, 4)).astype("float32")
    upstream = rng.normal(size=(2, 4, 4, 4)).astype("float32")
    expected, gradient = np.zeros((2, 4, 4, 4)), np.zeros(image.shape)
    for row in range(4):
        for column in range(4):
            window = image[:, row : row + 3, column : column + 2]
            expected[:, row, column] = np.einsum(
                "bijc,ijcf->bf", window, kernel
            )
            gradient[:, row : row + 3, column : column + 2] += np.einsum(
                "bf,ijcf->bijc", upstream[:, row, column], kernel
            )

    def projected(image):
        result = backend.convolve_image(image, ops.convert_to_tensor(kernel))
        return ops.sum(result * ops.convert_to_tensor(upstream), axis=(1, 2, 3))

    values, found = backend.value_and_input_gradient(
        projected, ops.convert_to_tensor(image)
    )
    result = backend.convolve_image(
        ops.convert_to_tensor(image), ops.convert_to_tensor(kernel)
    )
    values, found, result = map(ops.convert_to_numpy, (values, found, result))
    np.testing.assert_allclose(result, expected, atol=1e-5)
    np.testing.assert_allclose(found, gradient, atol=1e-5)
    np.testing.assert_allclose(
        values, (expected * upstream).sum((1, 2, 3)), rtol=1e-4
    )


def test_training_moves_the_weights_as_conv2d_does():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, 8, 8, 1)).astype("float32")
    targets = rng.normal(size=(4, 6, 6, 3)).astype("float32")
    weights = [rng.normal(size=(3, 3, 1, 3)), np.zeros(3)]
    after = []
    for layer in (ImageConv2D, keras.layers.Conv2D):
        model = keras.Sequential([keras.Input((8, 8, 1)), layer(3, 3)])
        model.set_weights(weights)
        model.compile("sgd", "mse")
        model.train_on_batch(images, targets)
        after.append(model.get_weights())
    for ours, reference in zip(*after, strict=True):
        np.testing.assert_allclose(ours, reference, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "channels"),
    [({}, 3), ({"strides": 2}, 1), ({"padding": "same"}, 1)],
)
def test_other_convolutions_are_refused(arguments, channels):
    with pytest.raises(ValueError, match="use keras.layers.Conv2D"):
        ImageConv2D(4, 3, **arguments)(np.zeros((1, 8, 8, channels)))
