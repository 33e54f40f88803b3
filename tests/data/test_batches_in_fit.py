"""Which epoch Keras' loop draws its batches for, on the backend in use.

Keras asks for batches before training (to learn their shapes and to build the
model), prepares some of the next pass before the epoch ends, and reports ends
of epochs that never began. None of it may reach the examples trained on.
"""

import keras
import numpy as np
import pytest

from keras_neokd import data


class RecordingModel(keras.Model):
    """Keeps what each training step received; runs eagerly."""

    def __init__(self, size):
        super().__init__()
        self.dense = keras.layers.Dense(1)
        self.size = size
        self.epochs_seen = []

    def call(self, x):
        return self.dense(keras.ops.reshape(x, (-1, 1)))

    def train_step(self, *args):
        images = keras.ops.convert_to_numpy(args[-1][0])
        self.epochs_seen[-1].append(numbers(images, self.size))
        return super().train_step(*args)


def numbers(images, size):
    return np.rint(images.ravel() * size).astype(int).tolist()


class NewEpoch(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        self.model.epochs_seen.append([])


def numbered_split(size):
    """Each image is one pixel that tells its number."""
    images = np.arange(size, dtype="float32").reshape(size, 1, 1, 1) / size
    return data.Split(images, np.zeros(size, "int32"), np.arange(size))


def expected_epochs(split, batch_size, epochs):
    batches = data.TrainingBatches(split, batch_size)
    result = []
    for epoch in epochs:
        batches.set_epoch(epoch)
        result.append([numbers(images, len(split)) for images, _ in batches])
    return result


def fit(model, batches, *callbacks, **arguments):
    model.fit(
        batches,
        shuffle=False,
        verbose=0,
        callbacks=[NewEpoch(), *callbacks],
        **arguments,
    )


def compiled_model(size):
    model = RecordingModel(size)
    model.compile("sgd", "mse", metrics=["mae"], run_eagerly=True)
    return model


@pytest.mark.parametrize(
    ("size", "batch_size"), [(10, 3), (12, 4), (4, 3), (3, 1), (3, 3)]
)
def test_with_the_callback_every_batch_is_of_the_epoch_of_fit(size, batch_size):
    split = numbered_split(size)
    batches = data.TrainingBatches(split, batch_size)
    model = compiled_model(size)
    validation = data.EvaluationBatches(split, batch_size)
    for arguments in (
        {"epochs": 5, "initial_epoch": 3},  # As a resumed run begins.
        {"epochs": 3, "validation_data": validation},
        {"epochs": 5, "initial_epoch": 3, "validation_data": validation},
        {"epochs": 2},
    ):
        fit(model, batches, data.SetEpoch(batches), **arguments)
    order = [3, 4, 0, 1, 2, 3, 4, 0, 1]
    expected = expected_epochs(split, batch_size, order)
    assert model.epochs_seen == expected


@pytest.mark.parametrize(("size", "batch_size"), [(10, 3), (12, 4), (3, 1)])
def test_without_the_callback_the_epoch_counts_up_from_where_it_was_set(
    size, batch_size
):
    split = numbered_split(size)
    batches = data.TrainingBatches(split, batch_size)
    model = compiled_model(size)
    batches.set_epoch(2)
    fit(model, batches, epochs=4, initial_epoch=2)
    assert batches.epoch == 4
    fit(model, batches, epochs=2)
    expected = expected_epochs(split, batch_size, [2, 3, 4, 5])
    assert model.epochs_seen == expected


def test_a_pass_that_was_left_early_is_no_epoch():
    batches = data.TrainingBatches(numbered_split(10), 3)
    batches.on_epoch_begin()
    _ = batches[0], batches[1]
    batches.on_epoch_end()
    batches.on_epoch_end()
    assert batches.epoch == 0
    batches.on_epoch_begin()
    _ = [batches[index] for index in range(4)]
    batches.on_epoch_end()
    assert batches.epoch == 1


def test_batches_feed_evaluate_with_the_last_partial_batch():
    split = numbered_split(10)
    model = compiled_model(10)
    images, labels = split.arrays()
    batches = data.EvaluationBatches(split, batch_size=4)
    by_batches = model.evaluate(batches, verbose=0)
    at_once = model.evaluate(images, labels, batch_size=10, verbose=0)
    np.testing.assert_allclose(by_batches, at_once, rtol=1e-5)
