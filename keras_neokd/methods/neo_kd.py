"""NEO-KD and its two parts.

    NEOKD()                              # the paper: alpha 3, beta 1
    NEOKD(nkd_weight=2, eokd_weight=0.5, exit_weights=(1, 1, 1.5))
    NKD()                                # Table 6: NKD only
    EOKD()                               # Table 6: EOKD only
    NEOKD(teacher="all")                 # Table 7: teacher of all exits
    NEOKD(radius=2)                      # two neighbours on each side

Equations are those of NEO-KD (arXiv 2311.00428).
"""

from collections.abc import Sequence

import keras

from keras_neokd import losses
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.configurable import settings
from keras_neokd.base.registry import METHODS
from keras_neokd.methods.context import Context
from keras_neokd.methods.context import Term
from keras_neokd.methods.exit_weights import check_exit_weights
from keras_neokd.methods.exit_weights import resolve_exit_weights
from keras_neokd.methods.method import Method
from keras_neokd.methods.method import Sum

_TEACHERS = ("none", "neighbors", "all")
_ALLOCATIONS = ("epoch", "batch", "sample", "fixed")
_LEFT_OVER = ("drop", "spread")
# Keeps the class draw apart from other uses of the same seed.
_EOKD_STREAM = 0x0E0CD


class _Distillation(Method):
    """Base of NKD and EOKD: weight, exit weights, divergence."""

    def __init__(
        self,
        weight: float,
        exit_weights: Sequence[float] | None,
        divergence: str,
        temperature: float,
    ) -> None:
        self.weight = checks.number("weight", weight, minimum=0)
        self.exit_weights = check_exit_weights(exit_weights)
        self.divergence = checks.choice(
            "divergence", divergence, losses.DIVERGENCES
        )
        self.temperature = checks.number("temperature", temperature, above=0)

    def validate(self, model: keras.Model) -> None:
        """See `Method.validate`."""
        resolve_exit_weights(self.exit_weights, model.num_exits)

    def _term(self, name, values):
        weights = resolve_exit_weights(self.exit_weights, values.shape[1])
        return Term(name, values, tuple(self.weight * each for each in weights))


@METHODS.register("nkd")
@keras.saving.register_keras_serializable("keras_neokd")
class NKD(_Distillation):
    """Eq. 4 plus neighbour knowledge distillation (Eq. 5).

    The mean clean prediction of an exit and its neighbours teaches that
    exit's prediction on the attacked image.

    Args:
        weight: alpha of Eq. 7, >= 0. Defaults to 3.
        exit_weights: gamma of Eq. 7, one number >= 0 per exit; `None`
            (default) takes the paper's values for 3, 5 or 7 exits.
        teacher: `"neighbors"` (default), `"none"` (each exit alone) or
            `"all"` (mean of all exits): the rows of Table 7.
        divergence: `"cross_entropy"` against the teacher's probabilities
            (default) or `"kl"`: equal gradients, other logged values.
        temperature: softmax temperature of teacher and student, > 0; no
            factor T**2. Defaults to 1.
        radius: neighbours on each side for `teacher="neighbors"`, >= 1.
            Defaults to 1, the paper's; more is for networks with many exits.
    """

    def __init__(
        self,
        weight: float = 3.0,
        exit_weights: Sequence[float] | None = None,
        teacher: str = "neighbors",
        divergence: str = "cross_entropy",
        temperature: float = 1.0,
        radius: int = 1,
    ) -> None:
        super().__init__(weight, exit_weights, divergence, temperature)
        self.teacher = checks.choice("teacher", teacher, _TEACHERS)
        self.radius = checks.integer("radius", radius, minimum=1)

    def extra_term_names(self) -> tuple[str, ...]:
        """See `Method.extra_term_names`."""
        return ("nkd",)

    def extra_terms(self, context: Context) -> list[Term]:
        """See `Method.extra_terms`."""
        radius = {"none": 0, "neighbors": self.radius, "all": None}
        values = losses.nkd(
            context.clean,
            context.adversarial,
            radius[self.teacher],
            self.divergence,
            self.temperature,
        )
        return [self._term("nkd", values)]


