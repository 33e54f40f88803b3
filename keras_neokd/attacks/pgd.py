"""Projected gradient descent (Madry et al. 2018).

PGD(epsilon=0.3, step_size=20 / 255, num_steps=7)            # average
PGD(epsilon=0.3, step_size=20 / 255, num_steps=50, num_restarts=5,
    objective=SingleExit(-1))                                 # last exit
PGD(epsilon=1.0, step_size=0.25, num_steps=20, norm="l2")
"""

import math
import warnings
from typing import Any
from typing import Self

import keras
from keras import ops

from keras_neokd import backend
from keras_neokd.attacks import geometry
from keras_neokd.attacks.attack import Attack
from keras_neokd.attacks.attack import ExitLogits
from keras_neokd.attacks.objective import Objective
from keras_neokd.attacks.objective import SingleExit
from keras_neokd.attacks.objective import check_objective
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.registry import ATTACKS
from keras_neokd.base.typing import Loss
from keras_neokd.base.typing import Tensor
from keras_neokd.base.typing import Tensors

# Standard deviation of the start "normal".
_SMALL = 0.001
# In radii of the ball. Steps of 2 cross it; the longest of published rules is
# 2.5 / num_steps (Madry et al. 2018), with a single step.
_LONGEST_STEP = 3


@ATTACKS.register("pgd", average={}, fgsm="fgsm", single="single")
@keras.saving.register_keras_serializable("keras_neokd")
class PGD(Attack):
    """Maximise an objective by projected gradient steps (Madry et al. 2018).

    Each step moves by `step_size` along the sign of the gradient (L-infinity)
    or along the gradient scaled to unit length (L2), then projects to the
    ball and to [0, 1]. The last iterate is used, as in triple-wins (Hu et
    al. 2020), whose training NEO-KD follows. Of several restarts the one
    with the highest objective is kept, example by example.

    The loop is compiled: the time to trace or compile does not depend on
    `num_steps` or `num_restarts`.

    Args:
        epsilon: radius of the ball, in pixel units.
        step_size: length of a step, in pixel units, at least 2**-24 (less
            changes nothing in float32).
        num_steps: number of steps, >= 1.
        norm: `"linf"` (default) or `"l2"`.
        random_start: start from a random point of the ball, clipped to
            [0, 1]. Defaults to True. Uniform in the L-infinity ball; in the
            L2 ball a uniform direction and a uniform length. `"normal"`
            starts from 0.001 times standard normal noise, as TRADES does.
        num_restarts: number of random starts, >= 1. Defaults to 1.
        objective: what to maximise. Defaults to `AverageExits()` (Eq. 3).

    Warns:
        UserWarning: if a step is longer than 3 epsilon: every step then jumps
            from one end of the ball to another.
    """

    epsilon: float

    def __init__(
        self,
        epsilon: float,
        step_size: float,
        num_steps: int,
        norm: str = "linf",
        random_start: bool | str = True,
        num_restarts: int = 1,
        objective: Objective | None = None,
    ) -> None:
        super().__init__(epsilon, norm)
        self.step_size = checks.pixel_change("step_size", step_size, above=0)
        self.num_steps = checks.integer("num_steps", num_steps, minimum=1)
        if isinstance(random_start, str):
            checks.choice("random_start", random_start, ("normal",))
        else:
            random_start = checks.boolean("random_start", random_start)
        self.random_start = random_start
        self.num_restarts = checks.integer(
            "num_restarts", num_restarts, minimum=1
        )
        self.objective = check_objective(objective)
        if self.num_restarts > 1 and self.random_start is False:
            raise ValueError(
                "Restarts without a random start repeat the same attempt: "
                f"received num_restarts={num_restarts} with "
                "random_start=False."
            )
        if self.step_size > _LONGEST_STEP * (self.epsilon or math.inf):
            warnings.warn(
                f"step_size={self.step_size:g} is "
                f"{self.step_size / self.epsilon:.3g} times "
                f"epsilon={self.epsilon:g}: every step jumps from one end of "
                "the ball to another. Both are in pixel units of images in "
                "[0, 1]; a usual step is epsilon / 4.",
                stacklevel=2,
            )

    @classmethod
    def fgsm(cls, epsilon: float, **overrides: Any) -> Self:
        """Return the fast gradient sign method (Goodfellow et al. 2015).

        Its one step has the length epsilon; `overrides` replace arguments of
        the constructor.
        """
        settings = {"step_size": epsilon, "num_steps": 1}
        return cls(epsilon, **{**settings, "random_start": False, **overrides})

    @classmethod
    def single(
        cls,
        epsilon: float,
        step_size: float,
        num_steps: int,
        exit: int = -1,
        **overrides: Any,
    ) -> Self:
        """Return the attack on one exit (Eq. 1 of NEO-KD).

        Arguments are those of the constructor and `exit`, a 0-based index in
        depth order; -1 (default) is the last.
        """
        overrides = {"objective": SingleExit(exit), **overrides}
        return cls(epsilon, step_size, num_steps, **overrides)

    def with_objective(self, objective: Objective) -> Self:
        """See `Attack.with_objective`."""
        return self.replace(objective=objective)

    def with_loss(
        self, loss: Loss, random_start: bool | str | None = None
    ) -> Self:
        """See `Attack.with_loss`."""
        changes = {"objective": self.objective.with_loss(loss)}
        if random_start is not None:
            changes["random_start"] = random_start
        return self.replace(**changes)

    def validate(self, num_exits: int, num_classes: int | None = None) -> None:
        """See `Attack.validate`."""
        self.objective.check(num_exits, num_classes)

    def perturb(
        self, predict: ExitLogits, images: Tensor, labels: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensors]:
        """See `Attack.perturb`. `info` is empty."""
        exits = self.objective.exit_indices(predict.num_exits)

        def score_by(predict):
            return lambda candidates: self.objective(
                predict(candidates, exits), labels, exits
            )

        score = score_by(predict)

        def ascend_from(restart):
            start = self._start(images, randomness.bits(keys, restart))
            return self._ascend(score, images, start)

        if self.num_restarts == 1:
            return ascend_from(0), {}
        exact = score_by(predict.exact)
        return self._best_of_restarts(exact, ascend_from), {}

    def _start(self, images, keys):
        if not self.random_start:
            return images
        shape = images.shape[1:]
        if self.random_start == "normal":
            noise = _SMALL * randomness.example_normal(keys, shape)
        elif self.norm == "linf":
            unit = 2.0 * randomness.example_uniform(keys, shape) - 1.0
            noise = self.epsilon * unit
        else:
            length = geometry.per_example(randomness.uniform(keys, -1), images)
            direction = geometry.random_direction(keys, shape, "l2")
            noise = self.epsilon * length * direction
        return self._project(images + noise, images)

    def _project(self, adversarial, images):
        return geometry.project(adversarial, images, self.epsilon, self.norm)

    def _ascend(self, score, images, start):
        def step(_, adversarial):
            _, gradient = backend.value_and_input_gradient(score, adversarial)
            uphill = geometry.steepest_step(gradient, self.norm)
            return self._project(adversarial + self.step_size * uphill, images)

        return ops.fori_loop(0, self.num_steps, step, start)

    def _best_of_restarts(self, score, ascend_from):
        first = ascend_from(0)

        def body(restart, best):
            candidate = ascend_from(restart)
            return keep_better(*best, candidate, score(candidate))

        best = (first, score(first))
        return ops.fori_loop(1, self.num_restarts, body, best)[0]


def keep_better(
    images: Tensor, highest: Tensor, candidate: Tensor, value: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the images with the higher values, example by example, and these.

    Ties keep the earlier image, and anything is better than NaN.
    """
    better = ops.logical_or(value > highest, ops.isnan(highest))
    return (
        geometry.select(better, candidate, images),
        ops.where(better, value, highest),
    )
