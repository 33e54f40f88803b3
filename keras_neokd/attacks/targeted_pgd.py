"""PGD on differences of logits, one wrong class at a time.

TargetedPGD(epsilon=0.1, step_size=0.025, num_restarts=4)
"""

import keras

from keras_neokd import losses
from keras_neokd.attacks import search
from keras_neokd.attacks import targets
from keras_neokd.attacks.objective import Objective
from keras_neokd.attacks.pgd import PGD
from keras_neokd.attacks.search import Problem
from keras_neokd.base import randomness
from keras_neokd.base.typing import Tensor
from keras_neokd.base.typing import Tensors


@keras.saving.register_keras_serializable("keras_neokd")
class TargetedPGD(targets.Targeted, search.SearchAttack):
    """`PGD` on `z_t - z_y` towards each likely wrong class `t`, one by one.

    As MultiTargeted (Gowal et al. 2019, arXiv 1910.09338). One attempt per
    target class and random start, see `targets.Targeted`; the last iterate of
    an attempt counts.

    Args:
        epsilon, step_size, num_steps, norm: as `PGD`.
        num_restarts: random starts per target class, >= 1. Defaults to 1.
        num_targets: as `TargetedAPGD`. Defaults to 9.
        objective: which exits, and when they count as fooled; its loss is
            not used. Defaults to `AverageExits()`.
    """

    epsilon: float
    works_on_margins = True

    def __init__(
        self,
        epsilon: float,
        step_size: float,
        num_steps: int,
        norm: str = "linf",
        num_restarts: int = 1,
        num_targets: int | None = 9,
        objective: Objective | None = None,
    ) -> None:
        super().__init__(epsilon, norm, objective, num_restarts)
        self.pgd = PGD(epsilon, step_size, num_steps, norm)
        self.step_size, self.num_steps = step_size, num_steps
        self.num_targets = targets.check_num_targets(num_targets)

    def num_rounds(self) -> int:
        """Return 0: all of an attempt is in its start."""
        return 0

    def start(self, problem: Problem, attempt: Tensor) -> Tensors:
        """See `SearchAttack.start`."""
        _, aim = self.aim(problem, attempt)

        def difference(logits, labels, exit):
            del exit
            return losses.targeted_margin(logits, labels, aim["target"])

        attack = self.pgd.with_objective(self.objective.with_loss(difference))
        keys = randomness.bits(problem.keys, attempt)
        images, _ = attack.perturb(
            problem.predict, problem.images, problem.labels, keys
        )
        fooled = problem.fooled(problem.logits(images))
        state = search.fresh_state(problem.images)
        return {**state, **search.keep_fooled(state, images, fooled)}

    def advance(
        self, problem: Problem, round_: Tensor, state: Tensors
    ) -> Tensors:
        """See `SearchAttack.advance`: nothing is left to do."""
        del problem, round_
        return state
