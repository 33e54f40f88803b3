"""Measure the time that early exits save.

seconds = exit_latency(model, images)        # (exits, calls), one image each
np.percentile(seconds, (50, 90, 99), axis=1)
early, full = throughput(model, policy, images)     # images per second
"""

import math
import time

import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd.base import checks
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.base.typing import Array
from keras_neokd.evaluation import batches
from keras_neokd.network.multi_exit import MultiExitModel
from keras_neokd.serving.predictor import EarlyExitPredictor

# The first calls compile, and fill caches.
_WARM_UP = 5
_BATCH_SIZE = 64


def exit_latency(
    model: MultiExitModel, images: Array, num_calls: int = 100
) -> Array:
    """Return seconds of single images that leave at each exit.

    The array is `(exits, num_calls)`.

    The exits take their calls in turns, so that other work of the computer
    slows down all of them.

    Args:
        model: a `MultiExitModel`.
        images: array `(examples, height, width, channels)` in [0, 1].
        num_calls: calls per exit. Defaults to 100.

    Raises:
        TypeError: if the model is something else.
        ValueError: if the images are not as described.
    """
    _check(model, images)
    num_calls = checks.integer("num_calls", num_calls, minimum=1)
    count = model.num_exits
    policies = [
        ExitPolicy([math.inf] * exit + [0.0] * (count - 1 - exit))
        for exit in range(count)
    ]
    predictors = [EarlyExitPredictor(model, each) for each in policies]
    seconds = np.zeros((count, num_calls + _WARM_UP))
    for call in range(num_calls + _WARM_UP):
        image = images[call % len(images)][None]
        for exit, predictor in enumerate(predictors):
            start = time.perf_counter()
            predictor(image)
            seconds[exit, call] = time.perf_counter() - start
    return seconds[:, _WARM_UP:]


def throughput(
    model: MultiExitModel,
    policy: ExitPolicy,
    images: Array,
    batch_size: int | None = None,
    num_rounds: int = 5,
) -> tuple[float, float]:
    """Return images per second with a policy, and with the last exit alone.

    Args:
        model: a `MultiExitModel`.
        policy: an `ExitPolicy`.
        images: array `(examples, height, width, channels)` in [0, 1].
        batch_size: images per call, at most those that there are. None
            (default) for 64, or for all where there are fewer.
        num_rounds: times that both go through all images, in turns; the
            medians are returned. Defaults to 5.

    Raises:
        ValueError: if there are no images, or fewer than a batch.
    """
    _check(model, images)
    if batch_size is None:
        batch_size = min(_BATCH_SIZE, len(images))
    checks.integer("batch_size", batch_size, minimum=1)
    checks.integer("num_rounds", num_rounds, minimum=1)
    if batch_size > len(images):
        raise ValueError(
            f"`batch_size` needs at most the {len(images)} "
            f"images that there are, received {batch_size}."
        )
    variants = (EarlyExitPredictor(model, policy), _last_exit(model))
    # Whole batches only: another size would be compiled within a round.
    count = len(images) // batch_size * batch_size
    seconds = np.zeros((2, num_rounds + 1))
    for round_ in range(num_rounds + 1):
        for number, variant in enumerate(variants):
            start = time.perf_counter()
            for first in range(0, count, batch_size):
                variant(images[first : first + batch_size])
            seconds[number, round_] = time.perf_counter() - start
    # The first round compiles.
    return tuple(count / np.median(seconds[:, 1:], axis=1))


def _last_exit(model):
    """Return a function that predicts with the last exit alone."""
    predict, last = model.exit_logits(), model.num_exits - 1

    def compute(images):
        logits = predict(ops.convert_to_tensor(images), (last,))[0]
        return ops.softmax(logits, axis=-1)  # As the policy computes it.

    compiled = backend.compile_function(compute, model.variables)
    return lambda images: ops.convert_to_numpy(compiled(images)).argmax(axis=1)


def _check(model, images):
    batches.check_model(model)
    checks.images_and_labels(images, image_shape=model.input_shape[1:])
    if not len(images):
        raise ValueError("There are no images to time: received 0.")
