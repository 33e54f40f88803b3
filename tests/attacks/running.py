"""Run an attack on small models: arrays in, arrays out."""

import keras
import numpy as np
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.attacks.search import Problem
from keras_neokd.base import randomness
from tests import numpy_reference as reference
from tests.attacks import search_reference

SHAPE = (4, 3, 2)
LABELS = np.array([0, 1, 2, 3, 4, 0, 1, 2])


def two_exits(num_classes=5, shape=SHAPE, **arguments):
    return search_reference.QuadraticExits(2, shape, num_classes, **arguments)


def some_images(count=8, shape=SHAPE):
    rng = np.random.default_rng(7)
    return rng.uniform(size=(count, *shape)).astype("float32")


def predicted(model, images):
    """Labels that the mean logits give: none of them starts misclassified."""
    logits = [model.logits(images, i) for i in range(model.num_exits)]
    return np.mean(logits, axis=0).argmax(axis=1)


def examples(model, images, labels, seed=0, **arguments):
    """Return an `Example` of the reference for each image."""
    return [
        search_reference.Example(
            model,
            image,
            label,
            reference.bits_of_words(seed, index),
            **arguments,
        )
        for index, (image, label) in enumerate(zip(images, labels, strict=True))
    ]


def tensors(images, labels, index=None, seed=0):
    """Images, labels and keys of (seed, index)."""
    index = np.arange(len(images)) if index is None else np.asarray(index)
    keys = randomness.host_bits(seed, index).view("int32")
    return (
        ops.convert_to_tensor(np.asarray(images, "float32")),
        ops.convert_to_tensor(np.asarray(labels, "int32")),
        ops.convert_to_tensor(keys),
    )


def attacker(attack, model):
    """Return a function of (images, labels, index, seed) as NumPy arrays.

    It is compiled; a further call of the same shapes costs next to nothing.
    """
    predict = attacks.ExitLogits(model, model.num_exits)
    generate = backend.compile_function(
        lambda *batch: attack.generate(predict, *batch)[0], []
    )

    def attacked(images, labels, index=None, seed=0):
        adversarial = generate(*tensors(images, labels, index, seed))
        return ops.convert_to_numpy(adversarial)

    return attacked


class NeverFooled(attacks.AverageExits):
    """The mean over all exits, and searches go on to their end."""

    def fooled(self, logits, labels):
        return ops.zeros_like(super().fooled(logits, labels))


def final_state(attack, model, images, labels, run=0, seed=0):
    """Return the state at the end of a run, as NumPy arrays."""
    predict = attacks.ExitLogits(model, model.num_exits)

    def search(*batch):
        problem = Problem(predict, attack.objective, *batch)
        return ops.fori_loop(
            0,
            attack.num_stages(),
            lambda stage, state: attack.advance(problem, stage, state),
            attack.start(problem, run),
        )

    search = backend.compile_function(search, [])
    state = search(*tensors(images, labels, seed=seed))
    return keras.tree.map_structure(ops.convert_to_numpy, state)
