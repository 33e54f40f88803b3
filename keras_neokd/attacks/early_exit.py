"""Objectives of an attacker who knows at which exit a policy stops.

policy = ExitPolicy(thresholds=(0.9, 0.8))
PGD(epsilon=0.03, step_size=0.003, num_steps=50,
    objective=EarlyExit(policy))                  # a wrong answer
APGD(epsilon=0.03, objective=SlowDown(policy))    # the whole network

For the strongest attack on an answer take the worst case over objectives: an
image may be easier to fool at an exit that it does not reach yet.

    wrong = EarlyExit(policy)
    WorstCase([pgd.with_objective(each) for each in
               (wrong, AverageExits(), SingleExit(0), SingleExit(1))], wrong)
"""

from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Self

import keras
from keras import ops

from keras_neokd.attacks.objective import Objective
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.base.typing import Loss
from keras_neokd.base.typing import Tensor


class _KnownPolicy(Objective):
    """Base of objectives that know at which exit an image leaves."""

    def __init__(
        self,
        policy: ExitPolicy | Sequence[float | None],
        loss: Loss = "cross_entropy",
    ) -> None:
        super().__init__(loss)
        if not isinstance(policy, ExitPolicy):
            policy = ExitPolicy(policy)
        self.policy = policy

    def exit_indices(self, num_exits: int) -> tuple[int, ...]:
        """See `Objective.exit_indices`: all exits."""
        self.policy.check(num_exits)
        return tuple(range(num_exits))

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the objective, also from what version 0.1.0 wrote."""
        if "policy" not in config:
            config = dict(config)
            names = {"thresholds", "ensemble"} & config.keys()
            policy = ExitPolicy(**{name: config.pop(name) for name in names})
            config["policy"] = keras.saving.serialize_keras_object(policy)
        return super().from_config(config)

    def chosen(self, logits: Sequence[Tensor]) -> Tensor:
        """Return which exit each image takes, one-hot `(batch, exits)`."""
        found = [each[1] for each in self._seen(logits)]
        confidences = ops.stack(found, axis=1)
        bounds = ops.convert_to_tensor(self.policy.bounds("float32"))
        leaves = ops.cast(confidences >= bounds, "int32")
        return ops.one_hot(ops.argmax(leaves, axis=1), len(logits))

    def _seen(self, logits):
        """Return what the policy sees of each exit, see `ExitPolicy.at`."""
        return [
            self.policy.at(index, ops.softmax(each, axis=-1), ops)
            for index, each in enumerate(logits)
        ]


@keras.saving.register_keras_serializable("keras_neokd")
class EarlyExit(_KnownPolicy):
    """Make an early-exit policy answer wrongly, wherever an image leaves.

    The score is the loss of what the policy answers with: the exit that the
    image takes at the moment, or, for a policy with `ensemble`, the mean
    softmax of this exit and all before it. Which exit that is carries no
    gradient. Chosen here; NEO-KD attacks exits, not policies.

    Args:
        policy: an `ExitPolicy`, or its thresholds.
        loss: see `Objective`.
    """

    def fooled(self, logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """See `Objective.fooled`: the policy's answer is wrong."""
        answer = ops.argmax(self.combined_logits(logits), axis=-1)
        return ops.not_equal(
            ops.cast(answer, "int32"), ops.cast(labels, "int32")
        )

    def combined_logits(self, logits: Sequence[Tensor]) -> Tensor:
        """See `Objective.combined_logits`: what the policy answers with."""
        chosen = ops.expand_dims(self.chosen(logits), -1)
        answers = ops.stack(logits, axis=1)
        if self.policy.ensemble:
            # Predictions are added up; their logarithm takes logits' place.
            seen = [each[0] for each in self._seen(logits)]
            total = ops.cumsum(ops.stack(seen, axis=1), axis=1)
            answers = ops.log(ops.maximum(total, 1e-30))
        return ops.sum(ops.stop_gradient(chosen) * answers, axis=1)

    def __call__(
        self,
        logits: Sequence[Tensor],
        labels: Tensor,
        exits: Sequence[int] = (),
    ) -> Tensor:
        """See `Objective.__call__`."""
        answer = self.combined_logits(logits)
        last = None if exits is None else exits[-1:]
        return super().__call__((answer,), labels, last)


@keras.saving.register_keras_serializable("keras_neokd")
class SlowDown(_KnownPolicy):
    """Make images travel to the last exit, whatever the answer there.

    The score is minus the cross-entropy between every earlier exit's
    prediction and the uniform one, as in DeepSloth (Hong et al. 2021); an
    image counts as fooled when no exit but the last is confident enough.

    Args:
        policy: an `ExitPolicy`, or its thresholds; its `ensemble` makes no
            difference.

    Raises:
        ValueError: if there is no threshold.
    """

    has_own_loss = True

    def __init__(self, policy: ExitPolicy | Sequence[float | None]) -> None:
        super().__init__(policy)
        if not self.policy.thresholds:
            raise ValueError(
                "A model of one exit cannot be slowed down: expected at least "
                "one threshold, received none."
            )

    def with_loss(self, loss: Loss) -> Self:
        """Return the objective itself: it has a loss of its own."""
        del loss
        return self

    def fooled(self, logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """See `Objective.fooled`: the image gets to the last exit."""
        del labels
        return self.chosen(logits)[:, -1] > 0

    def __call__(
        self,
        logits: Sequence[Tensor],
        labels: Tensor,
        exits: Sequence[int] = (),
    ) -> Tensor:
        """See `Objective.__call__`."""
        del labels, exits
        means = [
            ops.mean(ops.log_softmax(each, axis=-1), axis=-1)
            for each in logits[:-1]
        ]
        return sum(means) / len(means)
