"""Losses of multi-exit training as pure functions, one value per example.

Nothing here reduces over examples or exits: the training step does, in one
place. Logits of all exits travel as one tensor `(batch, exits, classes)`:

    clean = ops.stack([logits_1, logits_2, logits_3], axis=1)
    nkd = losses.nkd(clean, adversarial)                   # Eq. 5
    allowed = losses.orthogonal_classes(labels, num_exits=3, num_classes=10,
                                        keys=keys)
    eokd = losses.eokd(clean, adversarial, allowed)        # Eq. 6

Equations are those of NEO-KD (arXiv 2311.00428).
"""

import numpy as np
from keras import ops

from keras_neokd.base import randomness
from keras_neokd.base.typing import Tensor

# Stands for minus infinity in a masked softmax: exp() of it is exactly 0 in
# float32, and unlike -inf it cannot turn into NaN when two are subtracted.
_MASKED = -1e9


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy with integer labels.

    Args:
        logits: `(batch, classes)` or `(batch, exits, classes)`.
        labels: integers `(batch,)`.

    Returns:
        `(batch,)` or `(batch, exits)`.
    """
    return -_true_class(ops.log_softmax(logits, axis=-1), labels)


def soft_cross_entropy(
    logits: Tensor, targets: Tensor, temperature: float = 1.0
) -> Tensor:
    """Return the cross-entropy with a distribution: `-sum_c q_c log p_c`.

    Args:
        logits: `(..., classes)`; `p = softmax(logits / temperature)`.
        targets: probabilities `q` of the same shape.
        temperature: positive number. Defaults to 1.

    Returns:
        Tensor of the shape of `logits` without its last axis.
    """
    log_probabilities = ops.log_softmax(logits / temperature, axis=-1)
    return -ops.sum(targets * log_probabilities, axis=-1)


def kl_divergence(
    logits: Tensor, targets: Tensor, temperature: float = 1.0
) -> Tensor:
    """Return the KL divergence `sum_c q_c (log q_c - log p_c)`.

    The gradient equals that of `soft_cross_entropy`; values differ by the
    entropy of the targets. Arguments are as there; `q_c = 0` adds 0.
    """
    safe = ops.where(targets > 0, targets, ops.ones_like(targets))
    negative_entropy = ops.sum(targets * ops.log(safe), axis=-1)
    return soft_cross_entropy(logits, targets, temperature) + negative_entropy


def kl_between(logits: Tensor, reference_logits: Tensor) -> Tensor:
    """Return the KL divergence between two predictions.

    `sum_c q_c (log q_c - log p_c)` with `p` and `q` the softmax of `logits`
    and `reference_logits`, `(..., classes)`; gradients flow through both
    (TRADES).
    """
    reference = ops.log_softmax(reference_logits, axis=-1)
    difference = reference - ops.log_softmax(logits, axis=-1)
    return ops.sum(ops.exp(reference) * difference, axis=-1)


DIVERGENCES = {"cross_entropy": soft_cross_entropy, "kl": kl_divergence}


def nkd(
    clean_logits: Tensor,
    adversarial_logits: Tensor,
    radius: int | None = 1,
    divergence: str = "cross_entropy",
    temperature: float = 1.0,
) -> Tensor:
    """Return the loss of neighbour knowledge distillation (Eq. 5).

    The mean clean prediction of an exit and its neighbours teaches that
    exit's prediction on the attacked image. No gradient flows to the teacher:
    it would be pulled towards the adversarial prediction.

    Args:
        clean_logits: `(batch, exits, classes)`.
        adversarial_logits: the same for the attacked images.
        radius: as in `neighbor_teacher`. Defaults to 1.
        divergence: a key of `DIVERGENCES`. Defaults to `"cross_entropy"`.
        temperature: of teacher and student, > 0. Defaults to 1.

    Returns:
        `(batch, exits)`.
    """
    targets = neighbor_teacher(clean_logits, radius, temperature)
    return distil(adversarial_logits, targets, divergence, temperature)


def eokd(
    clean_logits: Tensor,
    adversarial_logits: Tensor,
    allowed_classes: Tensor,
    divergence: str = "cross_entropy",
    temperature: float = 1.0,
) -> Tensor:
    """Return the loss of exit-wise orthogonal distillation (Eq. 6).

    Each exit's clean prediction, restricted to its own classes, teaches its
    prediction on the attacked image. No gradient flows to the teacher.
    `allowed_classes` are booleans of the shape of the logits, as
    `orthogonal_classes` returns them; the rest is as in `nkd`.
    """
    targets = orthogonal_targets(clean_logits, allowed_classes, temperature)
    return distil(adversarial_logits, targets, divergence, temperature)


def distil(
    logits: Tensor,
    targets: Tensor,
    divergence: str = "cross_entropy",
    temperature: float = 1.0,
) -> Tensor:
    """Return the loss of a student whose teacher is not taught itself.

    Args:
        logits: of the student, `(..., classes)`.
        targets: probabilities of the teacher, broadcast to that shape; no
            gradient flows to them.
        divergence, temperature: as in `nkd`, of the student.
    """
    return DIVERGENCES[divergence](
        logits, ops.stop_gradient(targets), temperature
    )


def norm(squares: Tensor) -> Tensor:
    """Return the square root of sums of squares plus 1e-12.

    The square root has no finite gradient at 0, where SmallCNN's last dense
    layer starts.
    """
    return ops.sqrt(squares + 1e-12)


def margin(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the largest wrong logit minus the logit of the true class.

    It is positive where the example is misclassified (Carlini and Wagner
    2017, f_6 with the opposite sign). Shapes are as in `cross_entropy`.
    """
    true = _one_hot_like(logits, labels)
    other = ops.max(ops.where(true > 0, -np.inf, logits), axis=-1)
    return other - ops.sum(logits * true, axis=-1)


