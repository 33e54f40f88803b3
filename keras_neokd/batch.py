"""What a step knows of its examples, and what its objective returns."""

import typing

from keras import ops

from keras_neokd import methods


class Batch(typing.NamedTuple):
    """What a step knows of its examples.

    Attributes:
        images: `(batch, height, width, channels)`.
        labels: integers `(batch,)`.
        weights: sample weights `(batch,)`.
        step: a `methods.Step`.
        keys: int32 `(batch,)`, the randomness of each example's attack.
        global_size: number of examples on all replicas.
    """

    images: typing.Any
    labels: typing.Any
    weights: typing.Any
    step: methods.Step
    keys: typing.Any
    global_size: typing.Any

    def take(self, rows, images):
        """Return some examples of the batch.

        Args:
            rows: int32 `(size,)`.
            images: their images.
        """

        def some(values):
            return None if values is None else ops.take(values, rows, axis=0)

        return self._replace(
            images=images,
            labels=some(self.labels),
            weights=some(self.weights),
            step=self.step._replace(
                index=some(self.step.index), example=some(self.step.example)
            ),
            keys=some(self.keys),
        )


class Result(typing.NamedTuple):
    """What the objective returns.

    Attributes:
        loss: scalar to differentiate; sums to the global mean over replicas.
        examples: loss of each example `(batch,)`, regularisers included.
        terms: per term its values `(batch, exits)`, weighted by example
            only; one that is no mean over examples repeats.
        clean: logits `(batch, exits, classes)`.
        adversarial: the same for the attacked images, or `None` without.
    """

    loss: typing.Any
    examples: typing.Any
    terms: dict
    clean: typing.Any
    adversarial: typing.Any
