"""Evaluation on two devices against one, the last batch uneven."""

import contextlib

import keras
import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd import evaluation
from keras_neokd.evaluation import searching
from tests import arrays
from tests.distributed import needs_two_devices
from tests.distributed import two_devices
from tests.training import tiny

pytestmark = needs_two_devices

# Batches of 5, 5 and 3, none of which two devices can divide.
IMAGES, LABELS = tiny.data(13)
BATCH_SIZE = 5


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A network that has learned something to lose."""
    path = tmp_path_factory.mktemp("model") / "model.keras"
    model = tiny.compiled(tiny.dense_model(), optimizer="adam")
    model.fit(IMAGES, LABELS, epochs=60, verbose=0)
    model.save(path)
    return path


def both(path, evaluate):
    results = []
    for scope in (contextlib.nullcontext(), two_devices()):
        with scope:
            model = keras.saving.load_model(path, compile=False)
            results.append(evaluate(model))
    return results


@pytest.mark.parametrize(
    "attack",
    [None, tiny.pgd(4), attacks.MaxAverage(tiny.pgd(4))],
    ids=["clean", "average", "max_average"],
)
def test_answers_are_those_of_one_device(path, attack):
    one, two = both(
        path,
        lambda model: evaluation.anytime(
            model, IMAGES, LABELS, attack, BATCH_SIZE
        ),
    )
    assert one.ranks.shape == (13, 3)
    arrays.equal(one.ranks, two.ranks)
    assert 0 < one.accuracy().mean()
    assert set(one.info) == set(two.info)


def test_attacked_images_and_probabilities_are_those_of_one_device(path):
    def evaluate(model):
        evaluator = evaluation.Evaluator(model, tiny.pgd(4), BATCH_SIZE)
        return (
            evaluator.adversarial_images(IMAGES, LABELS),
            evaluator.probabilities(IMAGES, LABELS),
        )

    for one, two in zip(*both(path, evaluate), strict=True):
        arrays.close(one, two, rtol=0, atol=1e-4)


def test_searches_are_those_of_one_device(path):
    one, two = both(
        path,
        lambda model: searching.search(
            model, IMAGES, LABELS, attacks.APGD(0.3, num_steps=8), BATCH_SIZE
        ),
    )
    assert (one.fooled_by >= 0).any()
    arrays.equal(one.fooled_by, two.fooled_by)
    arrays.close(one.adversarial, two.adversarial, rtol=0, atol=1e-4)


def test_each_device_gets_its_part_of_the_examples():
    """Three of five: the last one twice, and its result thrown away."""
    parts = []

    def function(images, number):
        if keras.config.backend() == "jax":
            import jax

            jax.debug.inspect_array_sharding(
                images,
                callback=lambda found: parts.append(
                    found.shard_shape(images.shape)
                ),
            )
        else:
            import tensorflow as tf

            size = tf.shape(images)
            noted = tf.numpy_function(
                lambda size: parts.append(tuple(size)) or True, [size], tf.bool
            )
            with tf.control_dependencies([noted]):
                images = tf.identity(images)
        return {"sum": images[:, 0] + number}

    images = np.arange(10, dtype="float32").reshape(5, 2)
    with two_devices():
        compiled = backend.compile_per_example(function, [])
        found = compiled(images, np.array(1.0, "float32"))["sum"]
    assert set(parts) == {(3, 2)}
    arrays.equal(found, images[:, 0] + 1)
