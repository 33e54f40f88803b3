"""Objectives of attacks: which exits, and which loss of each.

    SingleExit(2)                  # fool the third exit (Eq. 1)
    AverageExits()                 # fool the mean over all exits (Eq. 3)
    AverageExits(exits=(0, 1))     # ... over some exits
    SingleExit(-1, loss="margin")  # maximise the margin of the last exit
    AverageExits(success="any")    # done when any exit is wrong

Objectives are values: an attack takes one as an argument, so there is one PGD
and not one per objective. Equations are those of NEO-KD (arXiv 2311.00428).
"""

import functools
from collections.abc import Sequence
from typing import Self

import keras
from keras import ops

from keras_neokd import losses
from keras_neokd.base import checks
from keras_neokd.base.configurable import Configurable
from keras_neokd.base.typing import Loss
from keras_neokd.base.typing import Tensor

_LOSSES = {
    "cross_entropy": losses.cross_entropy,
    "margin": losses.margin,
    "dlr": losses.dlr,
}


class Objective(Configurable):
    """Per-example score of an attacked image: the higher, the more fooled.

    A new objective overrides `exit_indices`; the score is the mean of the
    loss over these exits, and an image counts as fooled when all of them are
    wrong.

    Args:
        loss: `"cross_entropy"`, `"margin"` (largest wrong logit minus the
            true one), `"dlr"` (the margin divided by the range of the
            largest logits, see `losses.dlr`), or a function of
            `(logits, labels, exit)` that returns `(batch,)`, where `exit` is
            the 0-based index of the exit. A function cannot be saved.

    Raises:
        ValueError: if `loss` is unknown.
    """

    # Whether the score says nothing about true classes, so that attacks that
    # work on margins cannot use it.
    has_own_loss = False
    # "all" or "any" of the exits have to be wrong.
    success = "all"

    def __init__(self, loss: Loss = "cross_entropy") -> None:
        if not callable(loss):
            checks.choice("loss", loss, _LOSSES)
        self.loss = loss

    def with_loss(self, loss: Loss) -> Self:
        """Return a copy of the objective with another loss."""
        return self.replace(loss=loss)

    def exit_indices(self, num_exits: int) -> tuple[int, ...]:
        """Return the 0-based indices of the exits the score needs.

        Raises:
            ValueError: if the objective names an exit that does not exist.
        """
        raise NotImplementedError

    def check(self, num_exits: int, num_classes: int | None = None) -> None:
        """Raise `ValueError` if a model lacks an exit, or classes of the loss.

        Args:
            num_exits: number of exits of the model.
            num_classes: number of its classes, or `None` if not known.
        """
        self.exit_indices(num_exits)
        fewest = 3 if self.loss == "dlr" else 2
        if num_classes is not None and num_classes < fewest:
            raise ValueError(
                f"loss={self.loss!r} needs at least {fewest} classes, "
                f"received a model of {num_classes}. Use loss='margin'."
            )

    def fooled(self, logits: Sequence[Tensor], labels: Tensor) -> Tensor:
        """Return which images are fooled, booleans `(batch,)`.

        Arguments are as in `__call__`.
        """
        answers = (ops.cast(ops.argmax(each, -1), "int32") for each in logits)
        labels = ops.cast(labels, "int32")
        wrong = (ops.not_equal(each, labels) for each in answers)
        is_all = self.success == "all"
        return functools.reduce(
            ops.logical_and if is_all else ops.logical_or, wrong
        )

    def combined_logits(self, logits: Sequence[Tensor]) -> Tensor:
        """Return one prediction `(batch, classes)`, which FAB linearises.

        It is the mean of the logits (NEO-KD, appendix H), a tuple as in
        `__call__`.
        """
        return sum(logits) / len(logits)

    def __call__(
        self,
        logits: Sequence[Tensor],
        labels: Tensor,
        exits: Sequence[int] = (),
    ) -> Tensor:
        """Score a batch.

        Args:
            logits: tuple of `(batch, classes)`, one per exit of
                `exit_indices`.
            labels: integers `(batch,)`.
            exits: the result of `exit_indices`; needed where `loss` is a
                function.

        Returns:
            Tensor `(batch,)`, to be maximised.
        """
        if callable(self.loss):
            scores = [
                self.loss(each, labels, exit)
                for each, exit in zip(logits, exits, strict=True)
            ]
        else:
            scores = [_LOSSES[self.loss](each, labels) for each in logits]
        return sum(scores) / len(scores)


