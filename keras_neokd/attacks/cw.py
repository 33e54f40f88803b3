"""The attack of Carlini and Wagner (2017) in the L2 norm.

CW()                                    # smallest change, no ball
CW(epsilon=1.0, num_steps=100)          # only changes of length 1 count
PGD(epsilon=0.03, step_size=0.003, num_steps=50,
    objective=AverageExits(loss="margin"))     # its margin in L-infinity
"""

import functools
from collections.abc import Callable
from typing import Any
from typing import Self

import keras
from keras import ops

from keras_neokd import backend
from keras_neokd import losses
from keras_neokd.attacks import search
from keras_neokd.attacks.geometry import example_sum
from keras_neokd.attacks.geometry import select
from keras_neokd.attacks.objective import Objective
from keras_neokd.attacks.search import Problem
from keras_neokd.base import checks
from keras_neokd.base.registry import ATTACKS
from keras_neokd.base.typing import Tensor
from keras_neokd.base.typing import Tensors

# Keeps pixels of 0 and 1 movable, whose inverse tanh is infinite.
_LARGEST = 1.0 - 1e-6
# Settings of Adam (Kingma and Ba 2015), as PyTorch has them.
_FIRST_DECAY, _SECOND_DECAY, _ADAM_EPSILON = 0.9, 0.999, 1e-8


@keras.saving.register_keras_serializable("keras_neokd")
class CW(search.SearchAttack):
    """Minimise length of the change plus a margin (Carlini and Wagner 2017).

    `|x' - x|^2 + c max(z_y - max_{i != y} z_i, -kappa)`, the second term
    averaged over the exits, with `x' = (tanh(w) + 1) / 2`. Of the iterates
    that fool all exits (or any, see `AverageExits`) the one closest to the
    image is returned. Settings are those of torchattacks 3.3 and later,
    which NEO-KD's appendix H cites.

    Differences from torchattacks' code: an image whose own cost has risen is
    left alone, where there one rise of the whole batch's cost ends the
    attack; pixels of exactly 0 and 1 can move; the largest other logit may
    be negative.

    Args:
        c: weight of the margin, > 0. Defaults to 1.
        kappa: margin beyond which confidence does not pay, >= 0. Defaults
            to 0.
        num_steps: iterations, >= 1. Defaults to 50.
        learning_rate: of Adam, > 0. Defaults to 0.01.
        epsilon: longest change (L2) that counts, or `None` (default) for
            any.
        objective: see `SearchAttack`; its loss is not used.
    """

    may_be_unbounded = True
    works_on_margins = True

    def __init__(
        self,
        c: float = 1.0,
        kappa: float = 0.0,
        num_steps: int = 50,
        learning_rate: float = 0.01,
        epsilon: float | None = None,
        objective: Objective | None = None,
    ) -> None:
        super().__init__(epsilon, "l2", objective)
        self.c = checks.number("c", c, above=0)
        self.kappa = checks.number("kappa", kappa, minimum=0)
        self.num_steps = checks.integer("num_steps", num_steps, minimum=1)
        self.learning_rate = checks.number(
            "learning_rate", learning_rate, above=0
        )

    @classmethod
    def for_ball(
        cls, epsilon: float | None = None, norm: str = "l2", **overrides: Any
    ) -> Self:
        """Return the attack for comparison with attacks in some ball.

        Its `epsilon` counts where `norm` is `"l2"` (default), not `"linf"`.
        """
        epsilon = epsilon if norm == "l2" else None
        return cls(**{"epsilon": epsilon, **overrides})

    @property
    def steps_per_round(self) -> int:  # type: ignore[override]
        """Steps between two looks at the cost."""
        return max(self.num_steps // 10, 1)

    def start(self, problem: Problem, attempt: Tensor) -> Tensors:
        """See `SearchAttack.start`."""
        del attempt  # Nothing is random.
        centred = 2.0 * problem.images - 1.0
        zeros = ops.zeros_like(problem.images)
        infinite = ops.zeros_like(zeros[:, 0, 0, 0]) + 1e30
        return {
            **search.fresh_state(problem.images),
            "w": ops.arctanh(ops.clip(centred, -_LARGEST, _LARGEST)),
            "first_moment": zeros,
            "second_moment": zeros,
            "shortest": infinite,
            "cost": infinite,
        }

    def step(self, problem: Problem) -> Callable[[Tensor, Tensors], Tensors]:
        """See `SearchAttack.step`."""
        return functools.partial(self._step, problem)

    def _step(self, problem, step, state):
        def cost(w):
            images = (ops.tanh(w) + 1.0) / 2.0
            length = example_sum(ops.square(images - problem.images))
            logits = problem.logits(images)
            margin = problem.score(
                logits, problem.objective.with_loss(self._clipped_margin)
            )
            return length + self.c * margin, (images, length, logits)

        value, gradient, (images, length, logits) = (
            backend.value_gradient_and_outputs(cost, state["w"])
        )
        fooled = problem.fooled(logits)
        if self.epsilon is not None:
            short = length <= self.epsilon**2
            fooled = ops.logical_and(fooled, short)
        active = state["active"]
        better = ops.logical_and(
            ops.logical_and(active, fooled), length < state["shortest"]
        )
        # The cost is looked at once a round, at its first iteration.
        is_check = ops.equal(step % self.steps_per_round, 0)
        falls = ops.logical_or(
            ops.logical_not(is_check), value <= state["cost"]
        )
        return {
            **state,
            **self._adam(step, gradient, state),
            "adversarial": select(better, images, state["adversarial"]),
            "fooled": ops.logical_or(state["fooled"], better),
            "shortest": ops.where(better, length, state["shortest"]),
            "active": ops.logical_and(active, falls),
            "cost": ops.where(is_check, value, state["cost"]),
        }

    def _clipped_margin(self, logits, labels, exit):
        del exit
        margin = losses.margin(logits, labels)
        return ops.maximum(-margin, -self.kappa)

    def _adam(self, step, gradient, state):
        """Return the state's entries after a step of Adam."""
        first = _FIRST_DECAY * state["first_moment"]
        first = first + (1.0 - _FIRST_DECAY) * gradient
        second = _SECOND_DECAY * state["second_moment"]
        second = second + (1.0 - _SECOND_DECAY) * ops.square(gradient)
        count = ops.cast(step, "float32") + 1.0
        unbiased = first / (1.0 - _FIRST_DECAY**count)
        scale = ops.sqrt(second / (1.0 - _SECOND_DECAY**count))
        move = self.learning_rate * unbiased / (scale + _ADAM_EPSILON)
        return {
            "w": state["w"] - move,
            "first_moment": first,
            "second_moment": second,
        }


ATTACKS.register("cw")(CW.for_ball)
