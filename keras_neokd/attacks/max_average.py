"""The max-average attack (Eq. 2).

MaxAverage(PGD(epsilon=8 / 255, step_size=2 / 255, num_steps=7))
"""

from collections.abc import Sequence
from typing import Any
from typing import Self

import keras
from keras import ops

from keras_neokd.attacks.attack import Attack
from keras_neokd.attacks.attack import ExitLogits
from keras_neokd.attacks.objective import AverageExits
from keras_neokd.attacks.objective import Objective
from keras_neokd.attacks.objective import SingleExit
from keras_neokd.attacks.objective import check_exits
from keras_neokd.attacks.objective import select_exits
from keras_neokd.attacks.pgd import PGD
from keras_neokd.attacks.pgd import keep_better
from keras_neokd.base import randomness
from keras_neokd.base.registry import ATTACKS
from keras_neokd.base.typing import Loss
from keras_neokd.base.typing import Tensor
from keras_neokd.base.typing import Tensors

# What the candidates are compared by (Eq. 2).
_COMPARED = "cross_entropy"


@keras.saving.register_keras_serializable("keras_neokd")
class MaxAverage(Attack):
    """Of the attacks on each single exit, keep the one that hurts most.

    Every exit is attacked alone, from its own random start; each image keeps
    the candidate with the largest mean cross-entropy over all exits (Eq. 2
    of NEO-KD; per example as in triple-wins, so the images of one batch may
    come from different exits). The attack on exit `i` runs only the part of
    the network that exit `i` needs.

    `info["selected_share"]` says which candidate won, one-hot
    `(batch, len(exits))`; training logs its mean for every exit.

    Args:
        attack: attack on one exit, a `PGD`; its own objective gives the loss
            of the single attacks and is otherwise ignored. If that loss is
            a function, the candidates are compared by it, too.
        exits: 0-based indices of the exits to attack and to average over,
            or `None` (default) for all.

    Raises:
        TypeError: if `attack` cannot be aimed at a single exit.
    """

    def __init__(
        self, attack: Attack, exits: Sequence[int] | None = None
    ) -> None:
        if not isinstance(attack, Attack):
            raise TypeError(
                "`attack` of MaxAverage needs an Attack such as PGD, received "
                f"{attack!r}."
            )
        attack.with_objective(SingleExit(-1))  # Or the attack says why not.
        super().__init__(attack.epsilon, attack.norm)
        self.attack: Any = attack
        self.exits = check_exits(exits)

    @classmethod
    def of_pgd(
        cls,
        epsilon: float,
        step_size: float,
        num_steps: int,
        norm: str = "linf",
        random_start: bool | str = True,
        num_restarts: int = 1,
        exits: Sequence[int] | None = None,
    ) -> Self:
        """Return `MaxAverage(PGD(...), exits)`; arguments as there."""
        pgd = PGD(
            epsilon,
            step_size,
            num_steps,
            norm,
            random_start=random_start,
            num_restarts=num_restarts,
        )
        return cls(pgd, exits)

    def with_loss(
        self, loss: Loss, random_start: bool | str | None = None
    ) -> Self:
        """See `Attack.with_loss`."""
        return self.replace(attack=self.attack.with_loss(loss, random_start))

    def validate(self, num_exits: int, num_classes: int | None = None) -> None:
        """See `Attack.validate`."""
        exits = select_exits(self.exits, num_exits)
        objective = AverageExits(exits, self.attack.objective.loss)
        self.attack.with_objective(objective).validate(num_exits, num_classes)

    def logged(self, num_exits: int) -> dict[str, Sequence[int]]:
        """See `Attack.logged`."""
        return {"selected_share": select_exits(self.exits, num_exits)}

    def perturb(
        self, predict: ExitLogits, images: Tensor, labels: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensors]:
        """See `Attack.perturb`; `info` holds `selected_share`."""
        exits = select_exits(self.exits, predict.num_exits)
        loss = self.attack.objective.loss
        # All exits at once: the candidates for the first exit come first,
        # and so on, and each leaves the network at its own exit.
        attack = self.attack.with_objective(_OwnExit(exits, loss))
        candidates, _ = attack.perturb(
            predict.staggered(exits),
            ops.concatenate([images] * len(exits)),
            ops.concatenate([labels] * len(exits)),
            ops.concatenate([randomness.bits(keys, index) for index in exits]),
        )
        average = AverageExits(exits, loss if callable(loss) else _COMPARED)
        logits = predict.exact(candidates, exits)
        parts = _parts(candidates, len(exits))
        scores = [
            average([each[part] for each in logits], labels, exits)
            for part in parts
        ]
        best = (candidates[parts[0]], scores[0])
        for part, score in zip(parts[1:], scores[1:], strict=True):
            best = keep_better(*best, candidates[part], score)
        winner = ops.argmax(ops.stack(scores, axis=1), axis=1)
        return best[0], {"selected_share": ops.one_hot(winner, len(exits))}


ATTACKS.register("max_average")(MaxAverage.of_pgd)


class _OwnExit(Objective):
    """For a batch per exit, one after the other: the loss of its own exit."""

    def __init__(self, exits, loss):
        super().__init__(loss)
        self.exits = exits

    def exit_indices(self, num_exits):
        """See `Objective.exit_indices`: a staggered model has one exit."""
        return (0,)

    def __call__(self, logits, labels, exits=None):
        """See `Objective.__call__`."""
        (logits,) = logits
        parts = _parts(labels, len(self.exits))
        scores = [
            SingleExit(index, self.loss)(
                (logits[part],), labels[part], (index,)
            )
            for index, part in zip(self.exits, parts, strict=True)
        ]
        return ops.concatenate(scores)


def _parts(rows, count):
    """Return the slices that divide the rows of a tensor into equal parts."""
    size = ops.shape(rows)[0] // count
    return [slice(i * size, (i + 1) * size) for i in range(count)]
