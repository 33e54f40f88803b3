"""Tiny models, data and attacks that the tests of training share.

Models have three exits and images of 8 x 8 pixels, so that compiling and
running them takes seconds. Also imported by scripts that run under another
backend or in a fresh process.
"""

import keras
import numpy as np
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd.base import randomness
from keras_neokd.optimizers import TorchSGD
from tests import arrays
from tests.arrays import array

NUM_CLASSES = 8
NUM_EXITS = 3
GAMMA = (1.0, 1.0, 1.5)
NAMES = ("exit_1", "exit_2", "exit_3")
# Weights of the terms in the loss of `neo_kd()`.
TERM_WEIGHTS = {
    "clean": np.ones(3),
    "adversarial": np.ones(3),
    "nkd": 3.0 * np.array(GAMMA),
    "eokd": 1.0 * np.array(GAMMA),
}


def neo_kd(**arguments):
    return methods.NEOKD(3.0, 1.0, exit_weights=GAMMA, **arguments)


def pgd(num_steps=1, **arguments):
    return attacks.PGD(0.1, 0.05, num_steps, **arguments)


def sgd(**arguments):
    return TorchSGD(0.05, momentum=0.9, coupled_weight_decay=5e-4, **arguments)


def data(count=12, seed=0, shape=(8, 8, 1), num_classes=NUM_CLASSES):
    """Return random images in [0, 1] and labels."""
    rng = np.random.default_rng(seed)
    images = rng.random((count, *shape)).astype("float32")
    return images, rng.integers(0, num_classes, count).astype("int32")


def nearby(images, seed=1, epsilon=0.1):
    """Return images in the open ball of `epsilon` around `images`."""
    noise = np.random.default_rng(seed).uniform(-1, 1, images.shape)
    moved = images + 0.99 * epsilon * noise
    return np.clip(moved, 0, 1).astype("float32")


def dense_model(
    num_exits=NUM_EXITS,
    num_classes=NUM_CLASSES,
    dropout=0.0,
    norm=False,
    width=6,
    **layer_arguments,
):
    """Return a model of dense layers, fast to compile."""
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    outputs = {}
    for i in range(num_exits):
        x = keras.layers.Dense(width, "relu", **layer_arguments)(x)
        if norm:
            x = _norm(f"norm_{i + 1}")(x)
        if dropout:
            x = keras.layers.Dropout(dropout, seed=i)(x)
        outputs[f"exit_{i + 1}"] = keras.layers.Dense(num_classes)(x)
    model = MultiExitModel(inputs, outputs)
    return randomized(model)


def conv_model(trainable_norm=True):
    """Return a model with convolutions and batch normalisation."""
    layers = keras.layers
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, name="conv_1")(inputs)
    x = _norm("norm_1", trainable_norm)(x)
    x = layers.ReLU()(x)
    first = layers.Dense(NUM_CLASSES, name="head_1")(layers.Flatten()(x))
    x = layers.Conv2D(6, 3, strides=2, name="conv_2")(x)
    x = _norm("norm_2", trainable_norm)(x)
    x = layers.ReLU()(x)
    x = layers.Flatten()(x)
    second = layers.Dense(NUM_CLASSES, name="head_2")(x)
    x = layers.Dense(10, "relu", name="dense")(x)
    third = layers.Dense(NUM_CLASSES, name="head_3")(x)
    model = MultiExitModel(
        inputs, {"exit_1": first, "exit_2": second, "exit_3": third}
    )
    return randomized(model)


def _norm(name, trainable=True):
    return keras.layers.BatchNormalization(
        momentum=0.9, epsilon=1e-5, name=name, trainable=trainable
    )


def randomized(model, seed=0):
    """Give a model weights that are the same on every backend."""
    rng = np.random.default_rng(seed)
    weights = []
    for variable in model.weights:
        shape = tuple(variable.shape)
        fan_in = int(np.prod(shape[:-1])) if len(shape) > 1 else 1
        value = rng.normal(size=shape) / np.sqrt(fan_in)
        if variable.path.endswith(("gamma", "variance")):
            value = rng.uniform(0.5, 1.5, shape)
        elif len(shape) == 1:
            value = 0.1 * value
        weights.append(value.astype("float32"))
    model.set_weights(weights)
    return model


def compiled(model, **arguments):
    """Compile with NEO-KD and a one-step PGD unless told otherwise."""
    model.compile(
        **{"optimizer": sgd(), "method": neo_kd(), "attack": pgd(), **arguments}
    )
    return model


def fit(model, *data, **arguments):
    """Train quietly and in order; return the logs of each epoch."""
    named = {"shuffle": False, "verbose": 0, **arguments}
    return model.fit(*data, **named).history


def evaluate(model, *data, **arguments):
    """Return the logs of a quiet evaluation."""
    return model.evaluate(*data, verbose=0, return_dict=True, **arguments)


def snapshot(model):
    """Return copies of all variables, by name: layers, then optimizer."""
    variables = list(model.variables)
    if model.compiled:
        variables += model.optimizer.variables
    return [array(each) for each in variables]


def restore(model, values):
    """Put back what `snapshot` returned, without compiling again."""
    variables = [*model.variables, *model.optimizer.variables]
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def fresh(model):
    """Build the optimizer and return the state before any training."""
    model.optimizer.build(model.trainable_variables)
    return snapshot(model)


def assert_equal_states(first, second, tolerance=0.0):
    for a, b in zip(first, second, strict=True):
        arrays.close(a, b, rtol=0, atol=tolerance)


def assert_equal_logs(first, second, tolerance=1e-6):
    assert set(first) == set(second)
    for name in first:
        arrays.close(
            first[name], second[name], rtol=0, atol=tolerance, err_msg=name
        )


class GivenImages(attacks.Attack):
    """Returns images given beforehand, one for each image of the batch."""

    def __init__(self, images, epsilon=0.1):
        super().__init__(epsilon)
        self.images = images

    def perturb(self, predict, images, labels, keys):
        return ops.convert_to_tensor(self.images), {}


class NoiseImages(attacks.Attack):
    """Returns the image plus its noise, and logs one number of the noise.

    `exit_1_noise` is the mean over examples of their first noise pixel, so
    with one example in the batch it is a number that only this example drew.
    """

    def __init__(self, epsilon=0.1):
        super().__init__(epsilon)

    def logged(self, num_exits):
        return {"noise": (0,)}

    def perturb(self, predict, images, labels, keys):
        unit = randomness.example_uniform(keys, tuple(images.shape[1:]))
        noise = self.epsilon * (2.0 * unit - 1.0)
        return images + noise, {"noise": unit[:, 0, 0, :]}


class NoiseLayer(keras.layers.Layer):
    """Adds normal noise, at inference as well."""

    def __init__(self, deviation, **arguments):
        super().__init__(**arguments)
        self.deviation = deviation
        self.seed_generator = keras.random.SeedGenerator(5)

    def call(self, inputs):
        noise = keras.random.normal(ops.shape(inputs), seed=self.seed_generator)
        return inputs + self.deviation * noise

    def compute_output_shape(self, input_shape):
        return input_shape


class LogsOfBatches(keras.callbacks.Callback):
    """Collects the logs of every batch of training."""

    def __init__(self):
        super().__init__()
        self.logs = []

    def on_train_batch_end(self, batch, logs=None):
        self.logs.append({name: float(each) for name, each in logs.items()})

    def noise(self):
        """Return the noise of every batch: logs are means of an epoch."""
        means = np.array([logs["exit_1_noise"] for logs in self.logs])
        steps = np.arange(1, len(means) + 1)
        return np.diff(means * steps, prepend=0.0)