@METHODS.register("eokd")
@keras.saving.register_keras_serializable("keras_neokd")
class EOKD(_Distillation):
    """Eq. 4 plus exit-wise orthogonal knowledge distillation (Eq. 6).

    Each exit learns its own clean prediction on the attacked image,
    restricted to the true class and `floor((C - 1) / L)` random other
    classes, disjoint between exits. The draw is a function of (seed, epoch,
    label), so it is equal on all backends and after a resume.
    `train_on_batch` uses the epoch of the last `fit` (0 before the first).

    Args:
        weight: beta of Eq. 7, >= 0. Defaults to 1.
        exit_weights, divergence, temperature: as in `NKD`.
        allocation: how long a draw lasts: `"epoch"` (default, the paper: one
            table indexed by the true label), `"batch"` (the same, redrawn
            for every step), `"sample"` (every image its own) or `"fixed"`
            (one table for the whole training). A loop of `fit(epochs=1)`
            needs `initial_epoch`, or it stays in epoch 0.
        left_over: what becomes of the classes that the division leaves over:
            `"drop"` (default, the paper: they belong to no exit) or
            `"spread"` (one each to the first exits).

    Raises:
        ValueError: when the model is compiled, if there are fewer wrong
            classes than exits.
    """

    def __init__(
        self,
        weight: float = 1.0,
        exit_weights: Sequence[float] | None = None,
        allocation: str = "epoch",
        divergence: str = "cross_entropy",
        temperature: float = 1.0,
        left_over: str = "drop",
    ) -> None:
        super().__init__(weight, exit_weights, divergence, temperature)
        self.allocation = checks.choice("allocation", allocation, _ALLOCATIONS)
        self.left_over = checks.choice("left_over", left_over, _LEFT_OVER)

    def validate(self, model: keras.Model) -> None:
        """See `Method.validate`."""
        super().validate(model)
        num_exits, num_classes = model.num_exits, model.num_classes
        if num_classes - 1 < num_exits:
            raise ValueError(
                "EOKD gives each exit at least one class besides the true "
                f"one: with {num_exits} exits it needs at least "
                f"{num_exits + 1} classes, the model has {num_classes}. Use "
                "NKD, or fewer exits."
            )

    def extra_term_names(self) -> tuple[str, ...]:
        """See `Method.extra_term_names`."""
        return ("eokd",)

    def extra_terms(self, context: Context) -> list[Term]:
        """See `Method.extra_terms`."""
        _, num_exits, num_classes = context.clean.shape
        allowed = losses.orthogonal_classes(
            context.labels,
            num_exits,
            num_classes,
            self._keys(context.labels, context.position),
            spread_left_over=self.left_over == "spread",
        )
        values = losses.eokd(
            context.clean,
            context.adversarial,
            allowed,
            self.divergence,
            self.temperature,
        )
        return [self._term("eokd", values)]

    def _keys(self, labels, position):
        epoch, step = position.epoch, position.step
        words = {
            "fixed": (labels,),
            "epoch": (epoch, labels),
            "batch": (epoch, step, labels),
            "sample": (epoch, step, position.index),
        }[self.allocation]
        return randomness.bits(position.seed, _EOKD_STREAM, *words)


@METHODS.register("neo_kd")
@keras.saving.register_keras_serializable("keras_neokd")
class NEOKD(Sum):
    """NEO-KD: Eq. 4 plus NKD plus EOKD (Eq. 7).

    `sum_i CE(f_i(x), y) + CE(f_i(x_adv), y)
    + gamma_i * (alpha * NKD_i + beta * EOKD_i)`, mean over examples.

    Args:
        nkd_weight: alpha, >= 0. Defaults to 3.
        eokd_weight: beta, >= 0. Defaults to 1.
        exit_weights, teacher, divergence, temperature, radius: as in `NKD`.
        allocation, left_over: as in `EOKD`.
    """

    def __init__(
        self,
        nkd_weight: float = 3.0,
        eokd_weight: float = 1.0,
        exit_weights: Sequence[float] | None = None,
        teacher: str = "neighbors",
        allocation: str = "epoch",
        divergence: str = "cross_entropy",
        temperature: float = 1.0,
        radius: int = 1,
        left_over: str = "drop",
    ) -> None:
        checks.number("nkd_weight", nkd_weight, minimum=0)
        checks.number("eokd_weight", eokd_weight, minimum=0)
        shared = (divergence, temperature)
        nkd = NKD(nkd_weight, exit_weights, teacher, *shared, radius)
        eokd = EOKD(eokd_weight, exit_weights, allocation, *shared, left_over)
        super().__init__([(1.0, nkd), (1.0, eokd)])
        weights = {"nkd_weight": nkd.weight, "eokd_weight": eokd.weight}
        checked = {**vars(nkd), **vars(eokd), **weights}
        vars(self).update({name: checked[name] for name in settings(NEOKD)})

    __repr__ = Method.__repr__
