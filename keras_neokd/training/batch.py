"""The examples of one step, and its loss."""

import typing

import keras
from keras import ops

from keras_neokd import methods
from keras_neokd.base import checks
from keras_neokd.data.checks import split_labels
from keras_neokd.data.sharing import num_filling
from keras_neokd.training.checks import check_term


class Batch(typing.NamedTuple):
    """Hold the examples of one step.

    Attributes:
        images: `(batch, height, width, channels)`.
        labels: integers `(batch,)`.
        weights: sample weights `(batch,)`.
        position: a `methods.Position`.
        keys: int32 `(batch,)`, the randomness of each example's attack.
        global_size: number of examples on all replicas.
    """

    images: typing.Any
    labels: typing.Any
    weights: typing.Any
    position: methods.Position
    keys: typing.Any
    global_size: typing.Any

    def take(self, rows, images):
        """Return the examples of some rows, int32 `(size,)`."""

        def some(values):
            return None if values is None else ops.take(values, rows, axis=0)

        return self._replace(
            images=images,
            labels=some(self.labels),
            weights=some(self.weights),
            position=self.position._replace(
                index=some(self.position.index),
                example=some(self.position.example),
            ),
            keys=some(self.keys),
        )


class Result(typing.NamedTuple):
    """Hold the loss of one step.

    Attributes:
        loss: scalar to differentiate; sums to the global mean over replicas.
        examples: loss of each example `(batch,)`, regularisers included.
        terms: per term its values `(batch, exits)`, weighted by example
            only; one that is no mean over examples repeats.
        clean: logits `(batch, exits, classes)`.
        adversarial: logits of the adversarial images, or `None` without.
    """

    loss: typing.Any
    examples: typing.Any
    terms: dict[str, typing.Any]
    clean: typing.Any
    adversarial: typing.Any


def unpacked(data):
    """Return images, labels, positions in the data set and sample weights.

    Rows that only fill the batch up are cut off. Positions may be `None`.
    """
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(data)
    # `train_on_batch` hands NumPy arrays over on PyTorch.
    images = ops.cast(ops.convert_to_tensor(images), "float32")
    filling = num_filling(labels)
    labels, example = split_labels(labels)
    # Keras repeats the weights of arrays for every part of the labels.
    weights = weights["label"] if isinstance(weights, dict) else weights
    if filling:
        images, labels, example, weights = (
            None if each is None else each[:-filling]
            for each in (images, labels, example, weights)
        )
    labels = checks.class_indices(ops.convert_to_tensor(labels))
    if weights is None:
        weights = ops.ones((ops.shape(images)[0],), dtype="float32")
    weights = ops.reshape(ops.cast(weights, "float32"), (-1,))
    return images, labels, example, weights


def reduced(batch, terms, clean, adversarial, penalties):
    """Return the `Result`: the one place that turns terms into the loss.

    Args:
        batch: a `Batch`.
        terms: list of `methods.Term`.
        clean, adversarial: see `Result`.
        penalties: list of losses of layers and weights.
    """
    values, whole = {}, sum(ops.sum(loss) for loss in penalties)
    examples = ops.zeros_like(batch.weights)
    for term in terms:
        weights = check_term(term, clean.shape[1])
        if term.level == "example":
            weighted = ops.expand_dims(batch.weights, 1) * term.values
            examples += ops.sum(weighted * weights, axis=1)
            values[term.name] = weighted
        else:
            whole += ops.sum(term.values * weights)
            values[term.name] = term.values + ops.zeros_like(values["clean"])
    # Replicas add their gradients up, so each divides by the size of
    # the global batch and takes its share of what is no mean.
    share = ops.cast(ops.shape(examples)[0], "float32") / batch.global_size
    return Result(
        loss=ops.sum(examples) / batch.global_size + share * whole,
        examples=examples + whole,
        terms=values,
        clean=clean,
        adversarial=adversarial,
    )
