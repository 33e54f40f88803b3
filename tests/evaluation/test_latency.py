"""Latency and throughput: who is called, in which order, by a clock of ours."""

import math

import keras
import numpy as np
import pytest

from keras_neokd import MultiExitModel
from keras_neokd import evaluation
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.evaluation import latency
from tests import arrays
from tests.training import tiny

IMAGES, _ = tiny.data(7)
SLOW_FIRST_CALL = 1000.0


class Clock:
    """A clock that only those move who are timed."""

    def __init__(self):
        self.now = 0.0

    def perf_counter(self):
        return self.now


class Recorder:
    """Stands in for what is timed: notes its calls, and takes its time."""

    def __init__(self, name, seconds, clock, calls):
        self.name = name
        self.seconds = seconds
        self.clock = clock
        self.calls = calls
        self.num_calls = 0

    def __call__(self, images):
        self.calls.append((self.name, images))
        self.num_calls += 1
        is_first = self.num_calls == 1
        self.clock.now += SLOW_FIRST_CALL if is_first else self.seconds


@pytest.fixture
def timed(monkeypatch):
    """Replace predictors and the clock; returns the list of calls.

    A policy by whose last bound images leave at exit i takes i + 1 seconds,
    and the last exit alone 10.
    """
    clock, calls = Clock(), []

    def predictor(model, policy):
        stays = [math.isinf(each) for each in policy.thresholds]
        name = sum(stays)
        assert stays == [True] * name + [False] * (len(stays) - name)
        return Recorder(name, name + 1, clock, calls)

    monkeypatch.setattr(latency, "time", clock)
    monkeypatch.setattr(latency, "EarlyExitPredictor", predictor)
    monkeypatch.setattr(
        latency, "_last_exit", lambda model: Recorder("last", 10, clock, calls)
    )
    return calls


@pytest.fixture(scope="module")
def model():
    return tiny.dense_model()


def test_exits_are_timed_in_turns_with_single_images(model, timed):
    seconds = evaluation.exit_latency(model, IMAGES, num_calls=4)
    # What the first, slow calls took is not in it.
    arrays.equal(seconds, [[1] * 4, [2] * 4, [3] * 4])
    assert [name for name, _ in timed] == [0, 1, 2] * 9
    for call, (_, image) in enumerate(timed):
        place = call // 3 % len(IMAGES)
        arrays.equal(image, IMAGES[place : place + 1])


def test_throughput_by_hand(model, timed):
    policy = ExitPolicy((math.inf, 0.0))
    early, full = evaluation.throughput(
        model, policy, IMAGES, batch_size=3, num_rounds=2
    )
    # Two whole batches of 3 images; the policy's take 2 s each, the others'
    # 10 s. A seventh image would be a batch of another size.
    assert (early, full) == (6 / 4, 6 / 20)
    names = [name for name, _ in timed]
    assert names == [1, 1, "last", "last"] * 3
    assert {len(images) for _, images in timed} == {3}


@pytest.mark.parametrize(("count", "size"), [(7, 7), (130, 64)])
def test_a_batch_is_64_images_or_all_of_fewer(model, timed, count, size):
    images = np.resize(IMAGES, (count, *IMAGES.shape[1:]))
    evaluation.throughput(model, ExitPolicy((0.5, 0.5)), images, num_rounds=1)
    assert {len(batch) for _, batch in timed} == {size}


def test_a_model_is_really_run(model):
    seconds = evaluation.exit_latency(model, IMAGES, num_calls=2)
    assert seconds.shape == (3, 2)
    assert (seconds > 0).all()
    speeds = evaluation.throughput(
        model, ExitPolicy((0.5, 0.5)), IMAGES, batch_size=7, num_rounds=1
    )
    assert all(speed > 0 for speed in speeds)


def test_the_last_exit_alone_is_the_last_exit(model):
    predictions = model.predict(IMAGES, verbose=0)["exit_3"]
    arrays.equal(latency._last_exit(model)(IMAGES), predictions.argmax(axis=1))


def test_a_model_of_one_exit_has_one_row(timed):
    inputs = keras.Input((8, 8, 1))
    output = keras.layers.Dense(3)(keras.layers.Flatten()(inputs))
    model = MultiExitModel(inputs, [output])
    assert evaluation.exit_latency(model, IMAGES, 2).shape == (1, 2)


def test_bad_arguments_are_refused_in_words(model):
    with pytest.raises(ValueError, match="`num_calls` needs an integer >= 1"):
        evaluation.exit_latency(model, IMAGES, 0)
    with pytest.raises(ValueError, match="no images to time"):
        evaluation.exit_latency(model, IMAGES[:0])
    policy = ExitPolicy((0.5, 0.5))
    with pytest.raises(ValueError, match="no images to time"):
        evaluation.throughput(model, policy, IMAGES[:0])
    for size, message in ((0, ">= 1, received 0"), (8, "at most the 7 images")):
        with pytest.raises(ValueError, match=message):
            evaluation.throughput(model, policy, IMAGES, batch_size=size)
    with pytest.raises(ValueError, match="`num_rounds` needs an integer"):
        evaluation.throughput(model, policy, IMAGES, 7, num_rounds=0)
    with pytest.raises(ValueError, match="1 thresholds are for a model of 2"):
        evaluation.throughput(model, ExitPolicy((0.5,)), IMAGES, 7)
