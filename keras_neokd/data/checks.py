"""Check data on the host: whole arrays at once, streams batch by batch."""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_neokd.base import checks
from keras_neokd.data import streams

_FORM = (
    "A batch needs the form (images, labels) or (images, labels, weights), "
    "each part one array:"
)


def split_labels(y):
    """Return labels and positions in the data set, each `None` if missing.

    Args:
        y: labels, or `{"label": labels, "index": positions}`; `data.sharing`
            adds "filling".

    Raises:
        ValueError: if a dict has other keys.
    """
    if not isinstance(y, dict):
        return y, None
    if "label" not in y or {*y} - {"label", "index", "filling"}:
        raise ValueError(
            "One array of labels serves all exits. Labels given as a dict "
            'need the keys "label" and "index" (the position of the example '
            f"in the data set), received {sorted(y, key=str)}."
        )
    return y["label"], y.get("index")


def checked(x, y=None, sample_weight=None, **requirements):
    """Check arrays now, or a stream while it is read.

    Args:
        x: array of images, or a stream of batches `(images, labels)` or
            `(images, labels, weights)` of a kind that `streams.with_check`
            knows.
        y: labels if `x` is an array, as in `split_labels`.
        sample_weight: weights `(batch,)` if `x` is an array, or `None`.
        **requirements: the attributes of `BatchCheck`.

    Returns:
        `x`, or a stream of the same kind that checks every batch; `y`, with
        class indices `(batch,)` if `x` is an array; and `sample_weight`, or
        the weights of the classes if there are any and `x` is an array.

    Raises:
        TypeError: if `x` is neither an array nor such a stream.
        ValueError: as `BatchCheck`.
    """
    check = BatchCheck(**requirements)
    if not hasattr(x, "shape"):
        return streams.with_check(x, check), y, sample_weight
    if tuple(np.shape(x))[:1] == (0,):
        raise ValueError(
            "At least one image is needed, received none. "
            "`keras_neokd.data.load` sets validation images apart only where "
            "`validation_size` asks for them."
        )
    batch = check((x, y, sample_weight))
    return x, _class_indices(y), batch[2]


@dataclasses.dataclass(frozen=True, eq=False)
class BatchCheck:
    """Check a batch: `check(batch)` returns it.

    Attributes:
        image_shape: expected shape of one image.
        num_classes: number of classes.
        labelled: whether labels are needed. Defaults to True.
        num_examples: size of the data set if positions in it are needed,
            else `None` (default).
        class_weights: array `(num_classes,)` of the weights that examples
            get by their labels, or `None` (default).
    """

    image_shape: tuple[int | None, ...]
    num_classes: int
    labelled: bool = True
    num_examples: int | None = None
    class_weights: np.ndarray | None = None

    def __call__(self, batch):
        """Return a batch, with weights if classes have weights.

        Args:
            batch: images, or a tuple or list of them, labels and weights.

        Raises:
            ValueError: as `checks.images_and_labels`, or as `parts`.
        """
        images, labels, index, weights = (
            None if each is None else _to_numpy(each)
            for each in self.parts(batch)
        )
        checks.images_and_labels(
            images, labels, self.image_shape, self.num_classes
        )
        if weights is not None:
            checks.sample_weights(weights, len(images))
        if self.num_examples is not None:
            checks.example_indices(index, len(images), self.num_examples)
        if self.class_weights is None:
            return batch
        if weights is not None:
            raise ValueError(
                "Give `class_weight` or weights of the examples, received both."
            )
        return *batch[:2], self.class_weights[_class_indices(labels)]

    def parts(self, batch):
        """Return images, labels, positions and weights of a batch.

        Args:
            batch: as in a call; also of descriptions of arrays.

        Raises:
            ValueError: if it has another structure, or needs labels.
        """
        if isinstance(batch, (tuple, list)) and not 1 <= len(batch) <= 3:
            raise ValueError(f"{_FORM} received {len(batch)} parts.")
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
        _check_one_array(_FORM, images)
        if labels is None and self.labelled:
            raise ValueError(
                "Labels are needed, received images alone. Give (images, "
                "labels), or batches of them."
            )
        labels, index = split_labels(labels)
        _check_one_array("One array of labels serves all exits:", labels)
        _check_one_array(
            "`sample_weight` needs one array (batch,), for all exits:", weights
        )
        return images, labels, index, weights


def _check_one_array(wanted, value):
    """Raise `ValueError` for a dict, and for a list or tuple of arrays."""
    if isinstance(value, dict):
        raise ValueError(
            f"{wanted} received a dict with the keys {sorted(value, key=str)}."
        )
    if isinstance(value, (list, tuple)) and any(
        getattr(each, "shape", ()) != () for each in value
    ):
        raise ValueError(
            f"{wanted} received a {type(value).__name__} of {len(value)}."
        )


def _class_indices(y):
    """Return checked labels as class indices, the one form of compiled steps.

    `y` is as in `split_labels`, or `None`.
    """
    labels, index = split_labels(y)
    if labels is not None:
        labels = _to_numpy(checks.class_indices(ops.convert_to_tensor(labels)))
    if index is None:
        return labels
    return {"label": labels, "index": _to_numpy(index).astype("int32")}


def _to_numpy(value):
    return np.asarray(ops.convert_to_numpy(value))
