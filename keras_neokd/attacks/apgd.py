"""Auto-PGD (Croce and Hein 2020): PGD that chooses its own step size.

APGD(epsilon=8 / 255)                                          # APGD-CE
APGD.dlr(epsilon=8 / 255)                                      # APGD-DLR
TargetedAPGD(epsilon=8 / 255)                                  # APGD-T
"""

import functools
from collections.abc import Callable
from typing import Any
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd import losses
from keras_neokd.attacks import geometry
from keras_neokd.attacks import search
from keras_neokd.attacks import targets
from keras_neokd.attacks.geometry import select
from keras_neokd.attacks.objective import Objective
from keras_neokd.attacks.objective import check_objective
from keras_neokd.attacks.search import Problem
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.registry import ATTACKS
from keras_neokd.base.typing import Tensor
from keras_neokd.base.typing import Tensors

# Weight of the new step; the rest is the momentum of the step before.
_NEW = 0.75


@ATTACKS.register("apgd", apgd_ce={}, apgd_dlr="dlr")
@keras.saving.register_keras_serializable("keras_neokd")
class APGD(search.SearchAttack):
    """Projected gradient ascent with momentum and its own step sizes.

    The step starts at 2 epsilon. At fixed iterations it is halved for the
    images whose loss rises too rarely, or has not reached a new best since
    the last of these iterations, and these go on from their best point
    (Croce and Hein 2020, Algorithm 1, with auto-attack's schedule).

    Differences from auto-attack's code: an image is left alone at the end of
    the ten iterations in which it was fooled, so the latest image of these
    that fools comes back, not the latest of all; the loss is the mean over
    exits, and all of them (or any, see `AverageExits`) must be wrong
    (NEO-KD, appendix H); over several draws it is their mean, not that of the
    last. As there, the count of rises at the first of these
    iterations compares the first loss with 0.

    Args:
        epsilon, norm, num_restarts, objective: see `SearchAttack`. With the
            objective's `loss="dlr"` it is APGD-DLR.
        num_steps: iterations of an attempt, >= 1. Defaults to 100.
        rho: share of rises below which the step is halved, from 0 to 1.
            Defaults to 0.75.
        num_draws: of a model that is random at inference: draws over which
            each gradient is averaged, >= 1 (`eot_iter`, expectation over
            transformation); the last of them decides whether an image is
            fooled. Defaults to 1: the same draw throughout.
    """

    epsilon: float

    def __init__(
        self,
        epsilon: float,
        num_steps: int = 100,
        norm: str = "linf",
        num_restarts: int = 1,
        rho: float = 0.75,
        objective: Objective | None = None,
        num_draws: int = 1,
    ) -> None:
        super().__init__(epsilon, norm, objective, num_restarts)
        self.num_draws = checks.integer("num_draws", num_draws, minimum=1)
        self.num_steps = checks.integer("num_steps", num_steps, minimum=1)
        self.rho = checks.number("rho", rho, minimum=0, maximum=1)

    @classmethod
    def dlr(
        cls,
        epsilon: float,
        objective: Objective | None = None,
        **overrides: Any,
    ) -> Self:
        """Return auto-attack's APGD-DLR: the objective's loss is `"dlr"`."""
        objective = check_objective(objective).with_loss("dlr")
        return cls(epsilon, objective=objective, **overrides)

    def start(self, problem: Problem, attempt: Tensor) -> Tensors:
        """See `SearchAttack.start`."""
        keys = randomness.bits(problem.keys, attempt)
        shape = problem.images.shape[1:]
        noise = self.epsilon * geometry.random_direction(keys, shape, self.norm)
        images = ops.clip(problem.images + noise, 0.0, 1.0)
        state = {
            **search.fresh_state(problem.images),
            **self.aim(problem, attempt)[1],
        }
        value, gradient, fooled = self._look(problem, images, state, 0)
        zeros = ops.zeros_like(value)
        return {
            **state,
            **search.keep_fooled(state, images, fooled),
            "images": images,
            "previous_images": images,
            "gradient": gradient,
            "best_images": images,
            "best_gradient": gradient,
            "best": value,
            "best_at_check": value,
            # Not `value`: see the class.
            "value": zeros,
            "rises": zeros,
            "was_halved": ops.ones_like(value, dtype="bool"),
            "step_size": zeros + 2.0 * self.epsilon,
        }

    def step(self, problem: Problem) -> Callable[[Tensor, Tensors], Tensors]:
        """See `SearchAttack.step`."""
        return functools.partial(self._step, problem)

    def objective_of(self, state: Tensors) -> Objective:
        """Return the objective to maximise, given the state of an attempt."""
        del state
        return self.objective

    def _look(self, problem, images, state, number):
        """Return score, gradient and success of the `number`th point."""
        objective = self.objective_of(state)

        def look(noise):
            def score(images):
                logits = problem.logits(images, noise)
                return problem.score(logits, objective), logits

            return backend.value_gradient_and_outputs(score, images)

        if self.num_draws == 1:
            value, gradient, logits = look(None)
            return value, gradient, problem.fooled(logits)

        def add(draw, total):
            found = look(number * self.num_draws + draw)
            return total[0] + found[0], total[1] + found[1], found[2]

        value, gradient, logits = ops.fori_loop(
            1, self.num_draws, add, look(number * self.num_draws)
        )
        share = 1.0 / self.num_draws
        return share * value, share * gradient, problem.fooled(logits)

    def _step(self, problem, step, state):
        images = self._move(problem.images, step, state)
        value, gradient, fooled = self._look(problem, images, state, step + 1)
        rises = state["rises"] + ops.cast(value > state["value"], "float32")
        better = value > state["best"]
        state = {
            **state,
            **search.keep_fooled(state, images, fooled),
            "images": images,
            "previous_images": state["images"],
            "gradient": gradient,
            "best_images": select(better, images, state["best_images"]),
            "best_gradient": select(better, gradient, state["best_gradient"]),
            "best": ops.where(better, value, state["best"]),
            "value": value,
            "rises": rises,
        }
        return self._adapt(step, state)

    def _move(self, clean, step, state):
        def project(images):
            return geometry.project(images, clean, self.epsilon, self.norm)

        images = state["images"]
        size = geometry.per_example(state["step_size"], clean)
        uphill = geometry.steepest_step(state["gradient"], self.norm)
        ascended = project(images + size * uphill)
        new = ops.where(ops.equal(step, 0), 1.0, _NEW)
        return project(
            images
            + new * (ascended - images)
            + (1.0 - new) * (images - state["previous_images"])
        )

    def _adapt(self, step, state):
        """Halve the step where it is too long, at the iterations for that."""
        # The window of an iteration that is none of them is 0.
        window = ops.take(
            ops.convert_to_tensor(_windows(self.num_steps), "float32"), step
        )
        is_check = window > 0
        too_rare = state["rises"] <= self.rho * window
        stuck = ops.logical_and(
            ops.logical_not(state["was_halved"]),
            state["best_at_check"] >= state["best"],
        )
        halved = ops.logical_or(too_rare, stuck)
        now = ops.logical_and(is_check, halved)
        return {
            **state,
            "images": select(now, state["best_images"], state["images"]),
            "gradient": select(now, state["best_gradient"], state["gradient"]),
            "step_size": ops.where(
                now, state["step_size"] / 2.0, state["step_size"]
            ),
            "was_halved": ops.where(is_check, halved, state["was_halved"]),
            "best_at_check": ops.where(
                is_check, state["best"], state["best_at_check"]
            ),
            "rises": ops.where(is_check, 0.0, state["rises"]),
        }


