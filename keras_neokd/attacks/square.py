"""Square attack (Andriushchenko et al. 2020): random search, no gradients.

Square(epsilon=8 / 255)
Square(epsilon=0.3, num_queries=1_000, objective=SingleExit(-1))
Square(epsilon=0.5, norm="l2")
"""

from typing import Any
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_neokd.attacks import search
from keras_neokd.attacks import square_changes
from keras_neokd.attacks.geometry import select
from keras_neokd.attacks.objective import AverageExits
from keras_neokd.attacks.objective import Objective
from keras_neokd.attacks.objective import check_objective
from keras_neokd.attacks.search import Problem
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.registry import ATTACKS
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Tensor
from keras_neokd.base.typing import Tensors

_CHANGES = {"linf": square_changes.Squares, "l2": square_changes.Windows}
# Queries (of 10,000) after which the squares shrink to half their area.
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@keras.saving.register_keras_serializable("keras_neokd")
class Square(search.SearchAttack):
    """Change random squares and keep what helps (Andriushchenko et al. 2020).

    In L-infinity it starts from vertical stripes of random signs, and each
    query sets a square of the image to the upper or lower end of the ball,
    per channel. In L2 it starts from bumps of random signs, and each query
    moves the change of one window into another. A query is kept where the
    objective rises or the image is fooled. It sees logits only, so where it
    beats attacks that use gradients, these are masked.

    Differences from auto-attack's code: each image has its own squares,
    drawn from (seed, index of the image, query), so that results do not
    depend on the batch; in L2 the first bumps are centred on images of any
    size and shape, where auto-attack fails if not five of them fill a side.
    Its loss is the margin, averaged over exits.

    Args:
        epsilon, norm, num_restarts: see `SearchAttack`.
        num_queries: queries of an attempt, >= 1. Defaults to 5,000.
        area: share of the image that the first squares cover (`p_init`), in
            (0, 1]. Defaults to 0.8.
        rescale_schedule: stretch the schedule of the squares' sizes to
            `num_queries`, as torchattacks does by default; else it is made
            for 10,000. Defaults to False, as in AutoAttack.
        objective: see `SearchAttack`. Defaults to
            `AverageExits(loss="margin")`.
    """

    steps_per_round = 100

    def __init__(
        self,
        epsilon: float,
        num_queries: int = 5_000,
        norm: str = "linf",
        num_restarts: int = 1,
        area: float = 0.8,
        rescale_schedule: bool = False,
        objective: Objective | None = None,
    ) -> None:
        if objective is None:
            objective = AverageExits(loss="margin")
        super().__init__(epsilon, norm, objective, num_restarts)
        self.num_queries = checks.integer("num_queries", num_queries, minimum=1)
        self.area = checks.number("area", area, above=0, maximum=1)
        self.rescale_schedule = checks.boolean(
            "rescale_schedule", rescale_schedule
        )

    @classmethod
    def margin(
        cls,
        epsilon: float,
        objective: Objective | None = None,
        **overrides: Any,
    ) -> Self:
        """Return auto-attack's: the loss of any objective is the margin."""
        objective = check_objective(objective).with_loss("margin")
        return cls(epsilon, objective=objective, **overrides)

    @property
    def num_steps(self) -> int:  # type: ignore[override]
        """Number of steps of an attempt: its queries."""
        return self.num_queries

    def start(self, problem: Problem, attempt: Tensor) -> Tensors:
        """See `SearchAttack.start`."""
        clean = problem.images
        keys = randomness.bits(problem.keys, attempt)
        images = self._changes(clean).first(keys)
        logits = problem.logits(images)
        state = search.fresh_state(clean)
        return {
            **state,
            **search.keep_fooled(state, images, problem.fooled(logits)),
            "images": images,
            "best": problem.score(logits),
            "keys": keys,
        }

    def advance(
        self, problem: Problem, round_: Tensor, state: Tensors
    ) -> Tensors:
        """See `SearchAttack.advance`."""
        changes = self._changes(problem.images)
        first, last = self.steps_of(round_)
        count = min(self.steps_per_round, self.num_queries)
        queries = ops.minimum(
            first + ops.arange(count, dtype="int32"), self.num_queries - 1
        )
        drawn = changes.drawn(state["keys"], queries)

        def query(number, state):
            own = {
                name: ops.take(each, number - first, axis=0)
                for name, each in drawn.items()
            }
            images = changes.propose(state["images"], own)
            return _judged(problem, images, state)

        return ops.fori_loop(first, last, query, state)

    def sides(self, height: int, width: int) -> Array:
        """Return the side of each query's square, int32 `(num_queries,)`.

        Args:
            height, width: of the images; all in pixels.
        """
        query = np.arange(self.num_queries)
        if self.rescale_schedule:
            query = (query / self.num_queries * 10_000).astype("int64")
        halvings = (query[:, None] > np.array(_HALVED_AFTER)).sum(axis=1)
        area = self.area / 2.0**halvings
        sides = np.round(np.sqrt(area * height * width)).astype("int32")
        if self.norm == "l2":
            # Odd, so that a bump has a pixel at its centre.
            sides = np.maximum(sides, 3) // 2 * 2 + 1
        return np.clip(sides, 1, min(height, width))

    def _changes(self, clean):
        sides = self.sides(*clean.shape[1:3])
        return _CHANGES[self.norm](self.epsilon, sides, clean)


def _judged(problem, images, state):
    """Return the state after a query of some images."""
    logits = problem.logits(images)
    score, fooled = problem.score(logits), problem.fooled(logits)
    # What is fooled stays so: no later query can undo it.
    better = ops.logical_and(
        state["active"], ops.logical_or(score > state["best"], fooled)
    )
    first = ops.logical_and(state["active"], fooled)
    return {
        **state,
        **search.keep_fooled(state, images, first),
        "images": select(better, images, state["images"]),
        "best": ops.where(better, score, state["best"]),
    }


ATTACKS.register("square")(Square.margin)
