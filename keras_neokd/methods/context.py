"""The input of a training method, and the terms that it returns."""

from collections.abc import Mapping
from typing import Any
from typing import NamedTuple

from keras_neokd.base.typing import Tensor


class Position(NamedTuple):
    """Position of a batch in training; seeds all random numbers.

    Attributes:
        seed: Python integer given to `compile`.
        epoch: integer tensor, 0-based.
        step: integer tensor, number of batches trained on so far.
        index: integers `(batch,)`, positions in the global batch.
        example: integers `(batch,)`, positions in the data set; `None` for
            a method that does not ask for them (`Method.num_examples`).
    """

    seed: int
    epoch: Tensor
    step: Tensor
    index: Tensor
    example: Tensor = None


class Context(NamedTuple):
    """All that the loss of a step may depend on.

    Attributes:
        labels: integers `(batch,)`.
        position: a `Position`.
        images: clean images `(batch, height, width, channels)`.
        predict: an `attacks.ExitLogits` of the model, for methods that need
            gradients with respect to images. It leaves batch statistics as
            they are. In training mode where terms are made, in the mode of
            the attack before it; there it may also compute in 16 bits
            (`crafting_dtype`), and its `exact` in the precision of the layers.
        state: dict of the variables that `Method.initial_state` asked for.
        head_kernels: function that returns the last dense kernel of each
            exit, `(features, classes)`.
        clean: logits of the clean images, `(batch, exits, classes)`; `None`
            before the attack.
        adversarial: the same for the attacked images; `None` before the
            attack, and for methods that use none.
        adversarial_images: attacked images, or `None` as `adversarial`.
    """

    labels: Tensor
    position: Position
    images: Tensor = None
    predict: Any = None
    state: Mapping[str, Tensor] = {}
    head_kernels: Any = None
    clean: Tensor = None
    adversarial: Tensor = None
    adversarial_images: Tensor = None


class Term(NamedTuple):
    """One named part of the loss.

    Attributes:
        name: logged as `<exit>_<name>_loss` and, averaged over exits, as
            `<name>_loss`.
        values: unweighted, `(batch, exits)`, or `(exits,)` if the term is
            not one of single examples.
        weights: one number per exit.
        level: `"example"` (default), `"batch"` for a value of the whole
            global batch (see `backend.gather_replicas`) or `"weights"` for a
            penalty on layer weights. Sample weights apply to `"example"` only.
    """

    name: str
    values: Tensor
    weights: tuple[float, ...]
    level: str = "example"
