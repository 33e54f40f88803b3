"""Early exit for real: compute no further than each image needs.

predictor = EarlyExitPredictor(model, (0.9, 0.8))   # or "policy.json"
decision = predictor(images)
decision.label, decision.exit_index, decision.confidence
"""

import functools
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
from keras_neokd.serving import compaction


class EarlyExitPredictor:
    """Run a model stage by stage, by the thresholds of a policy.

    Each stage runs only for the images that no exit was confident about, and
    the decisions are those of `ExitPolicy.decide` on the softmax of all exits.
    A batch is packed again after every exit, see `compaction`.

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
        self.policy = ExitPolicy.of(policy, model.num_exits)
        self._shape = model.input_shape[1:]
        self._names = model.exit_names
        self._stages = [
            functools.partial(_run, _compiled(stage))
            for stage in build_stages(model)
        ]

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
        return compaction.decide(self._stages, self.policy, images, self._names)


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


def _run(stage, tensors, rows):
    """Call a compiled stage on some rows of the tensors of the one before."""
    if rows is not None:
        tensors = _take_rows(rows, list(tensors))
    probabilities, *tensors = stage(*tensors)
    return ops.convert_to_numpy(probabilities), tensors
