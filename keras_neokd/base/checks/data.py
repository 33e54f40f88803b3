"""Check images, labels and what belongs to them, where they come in."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from keras_neokd.base.checks.arguments import LARGEST_CONFIDENCE
from keras_neokd.base.checks.arguments import number
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Tensor

# How far rounding and resizing take pixels out of [0, 1].
_ROUNDING = 0.01


def class_indices(labels: Tensor) -> Tensor:
    """Return integer labels `(batch,)` from any accepted form.

    Args:
        labels: tensor `(batch,)` or `(batch, 1)` of class indices, or
            one-hot `(batch, classes)`; other ranks raise `ValueError`.
    """
    if len(labels.shape) == 2:
        if labels.shape[1] == 1:
            labels = ops.squeeze(labels, axis=1)
        else:
            labels = ops.argmax(labels, axis=1)
    if len(labels.shape) != 1:
        raise ValueError(
            "Labels need shape (batch,) with class indices or (batch, "
            "classes) one-hot: one label per image, for all exits. Received "
            f"shape {tuple(labels.shape)}."
        )
    return ops.cast(labels, "int32")


def real_numbers(name: str, values: Any) -> None:
    """Raise unless values are real numbers, before they become float32.

    Args:
        name: what the values are, in the plural, for the message.
        values: array or tensor, or what NumPy makes an array of.

    Raises:
        TypeError: if they are complex (imaginary parts would be dropped), or
            texts, times or other objects.
    """
    dtype = getattr(values, "dtype", None)
    if dtype is None:
        dtype = np.asarray(values).dtype
    is_other = isinstance(dtype, np.dtype) and dtype.kind in "OSUMm"
    # As every backend writes it.
    if is_other or "complex" in str(dtype):
        raise TypeError(
            f"{name} need real numbers, received values of type {dtype}. "
            "Convert them: of complex numbers take the real part, or the "
            "absolute value."
        )


def images_and_labels(
    images: Array,
    labels: Array | None = None,
    image_shape: Sequence[int | None] | None = None,
    num_classes: int | None = None,
) -> None:
    """Check arrays before they are used.

    Args:
        images: array `(batch, height, width, channels)`, floats in [0, 1].
        labels: `None`, or an array as in `class_indices`.
        image_shape: expected shape of one image (`None` entries fit any
            size), or `None`.
        num_classes: number of classes, or `None` if unknown.

    Raises:
        TypeError: if images or labels are not real numbers.
        ValueError: if anything else is not as described.
    """
    real_numbers("Images", images)
    images = np.asarray(images)
    _check_image_shape(images.shape, image_shape)
    if images.size:
        _check_pixels(images)
    if labels is not None:
        labels = np.asarray(labels)
        if labels.ndim == 0:
            raise ValueError(
                "Labels need shape (batch,) or (batch, classes), received "
                f"the single value {labels}."
            )
        if labels.dtype.kind not in "biuf":
            raise TypeError(
                "Labels need class indices, received values of type "
                f"{labels.dtype}."
            )
        if len(labels) != len(images):
            raise ValueError(
                "Images and labels need the same number of examples, "
                f"received {len(images)} images and {len(labels)} labels."
            )
        _check_labels(labels, num_classes)


def confidences(values: Array) -> None:
    """Raise `ValueError` unless values are softmax probabilities.

    Args:
        values: array `(examples, exits)`.
    """
    # NaN passes no comparison.
    if values.size and not (
        0 <= values.min() <= values.max() <= LARGEST_CONFIDENCE
    ):
        raise ValueError(
            "A policy needs softmax probabilities, from 0 to 1, received "
            f"{_summary(values)}. Logits need a softmax first; NaN comes from "
            "a model that diverged."
        )


def sample_weights(weights: Any, num_examples: int) -> None:
    """Raise unless weights are one finite real number per example.

    Raises:
        TypeError: if they are not real numbers.
        ValueError: if their number or a value is wrong.
    """
    real_numbers("Sample weights", weights)
    weights = np.asarray(weights)
    if weights.size != num_examples:
        raise ValueError(
            "`sample_weight` needs one number per example, for all exits: "
            f"expected {num_examples}, received shape {weights.shape}."
        )
    if not np.isfinite(weights).all():
        raise ValueError(
            "`sample_weight` needs finite numbers, received NaN or infinity."
        )


def class_weights(weights: Any, num_classes: int) -> Array | None:
    """Return the weights of all classes as a float32 array, or `None`.

    Args:
        weights: dict from class indices to finite numbers >= 0, where other
            classes have the weight 1; or `None`.
        num_classes: number of classes.

    Raises:
        TypeError: if it is no such dict.
        ValueError: if it names a class that does not exist.
    """
    if weights is None:
        return None
    if not isinstance(weights, dict):
        raise TypeError(
            "`class_weight` needs a dict from class indices to weights, "
            f"received {type(weights).__name__}."
        )
    table = np.ones(num_classes, "float32")
    for label, weight in weights.items():
        name = f"class_weight[{label!r}]"
        if label not in range(num_classes):
            raise ValueError(
                "`class_weight` needs class indices from 0 to "
                f"{num_classes - 1} as keys, received {name}."
            )
        table[int(label)] = number(name, weight, minimum=0)
    return table


def example_indices(indices: Any, batch_size: int, num_examples: int) -> None:
    """Raise `ValueError` unless each example has a position in the data set.

    Args:
        indices: integers `(batch,)`, or `None`.
        batch_size: number of examples of the batch.
        num_examples: size of the data set.
    """
    if indices is None:
        raise ValueError(
            "This method keeps something for every example, so labels need "
            'the form {"label": labels, "index": positions in the data set}, '
            "received labels alone. `keras_neokd.data.TrainingBatches(..., "
            "with_index=True)` gives them."
        )
    if (
        np.shape(indices) != (batch_size,)
        or np.asarray(indices).dtype.kind not in "iu"
        or np.min(indices, initial=0) < 0
        or np.max(indices, initial=0) >= num_examples
    ):
        raise ValueError(
            '"index" needs one integer per example, from 0 to '
            f"{num_examples - 1} (num_examples={num_examples}); received "
            f"{_summary(np.asarray(indices))}."
        )


def _summary(values: Array) -> str:
    if not values.size:
        return f"shape {values.shape}"
    return (
        f"shape {values.shape}, type {values.dtype}, values from "
        f"{values.min()} to {values.max()}"
    )


def _check_image_shape(
    shape: tuple[int, ...], image_shape: Sequence[int | None] | None
) -> None:
    names = ("height", "width", "channels")
    expected = [
        name if size is None else size
        for name, size in zip(names, image_shape or (None,) * 3, strict=True)
    ]
    fits = len(shape) == 4 and all(
        want in (name, have)
        for name, want, have in zip(names, expected, shape[1:], strict=True)
    )
    if not fits:
        wanted = ", ".join(map(str, expected))
        raise ValueError(
            f"Images need shape (batch, {wanted}), received {tuple(shape)}."
        )
    if 0 in shape[1:]:
        raise ValueError(
            "Images need at least one pixel and one channel, received shape "
            f"{tuple(shape)}."
        )


def _check_pixels(images: Array) -> None:
    low, high = images.min(), images.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        finite = np.isfinite(images).reshape(len(images), -1).all(axis=1)
        raise ValueError(
            "Images need finite pixels, received NaN or infinity in "
            f"{np.sum(~finite)} of {len(images)} images."
        )
    if low < 0 or high > 1:
        raise ValueError(
            "Images need pixels in [0, 1], because epsilon is measured in "
            f"these units; received values from {low} to {high}. "
            f"{remedy_of_pixels(low, high)}"
        )


def remedy_of_pixels(low: float, high: float) -> str:
    """Return advice on pixels outside of [0, 1], from `low` to `high`."""
    if low >= -_ROUNDING and high <= 1 + _ROUNDING:
        return (
            "So little outside comes from rounding or resizing: clip the "
            "images, for example with numpy.clip(images, 0, 1)."
        )
    if low >= 0 and high > 2:
        return "Divide 8-bit images by 255."
    return (
        "Move any mean or standard deviation into the model as a "
        "keras.layers.Normalization, and clip what resizing or augmentation "
        "has taken out of the range."
    )


def _check_labels(labels: Array, num_classes: int | None) -> None:
    if labels.ndim == 2 and labels.shape[1] > 1:
        _check_one_hot(labels, num_classes)
        return
    if labels.ndim not in (1, 2):
        raise ValueError(
            "Labels need shape (batch,) with class indices or (batch, "
            f"classes) one-hot, received {labels.shape}."
        )
    if labels.size == 0:
        return
    if not np.all(np.equal(np.mod(labels, 1), 0)):
        raise ValueError(
            "Labels need class indices, received fractional values such as "
            f"{labels[np.mod(labels, 1) != 0].flat[0]}."
        )
    limit = np.inf if num_classes is None else num_classes
    if labels.min() < 0 or labels.max() >= limit:
        wanted = "0 or more" if num_classes is None else f"0 to {limit - 1}"
        raise ValueError(
            f"Labels need class indices from {wanted}, received values from "
            f"{labels.min()} to {labels.max()}."
        )


def _check_one_hot(labels: Array, num_classes: int | None) -> None:
    if num_classes is not None and labels.shape[1] != num_classes:
        raise ValueError(
            f"One-hot labels need {num_classes} columns, one per class, "
            f"received {labels.shape[1]}."
        )
    if not (np.isin(labels, (0, 1)).all() and (labels.sum(axis=1) == 1).all()):
        raise ValueError(
            "Labels of shape (batch, classes) need to be one-hot: a single 1 "
            "in each row. Soft labels are not supported, because EOKD needs "
            "to know the true class."
        )
