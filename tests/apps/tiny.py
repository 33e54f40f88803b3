"""A config that trains within seconds, and what tests do with its runs."""

import keras
import numpy as np

from apps import building
from apps.workdir import Workdir
from configs import digits
from tests.training.tiny import randomized


def tiny_config(variant="neo_kd"):
    config = digits.get_config(variant)
    config.data.update({"num_train": 48, "num_test": 24, "batch_size": 16})
    config.attack.update({"name": "average", "num_steps": 1})
    config.train.epochs = 3
    config.evaluate.update({"num_steps": 1, "batch_size": 16})
    return config


def quick_config():
    """Return a config without an attack, where the method does not matter."""
    return tiny_config("clean_training")


def without_time(row):
    """Return an epoch's row of the history but for what no two runs share."""
    times = ("seconds", "images_per_second", "data_share")
    return {name: row[name] for name in row if name not in times}


def leaning_model(label=6):
    """Return a model that is right about some images, of the class it likes."""
    # Not as it is built: SmallCNN's last layer begins with zeros.
    model = randomized(building.build_model(tiny_config()), 0)
    for variable in model.trainable_variables:
        if tuple(variable.shape) == (10,):
            variable.assign(np.eye(10)[label])
    return model


def untrained_run(path):
    """Make the folder of a run; its model is right about some images."""
    run = Workdir(path)
    run.begin(tiny_config(), None)
    leaning_model().save(run.model)
    return run.path


class Killed(BaseException):
    """Stands for a process that ends at the worst moment."""


def kill(*arguments, **named):
    raise Killed


def weights_of(path):
    """Return the arrays in a file, those of the optimizer too."""
    model = keras.saving.load_model(path)
    variables = [*model.weights, *model.optimizer.variables]
    return [keras.ops.convert_to_numpy(variable) for variable in variables]


def history_of(run):
    return [without_time(row) for row in run.read_history()]


def assert_same_model(run, whole):
    for ours, theirs in zip(
        weights_of(run.model), weights_of(whole.model), strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)


def assert_same_end(run, whole):
    assert_same_model(run, whole)
    assert history_of(run) == history_of(whole)
