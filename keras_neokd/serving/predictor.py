"""Early exit for real: compute no further than each image needs.

predictor = EarlyExitPredictor(model, (0.9, 0.8))   # or "policy.json"
decision = predictor(images)
decision.label, decision.exit_index, decision.confidence
"""

import math
import os
from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd.base import checks
from keras_neokd.base.exit_policy import Decision
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import PathLike
from keras_neokd.network.multi_exit import MultiExitModel
from keras_neokd.network.stages import build_stages


class EarlyExitPredictor:
    """Run a model stage by stage, by the thresholds of a policy.

    Each stage runs only for the images that no exit was confident about, and
    the decisions are those of `ExitPolicy.decide` on the softmax of all exits.
    A batch is packed again after every exit: the undecided images go on in a
    batch of 1, 2, 4, 8, 16, 24 and so on (see `padded_size`), so that few
    shapes are compiled and little is computed for nothing.

    Args:
        model: a `MultiExitModel`; weights are shared with it.
        policy: an `ExitPolicy`, its thresholds, or the path of its file.

    Raises:
        TypeError: if the model is something else.
        ValueError: if the policy is for another number of exits.
    """

    def __init__(
        self,
        model: MultiExitModel,
        policy: ExitPolicy | Sequence[float | None] | PathLike,
    ) -> None:
        if not isinstance(model, MultiExitModel):
            raise TypeError(
                "An early exit needs a MultiExitModel, received "
                f"{model!r}. Convert a model with "
                "MultiExitModel.from_functional."
            )
        if isinstance(policy, (str, os.PathLike)):
            policy = ExitPolicy.load(policy)
        elif not isinstance(policy, ExitPolicy):
            policy = ExitPolicy(policy)
        policy.check(model.num_exits)
        self.policy = policy
        self._shape = model.input_shape[1:]
        self._names = model.exit_names
        self._stages = [_compiled(stage) for stage in build_stages(model)]

    def __call__(self, images: Array) -> Decision:
        """Return a `Decision` of NumPy arrays for a batch.

        Args:
            images: float array `(batch, height, width, channels)` in [0, 1];
                an empty batch is allowed.

        Raises:
            TypeError: if the images are not real numbers.
            ValueError: if the images are not as described, or the model
                returns NaN.
        """
        checks.real_numbers("Images", images)
        images = np.asarray(images, "float32")
        if len(images):
            checks.images_and_labels(images, image_shape=self._shape)
        count = len(images)
        decision = Decision(
            np.zeros(count, "int64"),
            np.zeros(count, "int64"),
            np.zeros(count, "float32"),
        )
        rows, votes = np.arange(count), 0.0
        # What a stage hands on stays on its device; `places` are the rows of
        # it that undecided images have.
        tensors, places = [images], rows
        bounds = (*self.policy.thresholds, -math.inf)
        for index, (stage, bound) in enumerate(
            zip(self._stages, bounds, strict=True)
        ):
            if not len(rows):
                break
            probabilities, tensors = _run(stage, tensors, places)
            self._check_finite(probabilities, index)
            before = votes if self.policy.ensemble else 0.0
            votes = before + probabilities
            confidence = probabilities.max(axis=1)
            leaves = confidence >= np.float32(bound)
            decision.exit_index[rows[leaves]] = index
            decision.label[rows[leaves]] = votes[leaves].argmax(axis=1)
            decision.confidence[rows[leaves]] = confidence[leaves]
            stays = ~leaves
            rows, votes = rows[stays], votes[stays]
            places = np.flatnonzero(stays)
        return decision

    def _check_finite(self, probabilities, index):
        broken = int(np.isnan(probabilities).any(axis=1).sum())
        if broken:
            raise ValueError(
                f"Exit {self._names[index]!r} returned NaN for {broken} of "
                f"{len(probabilities)} images, so there is nothing to predict."
            )


def padded_size(count):
    """Return the size of the batch for a number >= 1 of undecided images.

    A power of 2 up to 8; then multiples of 8 up to 64, of 16 up to 128, and
    so on: an eighth of the next power of 2.
    """
    power = 1 << (count - 1).bit_length()
    step = max(power // 8, min(power, 8))
    return -(-count // step) * step


def _compiled(stage):
    def compute(*tensors):
        tensors = [ops.convert_to_tensor(each) for each in tensors]
        logits, *rest = _as_list(stage(tensors, training=False))
        return [ops.softmax(ops.cast(logits, "float32"), axis=-1), *rest]

    return backend.compile_function(compute, stage.variables)


def _rows(places, tensors):
    # In a list: TensorFlow cannot tell calls with other numbers of arguments
    # from calls with other shapes.
    return [ops.take(each, places, axis=0) for each in tensors]


# One call for all tensors: called one by one, operations cost more than the
# rows they copy.
_take_rows = backend.compile_function(_rows, [])


def _as_list(outputs):
    return list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]


def _run(stage, tensors, places):
    """Call a compiled stage on some rows of the tensors of the one before.

    Returns the softmax of the exit for these rows, in NumPy, and the tensors
    that the stage hands on, padding included.
    """
    count = len(places)
    padded = places[np.minimum(np.arange(padded_size(count)), count - 1)]
    if not np.array_equal(padded, np.arange(len(tensors[0]))):
        tensors = _take_rows(padded, list(tensors))
    probabilities, *tensors = stage(*tensors)
    return ops.convert_to_numpy(probabilities)[:count], tensors
