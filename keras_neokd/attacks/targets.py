"""The target classes of attacks that aim at one wrong class per attempt."""

import numpy as np
from keras import ops

from keras_neokd.attacks.search import Problem
from keras_neokd.base import checks
from keras_neokd.base.typing import Mixin
from keras_neokd.base.typing import Tensor
from keras_neokd.base.typing import Tensors


class Targeted(Mixin):
    """Mixin in front of a `SearchAttack` that has `num_targets`.

    One attempt per target class and restart, from the most likely wrong class
    of the clean image (by the mean softmax over the exits, where the papers do
    not say) to less likely ones. With several restarts all classes come before
    any comes again; in auto-attack each has its restarts at once.
    """

    def num_attempts(self, num_classes: int) -> int:
        """See `SearchAttack.num_attempts`."""
        return self._count(num_classes) * self.num_restarts

    def aim(self, problem: Problem, attempt: Tensor) -> tuple[Tensor, Tensors]:
        """See `SearchAttack.aim`: the state holds the `target`."""
        logits = problem.logits(problem.images)
        count = self._count(logits[0].shape[-1])
        target = likely_class(logits, problem.labels, attempt % count)
        return attempt // count, {"target": target}

    def _count(self, num_classes):
        if self.num_targets is None:
            return num_classes - 1
        return min(self.num_targets, num_classes - 1)


def check_num_targets(num_targets):
    """Return `num_targets`, an integer >= 1 or `None`, or raise."""
    if num_targets is None:
        return None
    return checks.integer("num_targets", num_targets, minimum=1)


def likely_class(logits, labels, rank):
    """Return the wrong class of a rank, 0 for the most likely, `(batch,)`.

    Args:
        logits: tuple of `(batch, classes)`, of the clean images; the mean of
            their softmax orders the classes.
        labels: integers `(batch,)`.
        rank: an integer or scalar tensor.
    """
    # As logarithms: probabilities of unlikely classes are zero in float32.
    each = [ops.log_softmax(each, axis=-1) for each in logits]
    likely = ops.logsumexp(ops.stack(each), axis=0)
    num_classes = logits[0].shape[-1]
    is_true = ops.one_hot(ops.cast(labels, "int32"), num_classes, dtype="bool")
    # The true class last, whatever its probability.
    ordered = ops.argsort(ops.where(is_true, np.inf, -likely), axis=-1)
    return ops.cast(ops.take(ordered, rank, axis=1), "int32")
