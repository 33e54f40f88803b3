"""Random models: every way to their logits gives the same ones."""

import itertools
import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import backend
from keras_neokd.network.frozen import FrozenNetwork
from keras_neokd.network.stages import build_stages
from keras_neokd.serving.predictor import EarlyExitPredictor
from tests import arrays
from tests.marks import slow
from tests.network import models
from tests.network.random_models import random_model
from tests.reference import equations
from tests.training import tiny

QUICK, ALL = 18, 230
SEEDS = [
    pytest.param(seed, marks=() if seed < QUICK else pytest.mark.slow)
    for seed in range(ALL)
]
IMAGES = tiny.data(4, shape=(6, 6, 1))[0]


def loaded(model, path):
    model.save(path / "model.keras")
    return keras.saving.load_model(path / "model.keras")


def from_config(model, path):
    copy = MultiExitModel.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def cloned(model, path):
    # A clone does not know the order of the exits.
    copy = MultiExitModel.from_functional(
        keras.models.clone_model(model), exit_names=model.exit_names
    )
    copy.set_weights(model.get_weights())
    return copy


def converted(model, path):
    # Its layers belong to three models now.
    return MultiExitModel.from_functional(
        keras.Model(model.input, model.output), exit_names=model.exit_names
    )


def used_elsewhere(model, path):
    other = keras.Input((6, 6, 1))
    model(other)
    model.exit_model(0)(other)
    return model


KINDS = [None, loaded, from_config, cloned, converted, used_elsewhere]


@pytest.fixture(params=SEEDS)
def model(request, tmp_path):
    with warnings.catch_warnings():
        # Random exits may well be in no order.
        warnings.filterwarnings("ignore", ".*depth order")
        model = random_model(request.param)
        kind = KINDS[request.param % len(KINDS)]
        expected = logits_of(model)
        if kind:
            model = kind(model, tmp_path)
            assert_close(logits_of(model), expected)
    return model


def logits_of(model):
    """Return Keras' logits, `(exits, batch, classes)`."""
    return np.stack(models.logits_of(model, IMAGES))


def assert_close(received, expected):
    models.assert_close(np.stack([*map(arrays.array, received)]), expected)


def gradient(predict):
    """Return the gradient of all exits' logits, differently weighted."""

    def total(images):
        return sum(
            ops.sum(ops.cos(logits) * (index + 1.0), axis=1)
            for index, logits in enumerate(predict(images))
        )

    images = ops.convert_to_tensor(IMAGES)
    return tiny.array(backend.value_and_input_gradient(total, images)[1])


def test_all_ways_to_the_logits_agree(model, monkeypatch):
    monkeypatch.setattr(backend, "has_accelerator", lambda: True)
    expected, images = logits_of(model), ops.convert_to_tensor(IMAGES)
    predict = model.exit_logits()
    frozen = predict.frozen()
    # Not the way that is taken where a network cannot be frozen.
    assert isinstance(model.frozen_network(), FrozenNetwork)
    every = range(model.num_exits)
    for size in range(1, model.num_exits + 1):
        for exits in itertools.permutations(every, size):
            if list(exits) == sorted(exits) or size == 2:
                assert_close(frozen(images, exits), expected[list(exits)])
    assert_close(gradient(frozen), gradient(predict))
    # Image `i` leaves at exit `i`.
    (logits,) = frozen.staggered(tuple(every))(images[: model.num_exits])
    assert_close(logits, expected[every, every])
    carried = [images]
    for index, stage in enumerate(build_stages(model)):
        logits, *carried = keras.tree.flatten(stage(carried, training=False))
        assert_close([logits], expected[index : index + 1])


@pytest.mark.parametrize("seed", [3, *(slow(i) for i in range(4, 24))])
@pytest.mark.filterwarnings("ignore:.*depth order")
def test_images_leave_early_with_the_logits_of_their_exit(seed):
    model = random_model(seed)
    logits = logits_of(model)
    confidence = equations.softmax(logits).max(axis=-1)
    # Half of the images leave at each exit.
    thresholds = tuple(np.median(confidence, axis=1)[:-1])
    decision = EarlyExitPredictor(model, thresholds)(IMAGES)
    leaves = confidence >= np.array([*thresholds, 0.0])[:, None]
    arrays.equal(decision.exit_index, leaves.argmax(axis=0))
    rows = np.arange(len(IMAGES))
    arrays.close(
        decision.confidence, confidence[decision.exit_index, rows], atol=1e-5
    )
