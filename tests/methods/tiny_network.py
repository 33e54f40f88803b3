"""A smooth network small enough for finite differences, twice.

Once as a Keras model and once in NumPy and float64, with the gradient of its
cross-entropy with respect to the image worked out by hand.
"""

import keras
import numpy as np

from keras_neokd import MultiExitModel
from tests.reference import equations as reference

IMAGE_SHAPE = (2, 2, 1)
NUM_EXITS, NUM_CLASSES = 3, 5
_WIDTHS = (4, 6, 5, 4)


def student():
    """Return a multi-exit model: three tanh layers, a head on each."""
    inputs = keras.Input(IMAGE_SHAPE)
    x = keras.layers.Flatten()(inputs)
    outputs = []
    for i, width in enumerate(_WIDTHS[1:]):
        x = keras.layers.Dense(width, "tanh", name=f"hidden_{i}")(x)
        outputs.append(keras.layers.Dense(NUM_CLASSES, name=f"head_{i}")(x))
    model = MultiExitModel(inputs, outputs)
    for i in range(NUM_EXITS):
        hidden, head = initial_weights()[i]
        model.get_layer(f"hidden_{i}").set_weights(hidden)
        model.get_layer(f"head_{i}").set_weights(head)
    return model


def weights_of(model):
    """Return the weights in the order of `initial_weights`."""
    return [
        tuple(
            [keras.ops.convert_to_numpy(each).astype("float64") for each in w]
            for w in (
                model.get_layer(f"hidden_{i}").weights,
                model.get_layer(f"head_{i}").weights,
            )
        )
        for i in range(NUM_EXITS)
    ]


def initial_weights():
    """Return per exit `([kernel, bias], [kernel, bias])` in float64."""
    rng = np.random.default_rng(5)

    def dense(rows, columns):
        kernel = rng.normal(size=(rows, columns)) * 1.5 / np.sqrt(rows)
        return [kernel, 0.3 * rng.normal(size=columns)]

    return [
        (dense(rows, columns), dense(columns, NUM_CLASSES))
        for rows, columns in zip(_WIDTHS[:-1], _WIDTHS[1:], strict=True)
    ]


def teacher():
    """Return a single-exit teacher: one softplus layer."""
    inputs = keras.Input(IMAGE_SHAPE)
    x = keras.layers.Flatten()(inputs)
    x = keras.layers.Dense(7, "softplus", name="hidden")(x)
    model = keras.Model(inputs, keras.layers.Dense(NUM_CLASSES, name="head")(x))
    hidden, head = _teacher_weights()
    model.get_layer("hidden").set_weights(hidden)
    model.get_layer("head").set_weights(head)
    return model


def _teacher_weights():
    rng = np.random.default_rng(6)
    return (
        [rng.normal(size=(4, 7)), rng.normal(size=7)],
        [rng.normal(size=(7, NUM_CLASSES)), rng.normal(size=NUM_CLASSES)],
    )


class NumpyStudent:
    """The student in NumPy."""

    def __init__(self, weights):
        self._weights = weights

    def logits(self, images):
        """`(batch, exits, classes)`."""
        return np.stack([head for _, head in self._layers(images)], axis=1)

    def kernels(self):
        """The kernels of the heads."""
        return [head[0] for _, head in self._weights]

    def input_gradient(self, images, labels, exits):
        """Gradient of the mean cross-entropy over exits, per image."""
        layers = self._layers(images)
        upstream = np.zeros_like(layers[-1][0])
        for i in reversed(range(NUM_EXITS)):
            (kernel, _), (head, _) = self._weights[i]
            hidden, logits = layers[i]
            if i in exits:
                wrong = reference.softmax(logits) - np.eye(NUM_CLASSES)[labels]
                upstream = upstream + wrong @ head.T / len(exits)
            upstream = (upstream * (1 - hidden**2)) @ kernel.T
        return upstream

    def _layers(self, images):
        x, layers = images.reshape(len(images), -1), []
        for (kernel, bias), (head, offset) in self._weights:
            x = np.tanh(x @ kernel + bias)
            layers.append((x, x @ head + offset))
        return layers


class NumpyTeacher:
    """The teacher in NumPy."""

    def logits(self, images):
        """`(batch, classes)`."""
        (kernel, bias), (head, offset) = _teacher_weights()
        inner = images.reshape(len(images), -1) @ kernel + bias
        return np.logaddexp(0, inner) @ head + offset

    def input_gradient(self, images, labels):
        """Gradient of the cross-entropy, per image."""
        (kernel, bias), (head, _) = _teacher_weights()
        inner = images.reshape(len(images), -1) @ kernel + bias
        wrong = reference.softmax(self.logits(images))
        wrong = wrong - np.eye(NUM_CLASSES)[labels]
        return (wrong @ head.T / (1 + np.exp(-inner))) @ kernel.T
