"""Check examples and run compiled steps on them, in batches of one shape.

    images, labels = batches.check(model, images, labels, batch_size)
    outputs = batches.over_examples(step, images, labels, batch_size)

The last, shorter batch is padded, and the results for the padding are dropped.
"""

from typing import Any

import keras
import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd import losses
from keras_neokd.base import checks
from keras_neokd.base.typing import Array
from keras_neokd.network.multi_exit import MultiExitModel


def check(model, images, labels, batch_size):
    """Return float32 images and int32 labels `(examples,)`, in NumPy.

    Args:
        model, images, labels, batch_size: as for `anytime`.

    Raises:
        TypeError: if `model` is something else, or the data are not real
            numbers.
        ValueError: if the data is not as described.
    """
    check_model(model)
    if labels is None:
        raise ValueError("Labels are needed to score exits, received None.")
    checks.real_numbers("Images", images)
    images = np.asarray(images, "float32")
    checks.images_and_labels(
        images, labels, model.input_shape[1:], model.num_classes
    )
    checks.integer("batch_size", batch_size, minimum=1)
    if not len(images):
        raise ValueError("There are no images to evaluate: received 0.")
    labels = ops.convert_to_tensor(np.asarray(labels))
    return images, ops.convert_to_numpy(checks.class_indices(labels))


def pair(
    name: str, value: Any, model: MultiExitModel, batch_size: int
) -> tuple[Array, Array]:
    """Return checked images and labels from an argument that holds both."""
    value = checks.sequence(name, value, "images and labels")
    if len(value) != 2:
        raise ValueError(
            f"`{name}` needs images and labels, received {len(value)} values."
        )
    return check(model, value[0], value[1], batch_size)


def check_model(model):
    """Raise `TypeError` if `model` is no `MultiExitModel`."""
    if not isinstance(model, MultiExitModel):
        raise TypeError(
            f"Only a MultiExitModel has exits to evaluate, received {model!r}."
            " Convert a model with MultiExitModel.from_functional."
        )


def over_examples(step, images, labels, batch_size, verbose=0):
    """Call a step on all examples; return a dict of arrays by example.

    Args:
        step: function of images, labels and the int32 index of each example;
            returns a dict of tensors with one row per example.
        images, labels: as `check` returned them.
        batch_size: integer >= 1.
        verbose: 1 shows a progress bar. Defaults to 0.
    """

    def gathered(index):
        rows = np.minimum(index, len(images) - 1)
        return step(images[rows], labels[rows], index)

    return collect(gathered, len(images), batch_size, verbose)


def shape(images, batch_size):
    """Return the shape of all batches of images in `over_examples`."""
    return (min(batch_size, len(images)), *images.shape[1:])


def collect(step, count, batch_size, verbose=0):
    """Call a step on the numbers 0 to `count - 1`; return a dict of arrays.

    Args:
        step: function of an int32 array of numbers, always of the same
            length; returns a dict of tensors with one row per number. In the
            last batch the numbers go on beyond `count`.
        count: integer >= 1.
        batch_size: integer >= 1.
        verbose: 1 shows a progress bar. Defaults to 0.
    """
    batch_size = min(batch_size, count)
    progress = keras.utils.Progbar(-(-count // batch_size), verbose=verbose)
    collected = []
    for start in range(0, count, batch_size):
        outputs = step(np.arange(start, start + batch_size, dtype="int32"))
        collected.append(
            keras.tree.map_structure(ops.convert_to_numpy, outputs)
        )
        progress.add(1)
    return {
        name: np.concatenate([each[name] for each in collected])[:count]
        for name in collected[0]
    }


def check_finite(model, values, what):
    """Raise `ValueError` if a row of `values` holds NaN or infinity.

    Args:
        model: the model that gave them.
        values: array with one row per example.
        what: name of the values, for the message.
    """
    broken = ~np.isfinite(values).reshape(len(values), -1).all(axis=1)
    if broken.any():
        raise ValueError(
            f"Model {model.name!r} gave NaN or infinite {what} for "
            f"{int(broken.sum())} of {len(values)} images, so nothing can be "
            "said about them. Look for exploding weights or a division by 0."
        )


def exit_gradient(predict, exit, images, labels):
    """Return the gradient of each image's cross-entropy at one exit.

    It is a tensor like `images`, in nats per pixel unit.

    Args:
        predict: what `MultiExitModel.exit_logits` returns.
        exit: index of the exit in depth order.
        images: tensor `(batch, height, width, channels)`.
        labels: tensor of integers `(batch,)`.
    """
    return backend.value_and_input_gradient(
        lambda x: losses.cross_entropy(predict(x, (exit,))[0], labels), images
    )[1]