@keras.saving.register_keras_serializable("keras_neokd")
class SingleExit(Objective):
    """Attack one exit: the single attack of Eq. 1.

    Args:
        exit: 0-based index of the exit in depth order; -1 is the last.
        loss: see `Objective`.
    """

    def __init__(self, exit: int, loss: Loss = "cross_entropy") -> None:
        super().__init__(loss)
        self.exit = _check_index(exit)

    def exit_indices(self, num_exits: int) -> tuple[int, ...]:
        """See `Objective.exit_indices`."""
        return (_existing(self.exit, num_exits),)


@keras.saving.register_keras_serializable("keras_neokd")
class AverageExits(Objective):
    """Attack the mean loss over exits: the average attack of Eq. 3.

    Args:
        exits: 0-based indices of the exits, or `None` (default) for all.
        loss: see `Objective`.
        success: when an image is fooled: `"all"` (default, the
            paper's appendix H) when every exit is wrong, `"any"` when one
            is. Attacks that give back the clean image where they fail look
            weaker under `"all"`, see docs/evaluation.md.
    """

    def __init__(
        self,
        exits: Sequence[int] | None = None,
        loss: Loss = "cross_entropy",
        success: str = "all",
    ) -> None:
        super().__init__(loss)
        self.exits = check_exits(exits)
        self.success = checks.choice("success", success, ("all", "any"))

    def exit_indices(self, num_exits: int) -> tuple[int, ...]:
        """See `Objective.exit_indices`."""
        return select_exits(self.exits, num_exits)


def check_objective(objective):
    """Return `objective`, or `AverageExits()` for `None`, or raise."""
    if objective is None:
        return AverageExits()
    if not isinstance(objective, Objective):
        raise TypeError(
            "`objective` needs an Objective such as AverageExits() or "
            f"SingleExit(0), received {objective!r}."
        )
    return objective


def check_exits(exits):
    """Return `exits`, integers without duplicates, as a tuple, or `None`."""
    if exits is None:
        return None
    # A set has no order, which the columns of logged shares need.
    exits = checks.sequence(
        "exits", exits, "0-based exit indices (None is all exits)"
    )
    exits = tuple(_check_index(each, "exits") for each in exits)
    if not exits or len(set(exits)) != len(exits):
        raise ValueError(
            "`exits` needs at least one exit index and none of them twice, "
            f"received {exits}."
        )
    return exits


def select_exits(exits, num_exits):
    """Return the non-negative indices of exits of a model, a tuple.

    Args:
        exits: result of `check_exits`.
        num_exits: number of exits of the attacked model.

    Raises:
        ValueError: if an index is out of range, or two are the same exit.
    """
    if exits is None:
        return tuple(range(num_exits))
    indices = tuple(_existing(each, num_exits) for each in exits)
    if len(set(indices)) != len(indices):
        raise ValueError(
            f"`exits` {exits} names an exit twice: the model has {num_exits} "
            f"exits, so these are {indices}."
        )
    return indices


def _check_index(index, name="exit"):
    if isinstance(index, bool) or not hasattr(index, "__index__"):
        raise TypeError(
            f"`{name}` needs for each exit a 0-based integer index in depth "
            f"order, received {checks.typed(index)}."
        )
    return checks.integer("exit", index, minimum=-checks.MOST_EXITS)


def _existing(index, num_exits):
    if not -num_exits <= index < num_exits:
        raise ValueError(
            f"Exit index {index} does not exist: the model has {num_exits} "
            f"exits, so expected 0 to {num_exits - 1} (or negative, counted "
            "from the last)."
        )
    return index % num_exits