@ATTACKS.register("targeted_apgd", apgd_t={})
@keras.saving.register_keras_serializable("keras_neokd")
class TargetedAPGD(targets.Targeted, APGD):
    """APGD-T (Croce and Hein 2020): towards each of the likely wrong classes.

    One attempt per target class and restart, see `targets.Targeted`.

    Args:
        epsilon, num_steps, norm, num_restarts, rho: as `APGD`.
        num_targets: number of target classes, >= 1, or `None` for all; a
            model with fewer wrong classes is attacked towards all of them.
            Defaults to 9, as in auto-attack.
        loss: `"dlr"` (default, `losses.targeted_dlr`, for 4 classes or more)
            or `"margin"` (`losses.targeted_margin`).
        objective: which exits, and when they count as fooled; its loss is
            not used. Defaults to `AverageExits()`.
    """

    works_on_margins = True

    def __init__(
        self,
        epsilon: float,
        num_steps: int = 100,
        norm: str = "linf",
        num_restarts: int = 1,
        rho: float = 0.75,
        num_targets: int | None = 9,
        loss: str = "dlr",
        objective: Objective | None = None,
    ) -> None:
        super().__init__(epsilon, num_steps, norm, num_restarts, rho, objective)
        self.num_targets = targets.check_num_targets(num_targets)
        self.loss = checks.choice("loss", loss, _TARGETED)
        self.fewest_classes = 4 if loss == "dlr" else 2

    def objective_of(self, state: Tensors) -> Objective:
        """See `APGD.objective_of`."""
        loss = _TARGETED[self.loss]
        return self.objective.with_loss(
            lambda logits, labels, exit: loss(logits, labels, state["target"])
        )


_TARGETED = {"dlr": losses.targeted_dlr, "margin": losses.targeted_margin}


def checkpoints(num_steps):
    """Return the iterations after which step sizes may change.

    Of 100 these are `[22, 41, 57, 70, 80, 87, 93, 99]`.
    """
    window = max(int(0.22 * num_steps), 1)
    smaller, smallest = (max(int(x * num_steps), 1) for x in (0.03, 0.06))
    found, done = [], window
    while done <= num_steps:
        found.append(done)
        window = max(window - smaller, smallest)
        done += window
    return found


def _windows(num_steps):
    """Return, for each iteration, how many it looks back on; 0 for none."""
    windows = np.zeros(num_steps, "float32")
    before = 0
    for done in checkpoints(num_steps):
        windows[done - 1] = done - before
        before = done
    return windows