def dlr(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the difference of logits ratio, a margin without scale.

    `(max_{i != y} z_i - z_y) / (z_first - z_third)`, where `z_first` and
    `z_third` are the largest and third largest logit (Croce and Hein 2020,
    Eq. 6). Where these two are equal, the denominator is 1e-12.

    Args:
        logits: `(batch, classes)` of at least 3 classes.
        labels: integers `(batch,)`.
    """
    largest = ops.top_k(logits, 3)[0]
    scale = largest[..., 0] - largest[..., 2] + 1e-12
    return margin(logits, labels) / scale


def targeted_margin(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the logit of a target class minus that of the true class.

    Args:
        logits: `(batch, classes)`.
        labels, targets: integers `(batch,)`.
    """
    return _true_class(logits, targets) - _true_class(logits, labels)


def targeted_dlr(logits: Tensor, labels: Tensor, targets: Tensor) -> Tensor:
    """Return the targeted ratio of logits (Croce and Hein 2020, Eq. 7).

    `(z_t - z_y) / (z_first - (z_third + z_fourth) / 2)`, of at least 4
    classes; arguments are as in `targeted_margin`.
    """
    largest = ops.top_k(logits, 4)[0]
    middle = (largest[..., 2] + largest[..., 3]) / 2
    scale = largest[..., 0] - middle + 1e-12
    return targeted_margin(logits, labels, targets) / scale


def neighbor_teacher(
    clean_logits: Tensor, radius: int | None = 1, temperature: float = 1.0
) -> Tensor:
    """Return the mean prediction of each exit and its neighbours (Eq. 5).

    The teacher of exit `i` is the mean of `softmax(logits_k / temperature)`
    over the exits `k` with `|k - i| <= radius` that exist.

    Args:
        clean_logits: `(batch, exits, classes)`.
        radius: integer >= 0; 0: each exit teaches itself; `None`: the mean
            of all exits. Defaults to 1.
        temperature: positive number. Defaults to 1.

    Returns:
        Probabilities `(batch, exits, classes)`.
    """
    num_exits = clean_logits.shape[1]
    radius = num_exits if radius is None else radius
    position = np.arange(num_exits)
    near = np.abs(position[:, None] - position[None, :]) <= radius
    weights = near / near.sum(axis=1, keepdims=True)
    predictions = ops.softmax(clean_logits / temperature, axis=-1)
    return ops.einsum(
        "ik,bkc->bic", ops.cast(weights, predictions.dtype), predictions
    )


def exit_teacher(
    logits: Tensor, teacher: int | str, temperature: float = 1.0
) -> Tensor:
    """Return the prediction of one exit, or the mean of all, as a teacher.

    Args:
        logits: `(batch, exits, classes)`.
        teacher: 0-based index of the exit (-1 is the last), or `"ensemble"`.
        temperature: positive number. Defaults to 1.

    Returns:
        Probabilities `(batch, 1, classes)`.
    """
    predictions = ops.softmax(logits / temperature, axis=-1)
    if teacher == "ensemble":
        return ops.mean(predictions, axis=1, keepdims=True)
    index = teacher % logits.shape[1]
    return predictions[:, index : index + 1]


def orthogonal_classes(
    labels: Tensor,
    num_exits: int,
    num_classes: int,
    keys: Tensor,
    spread_left_over: bool = False,
) -> Tensor:
    """Draw the classes that each exit may learn in EOKD (Eq. 6).

    The `num_classes - 1` classes other than the true one are put in random
    order and cut into `num_exits` chunks of
    `floor((num_classes - 1) / num_exits)`; chunk `i` belongs to exit `i`, the
    true class to all.

    Args:
        labels: integers `(batch,)`.
        num_exits: integer >= 1.
        num_classes: integer > num_exits.
        keys: int32 `(batch,)`, from `randomness.bits`: examples with equal
            label and key get equal chunks.
        spread_left_over: give the classes that the division leaves over one
            each to the first exits, and not to none. Defaults to False.

    Returns:
        Boolean tensor `(batch, exits, classes)`.

    Raises:
        ValueError: if there are fewer wrong classes than exits.
    """
    if num_classes <= num_exits:
        raise ValueError(
            "Each exit needs a wrong class of its own: expected more classes "
            f"than exits, received {num_classes} classes and {num_exits} "
            "exits."
        )
    classes = np.arange(num_classes, dtype="int32")
    # For a fixed key the mixed bits of different classes differ, because
    # every step of the mixing is a bijection: no ties in the sort.
    scores = randomness.bits(ops.expand_dims(keys, 1), classes)
    is_true = ops.equal(ops.expand_dims(ops.cast(labels, "int32"), 1), classes)
    # The true class goes last, whatever its score.
    scores = ops.where(is_true, np.int32(2**31 - 1), scores)
    rank = ops.argsort(ops.argsort(scores, axis=1), axis=1)
    rank = ops.cast(rank, "int32")
    size = (num_classes - 1) // num_exits
    chunk = rank // size
    if spread_left_over:
        left_over = rank - size * num_exits
        chunk = ops.where(left_over >= 0, left_over, chunk)
    exits = np.arange(num_exits, dtype="int32")[None, :, None]
    own = ops.equal(ops.expand_dims(chunk, 1), exits)
    return ops.logical_or(ops.expand_dims(is_true, 1), own)


def orthogonal_targets(
    clean_logits: Tensor, allowed_classes: Tensor, temperature: float = 1.0
) -> Tensor:
    """Return clean predictions renormalised over some classes (Eq. 6).

    Arguments are as in `eokd`; probabilities outside `allowed_classes` are
    exactly 0.
    """
    # Dividing kept probabilities by their sum is a softmax over the kept
    # logits; this form stays exact where all of them are tiny.
    scaled = clean_logits / temperature
    masked = ops.where(allowed_classes, scaled, ops.full_like(scaled, _MASKED))
    return ops.softmax(masked, axis=-1)


def _one_hot_like(logits, labels):
    one_hot = ops.one_hot(
        ops.cast(labels, "int32"), logits.shape[-1], dtype=logits.dtype
    )
    return one_hot if len(logits.shape) == 2 else ops.expand_dims(one_hot, 1)


def _true_class(values, labels):
    return ops.sum(values * _one_hot_like(values, labels), axis=-1)
