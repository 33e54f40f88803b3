"""Evaluations in a row, of a model that is new in each step.

By public names of the library only.
"""

import keras
import numpy as np

from benchmarks.work import workloads
from keras_neokd import attacks
from keras_neokd import evaluation
from keras_neokd import models

_WORKLOAD = workloads.WORKLOADS["small_cnn"]
# Made before the steps that are timed; further ones are made within them.
_MODELS = 16


def _searched(*given):
    *data, attack, size = given
    search = attacks.APGD(attack.epsilon, attack.num_steps)
    return evaluation.search(*data, search, size).fooled_by


# Functions of model, images, labels, attack and batch size, to numbers.
MEASUREMENTS = {
    "anytime": lambda *given: evaluation.anytime(*given).ranks,
    "search": _searched,
    "transferability": lambda *given: (
        evaluation.transferability(*given[:-1], batch_size=given[-1]).matrix
    ),
    "sensitivity": lambda *given: (
        evaluation.sensitivity(
            *given[:-1], "num_steps", (1, 2, 4), given[-1]
        ).accuracy
    ),
    "local_linearity": lambda *given: (
        evaluation.local_linearity(
            *given[:3], given[3].epsilon, batch_size=given[4], num_steps=5
        ).deviations
    ),
    "smoothing": lambda *given: (
        evaluation.certify(*given[:3], 0.25, 10, 40, batch_size=50).lower_bounds
    ),
}


class KerasRepeats:
    """Measure an untrained SmallCNN some times in a row.

    Args:
        measurement: a key of `MEASUREMENTS`.
        count: times in a row, for the same result.
        batch_size: number of images.
        attack_steps: PGD steps.
    """

    def __init__(self, measurement, count, batch_size, attack_steps):
        self._measure, self._count = MEASUREMENTS[measurement], count
        self._size = batch_size
        self._attack = attacks.PGD(
            _WORKLOAD.epsilon, _WORKLOAD.step_size, attack_steps
        )
        self._models = [_model() for _ in range(_MODELS)]
        shape = (batch_size, *_WORKLOAD.image_shape)
        images = np.random.default_rng(0).random(shape, "float32")
        self._data = images, np.zeros(batch_size, "int32")

    def step(self):
        """Measure a new model, `count` times."""
        model = self._models.pop() if self._models else _model()
        given = model, *self._data, self._attack, self._size
        for _ in range(self._count):
            result = self._measure(*given)
        return np.ravel(result)


def _model():
    """Return a model all of whose exits say class 0 of random images."""
    keras.utils.set_random_seed(0)
    model = _WORKLOAD.build(models)
    for each in model.weights:
        if tuple(each.shape) == (_WORKLOAD.num_classes,):
            each.assign(2.0 * np.eye(1, _WORKLOAD.num_classes)[0])
    return model
