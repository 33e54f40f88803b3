"""Attacks on a model that stops early, by an attacker who knows when.

PGD(epsilon=0.03, step_size=0.003, num_steps=50,
    objective=EarlyExit(thresholds=(0.9, 0.8)))       # a wrong answer
APGD(epsilon=0.03, objective=SlowDown((0.9, 0.8)))    # the whole network

Thresholds are those of `ExitPolicy`. For the strongest attack on an answer
take the worst case over objectives: an image may be easier to fool at an exit
that it does not reach yet.

    policy = EarlyExit(thresholds)
    WorstCase([pgd.with_objective(each) for each in
               (policy, AverageExits(), SingleExit(0), SingleExit(1))], policy)
"""

import math

import keras
import numpy as np
from keras import ops

from keras_neokd import checks
from keras_neokd.attacks.objective import Objective


class _KnownThresholds(Objective):
    """Base of objectives that know at which exit an image leaves."""

    def __init__(self, thresholds, loss="cross_entropy"):
        super().__init__(loss)
        self.thresholds = checks.thresholds(thresholds)

    def exit_indices(self, num_exits):
        """See `Objective.exit_indices`: all exits."""
        if num_exits != len(self.thresholds) + 1:
            raise ValueError(
                f"{len(self.thresholds)} thresholds are for a model of "
                f"{len(self.thresholds) + 1} exits: the last needs none. The "
                f"model has {num_exits} exits."
            )
        return tuple(range(num_exits))

    def get_config(self):
        """Return the constructor arguments as plain values."""
        values = [
            None if each == math.inf else each for each in self.thresholds
        ]
        return {**super().get_config(), "thresholds": values}

    def chosen(self, logits):
        """Return which exit each image takes, one-hot `(batch, exits)`."""
        bounds = ops.convert_to_tensor(
            np.array([*self.thresholds, -math.inf], "float32")
        )
        stacked = ops.stack(logits, axis=1)
        confidences = ops.max(ops.softmax(stacked, axis=-1), axis=-1)
        leaves = ops.cast(confidences >= bounds, "int32")
        return ops.one_hot(ops.argmax(leaves, axis=1), len(logits))


@keras.saving.register_keras_serializable("keras_neokd")
class EarlyExit(_KnownThresholds):
    """Make the early-exit policy answer wrongly, wherever an image leaves.

    The score is the loss of what the policy answers with: the exit that the
    image takes at the moment, or the mean softmax of this exit and all before
    it. Which exit that is carries no gradient.

    Args:
        thresholds: of each exit but the last, as in `ExitPolicy`.
        ensemble: the policy predicts by the mean of the exits up to the one
            taken. Defaults to False.
        loss: see `Objective`.

    Raises:
        TypeError: if a threshold is not a number, or `ensemble` no bool.
        ValueError: if one is out of range.
    """

    def __init__(self, thresholds, ensemble=False, loss="cross_entropy"):
        super().__init__(thresholds, loss)
        self.ensemble = checks.boolean("ensemble", ensemble)

    def fooled(self, logits, labels):
        """See `Objective.fooled`: the policy's answer is wrong."""
        answer = ops.argmax(self.combined_logits(logits), axis=-1)
        return ops.not_equal(
            ops.cast(answer, "int32"), ops.cast(labels, "int32")
        )

    def combined_logits(self, logits):
        """See `Objective.combined_logits`: what the policy answers with."""
        chosen = ops.expand_dims(self.chosen(logits), -1)
        answers = ops.stack(logits, axis=1)
        if self.ensemble:
            # Predictions are added up; their logarithm takes logits' place.
            total = ops.cumsum(ops.softmax(answers, axis=-1), axis=1)
            answers = ops.log(ops.maximum(total, 1e-30))
        return ops.sum(ops.stop_gradient(chosen) * answers, axis=1)

    def __call__(self, logits, labels, exits=None):
        """See `Objective.__call__`."""
        answer = self.combined_logits(logits)
        last = None if exits is None else exits[-1:]
        return super().__call__((answer,), labels, last)


@keras.saving.register_keras_serializable("keras_neokd")
class SlowDown(_KnownThresholds):
    """Make images travel to the last exit, whatever the answer there.

    The score is minus the cross-entropy between every earlier exit's
    prediction and the uniform one, as in DeepSloth (Hong et al. 2021); an
    image counts as fooled when no exit but the last is confident enough.

    Args:
        thresholds: of each exit but the last, as in `ExitPolicy`.

    Raises:
        TypeError: if a threshold is not a number.
        ValueError: if one is out of range, or there is none.
    """

    has_own_loss = True

    def __init__(self, thresholds):
        super().__init__(thresholds)
        if not self.thresholds:
            raise ValueError(
                "A model of one exit cannot be slowed down: expected at least "
                "one threshold, received none."
            )

    def with_loss(self, loss):
        """Return the objective itself: it has a loss of its own."""
        del loss
        return self

    def fooled(self, logits, labels):
        """See `Objective.fooled`: the image gets to the last exit."""
        del labels
        return self.chosen(logits)[:, -1] > 0

    def __call__(self, logits, labels, exits=None):
        """See `Objective.__call__`."""
        del labels, exits
        means = [
            ops.mean(ops.log_softmax(each, axis=-1), axis=-1)
            for each in logits[:-1]
        ]
        return sum(means) / len(means)
