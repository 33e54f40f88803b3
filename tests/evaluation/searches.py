"""A small model and quick attacks, for the tests of searches."""

import keras
import numpy as np
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd.attacks import search
from keras_neokd.base import randomness
from tests.training import tiny

IMAGES, _ = tiny.data(24, shape=(4, 4, 1))
NUM_WRONG = 4
NAMES = ("exit_1", "exit_2")


def small_model(seed=2, dtype=None):
    """Return a model whose answers are of many classes, and easy to change.

    `dtype` is the precision of its inner layers.
    """
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Rescaling(4.0, offset=-2.0)(inputs)
    x = keras.layers.Flatten()(x)
    exits = []
    for _ in NAMES:
        x = keras.layers.Dense(12, "relu", dtype=dtype)(x)
        exits.append(keras.layers.Dense(tiny.NUM_CLASSES)(x))
    return tiny.randomized(MultiExitModel(inputs, exits), seed)


def labels_of(model):
    """Return the last exit's answers; for the first images, nobody's."""
    logits = model.predict(IMAGES, verbose=0)
    labels = logits["exit_2"].argmax(axis=1)
    unlikely = np.sum([logits[name] for name in NAMES], axis=0)
    labels[:NUM_WRONG] = unlikely[:NUM_WRONG].argmin(axis=1)
    return labels.astype("int32")


@keras.saving.register_keras_serializable("tests_of_searches")
class Walk(search.SearchAttack):
    """Random steps in two rounds per attempt: a search, quick to compile."""

    def __init__(self, epsilon, num_restarts=2, objective=None):
        super().__init__(epsilon, "linf", objective, num_restarts)

    def num_rounds(self):
        return 2

    def start(self, problem, attempt):
        state = search.fresh_state(problem.images)
        return {**state, "keys": randomness.bits(problem.keys, attempt)}

    def advance(self, problem, round_, state):
        keys = randomness.bits(state["keys"], round_)
        shape = problem.images.shape[1:]
        noise = 2.0 * randomness.example_uniform(keys, shape) - 1.0
        images = problem.images + self.epsilon * ops.sign(noise)
        images = ops.clip(images, 0.0, 1.0)
        fooled = problem.fooled(problem.logits(images))
        return {**state, **search.keep_fooled(state, images, fooled)}


def walk_and_pgd():
    """Return attacks of both kinds, each of which fools some images."""
    return attacks.WorstCase(
        [tiny.pgd(1, random_start=False), Walk(0.2), tiny.pgd(3)]
    )
