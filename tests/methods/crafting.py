"""One attack step of a method, on the tiny network and in NumPy."""

import keras
import numpy as np

from keras_neokd import methods
from tests import arrays
from tests.methods import tiny_network
from tests.reference import equations as reference
from tests.training import tiny

IMAGES, LABELS = tiny.data(
    5, shape=tiny_network.IMAGE_SHAPE, num_classes=tiny_network.NUM_CLASSES
)
KEYS = np.arange(5)
EPSILON, STEP_SIZE = 0.1, 0.05
STUDENT = tiny_network.NumpyStudent(tiny_network.initial_weights())


def context(method, epoch=0, state=None, example=KEYS):
    """Return what the method is given before the attack."""
    model = tiny_network.student()
    if state is None:
        state = {
            name: keras.Variable(value)
            for name, value in method.initial_state(model).items()
        }
    position = methods.Position(
        seed=0,
        epoch=arrays.tensor(epoch, "int32"),
        step=arrays.tensor(0, "int32"),
        index=arrays.tensor(KEYS, "int32"),
        example=arrays.tensor(example, "int32"),
    )
    return methods.Context(
        labels=arrays.tensor(LABELS, "int32"),
        position=position,
        images=arrays.tensor(IMAGES),
        predict=model.exit_logits(),
        state=state,
    )


def craft(method, attack, given):
    """Return the images that training would craft."""
    method.begin_step(given)
    attack = method.training_attack(attack, given)
    adversarial, _ = attack.generate(
        given.predict, given.images, given.labels, arrays.tensor(KEYS, "int32")
    )
    return tiny.array(adversarial)


def normal_start():
    """The start of TRADES: 0.001 times normal noise, clipped to [0, 1]."""
    keys = reference.bits(KEYS, 0)
    noise = reference.example_normal(keys, tiny_network.IMAGE_SHAPE)
    return np.clip(IMAGES + 0.001 * noise, 0, 1)


def ascend(score, start):
    """One L-infinity step of `STEP_SIZE` up a function of images."""
    gradient = reference.central_difference(score, start.astype("float64"))
    assert np.abs(gradient).min() > 1e-6  # All signs are beyond doubt.
    moved = start + STEP_SIZE * np.sign(gradient)
    return reference.project(moved, IMAGES, EPSILON, "linf")
