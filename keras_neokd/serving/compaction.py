"""Run stages for the images that are still undecided, batch by batch.

After every exit the undecided images go on in a batch of 1, 2, 4, 8, 16, 24 and
so on (see `padded_size`), so that few shapes are compiled and little is
computed for nothing.
"""

import math
from collections.abc import Callable
from collections.abc import Sequence

import numpy as np

from keras_neokd.base.exit_policy import Decision
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Tensor

# A stage: function of the tensors of the stage before and of the rows of them
# that undecided images have, as `padded` gives them, or None for all. Returns
# the softmax of its exit, in NumPy, and the tensors that it hands on.
Stage = Callable[[list[Tensor], Array | None], tuple[Array, list[Tensor]]]


def decide(
    stages: Sequence[Stage],
    policy: ExitPolicy,
    images: Array,
    exit_names: Sequence[str],
) -> Decision:
    """Return the decisions of `policy.decide`, computing what they need.

    Args:
        stages: a stage per exit.
        policy: an `ExitPolicy` for as many exits.
        images: float32 array `(batch, height, width, channels)`.
        exit_names: names of the exits, for messages.

    Raises:
        ValueError: if an exit returns NaN.
    """
    count = len(images)
    decision = Decision(
        np.zeros(count, "int64"),
        np.zeros(count, "int64"),
        np.zeros(count, "float32"),
    )
    rows, votes = np.arange(count), 0.0
    # What a stage hands on stays on its device; `places` are the rows of it
    # that undecided images have.
    tensors, places = [images], rows
    bounds = (*policy.thresholds, -math.inf)
    for index, (stage, bound) in enumerate(zip(stages, bounds, strict=True)):
        if not len(rows):
            break
        probabilities, tensors = stage(
            tensors, _padded(places, len(tensors[0]))
        )
        probabilities = probabilities[: len(rows)]
        check_finite(probabilities, exit_names[index])
        probabilities, confidence = policy.at(index, probabilities)
        votes = (votes if policy.ensemble else 0.0) + probabilities
        leaves = confidence >= np.float32(bound)
        decision.exit_index[rows[leaves]] = index
        decision.label[rows[leaves]] = votes[leaves].argmax(axis=1)
        decision.confidence[rows[leaves]] = confidence[leaves]
        stays = ~leaves
        rows, votes = rows[stays], votes[stays]
        places = np.flatnonzero(stays)
    return decision


def check_finite(values: Array, exit_name: str) -> None:
    """Raise `ValueError` if an exit gave NaN.

    Args:
        values: of the exit, `(batch, classes)`.
        exit_name: its name, for the message.
    """
    broken = int(np.isnan(values).any(axis=1).sum())
    if broken:
        raise ValueError(
            f"Exit {exit_name!r} returned NaN for {broken} of {len(values)} "
            "images, so there is nothing to predict."
        )


def padded_size(count: int) -> int:
    """Return the size of the batch for a number >= 1 of undecided images.

    A power of 2 up to 8; then multiples of 8 up to 64, of 16 up to 128, and
    so on: an eighth of the next power of 2.
    """
    power = 1 << (count - 1).bit_length()
    step = max(power // 8, min(power, 8))
    return -(-count // step) * step


def _padded(places, num_rows):
    """Return the rows that go on, the last repeated; None for all as they are.

    Args:
        places: rows of undecided images.
        num_rows: rows that there are.
    """
    count = len(places)
    padded = places[np.minimum(np.arange(padded_size(count)), count - 1)]
    return None if np.array_equal(padded, np.arange(num_rows)) else padded
