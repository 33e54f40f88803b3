"""Fast adaptive boundary attack (Croce and Hein 2020).

FAB(epsilon=8 / 255)              # against the nearest of all classes
TargetedFAB(epsilon=8 / 255)      # against each of the likely classes (FAB-T)
"""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from keras_neokd import backend
from keras_neokd import losses
from keras_neokd.attacks import geometry
from keras_neokd.attacks import search
from keras_neokd.attacks import targets
from keras_neokd.attacks.geometry import example_norm
from keras_neokd.attacks.geometry import example_sum
from keras_neokd.attacks.geometry import select
from keras_neokd.attacks.objective import Objective
from keras_neokd.attacks.search import Problem
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.registry import ATTACKS
from keras_neokd.base.typing import Tensor
from keras_neokd.base.typing import Tensors

# Most of Newton's steps to the move that reaches a plane, and the share of the
# way below which they end.
_NEWTON_STEPS = 50
_TOLERANCE = 1e-6


@ATTACKS.register("fab")
@keras.saving.register_keras_serializable("keras_neokd")
class FAB(search.SearchAttack):
    """Walk along the decision boundary, close to the image (Croce and Hein).

    Each iteration takes the classifier as linear, moves the current point
    and the clean image to the nearest of the planes between the true class
    and the others, and goes on from a mean of the two, a little beyond the
    plane; a point that is misclassified is drawn back towards the image.

    Of several exits, their mean logits are taken as the classifier, and all
    must be wrong (or any, see `AverageExits`; NEO-KD, appendix H).

    Differences from auto-attack's code: it looks for the smallest change and
    then counts those within epsilon; here an image is left alone at the end
    of ten iterations once it is fooled within epsilon. The shortest move to
    a plane inside [0, 1] comes from Newton's method, not from sorting.

    Args:
        epsilon, norm, objective: see `SearchAttack`; a change within epsilon
            counts, and the objective's loss is not used.
        num_steps: iterations of an attempt, >= 1. Defaults to 100.
        num_restarts: number of attempts, >= 1; the first starts at the image,
            the others at random points of half the radius. Defaults to 1.
        max_weight: largest weight of the move from the clean image
            (`alpha_max`), in [0, 1]. Defaults to 0.1.
        overshoot: factor of the moves (`eta`), > 0. Defaults to 1.05.
        backward: what is left of a change that fools (`beta`), in [0, 1].
            Defaults to 0.9.
    """

    epsilon: float
    works_on_margins = True

    def __init__(
        self,
        epsilon: float,
        num_steps: int = 100,
        norm: str = "linf",
        num_restarts: int = 1,
        max_weight: float = 0.1,
        overshoot: float = 1.05,
        backward: float = 0.9,
        objective: Objective | None = None,
    ) -> None:
        super().__init__(epsilon, norm, objective, num_restarts)
        self.num_steps = checks.integer("num_steps", num_steps, minimum=1)
        self.max_weight = checks.number(
            "max_weight", max_weight, minimum=0, maximum=1
        )
        self.overshoot = checks.number("overshoot", overshoot, above=0)
        self.backward = checks.number(
            "backward", backward, minimum=0, maximum=1
        )

    def start(self, problem: Problem, attempt: Tensor) -> Tensors:
        """See `SearchAttack.start`."""
        clean = problem.images
        keys = randomness.bits(problem.keys, attempt)
        noise = geometry.random_direction(keys, clean.shape[1:], self.norm)
        moved = ops.clip(clean + 0.5 * self.epsilon * noise, 0.0, 1.0)
        restart, aim = self.aim(problem, attempt)
        return {
            **search.fresh_state(clean),
            **aim,
            "images": ops.where(restart < 1, clean, moved),
        }

    def step(self, problem: Problem) -> Callable[[Tensor, Tensors], Tensors]:
        """See `SearchAttack.step`."""
        return lambda _, state: self._step(problem, state)

    def plane(self, problem: Problem, state: Tensors) -> tuple[Tensor, Tensor]:
        """Return the nearest plane between the true class and another.

        That is the difference `(batch,)` of the logits of the other and the
        true class, and its gradient, of the shape of the images.
        """
        images = state["images"]
        num_classes = problem.logits(images)[0].shape[-1]

        def nearer(target, nearest):
            targets = ops.zeros_like(problem.labels) + target
            difference, gradient = self._difference(problem, images, targets)
            if self.norm == "linf":  # The dual norm is L1.
                length = example_sum(ops.abs(gradient))
            else:
                length = ops.sqrt(_dot(gradient, gradient))
            distance = ops.abs(difference) / (length + 1e-12)
            is_other = ops.not_equal(targets, problem.labels)
            closer = ops.logical_and(is_other, distance < nearest[0])
            return (
                ops.where(closer, distance, nearest[0]),
                ops.where(closer, difference, nearest[1]),
                select(closer, gradient, nearest[2]),
            )

        zeros = ops.zeros_like(images[:, 0, 0, 0])
        nearest = (zeros + 1e30, zeros, ops.zeros_like(images))
        return ops.fori_loop(0, num_classes, nearer, nearest)[1:]

    def _difference(self, problem, images, targets):
        def difference(images):
            logits = problem.objective.combined_logits(problem.logits(images))
            return losses.targeted_margin(logits, problem.labels, targets)

        return backend.value_and_input_gradient(difference, images)

    def _step(self, problem, state):
        clean, images = problem.images, state["images"]
        difference, gradient = self.plane(problem, state)
        # On the plane, gradient . x equals this.
        level = _dot(gradient, images) - difference
        # Both moves at once: each is many small operations.
        points, normal, level = (
            ops.concatenate(pair)
            for pair in (
                (images, clean),
                (gradient, gradient),
                (level, level),
            )
        )
        there, back = ops.split(
            move_to_plane(points, normal, level, self.norm), 2
        )
        far = ops.maximum(example_norm(there, self.norm), 1e-8)
        near = ops.maximum(example_norm(back, self.norm), 1e-8)
        weight = ops.minimum(far / (far + near), self.max_weight)
        images = ops.clip(
            (1.0 - weight) * (images + self.overshoot * there)
            + weight * (clean + self.overshoot * back),
            0.0,
            1.0,
        )
        wrong = problem.fooled(problem.logits(images))
        length = example_norm(images - clean, self.norm)
        within = ops.reshape(length <= self.epsilon, (-1,))
        found = search.keep_fooled(
            state, images, ops.logical_and(wrong, within)
        )
        drawn_back = clean + self.backward * (images - clean)
        return {**state, **found, "images": select(wrong, drawn_back, images)}


@ATTACKS.register("targeted_fab", fab_t={})
@keras.saving.register_keras_serializable("keras_neokd")
class TargetedFAB(targets.Targeted, FAB):
    """FAB-T (Croce and Hein 2020): one of the likely classes at a time.

    One gradient an iteration, where `FAB` needs one for every class. One
    attempt per target class and restart, see `targets.Targeted`.

    Args:
        *fab, **settings: as `FAB`.
        num_targets: as `TargetedAPGD`. Defaults to 9.
    """

    def __init__(
        self, *fab: Any, num_targets: int | None = 9, **settings: Any
    ) -> None:
        super().__init__(*fab, **settings)
        self.num_targets = targets.check_num_targets(num_targets)

    def plane(self, problem: Problem, state: Tensors) -> tuple[Tensor, Tensor]:
        """See `FAB.plane`: that of the target class."""
        return self._difference(problem, state["images"], state["target"])


def move_to_plane(points, normal, level, norm):
    """Return the shortest move onto a plane that stays inside [0, 1].

    Every pixel moves the same way, in L2 in proportion to its weight in the
    plane, until it reaches 0 or 1; how far they move together is found by
    Newton's method, which for this concave function, linear in pieces, comes
    from below and ends at the solution. Where the plane cannot be reached,
    all pixels move as far as they can.

    Args:
        points: tensor `(batch, ...)` in [0, 1].
        normal: tensor of the same shape, as what is returned.
        level: `(batch,)`; the plane holds the `x` with `normal . x = level`.
        norm: `"linf"` or `"l2"`, the length that is short.
    """

    def moved(time):
        return geometry.per_example(time, points) * speed

    excess = _dot(normal, points) - level
    sign = geometry.per_example(ops.sign(excess), points)
    downhill = -sign * ops.sign(normal)
    room = ops.where(
        downhill > 0, 1.0 - points, ops.where(downhill < 0, points, 0.0)
    )
    weight = ops.abs(normal)
    speed = ops.ones_like(normal) if norm == "linf" else weight

    def newton(time, missing):
        moving = ops.cast(moved(time) < room, weight.dtype)
        slope = _dot(weight * speed, moving)
        # Where no pixel can move on, time stays.
        step = ops.maximum(missing, 0.0) / ops.where(slope > 0, slope, 1.0)
        time = time + ops.where(slope > 0, step, 0.0)
        left = ops.abs(excess) - _dot(weight, ops.minimum(moved(time), room))
        return time, ops.where(slope > 0, left, 0.0)

    def is_short(time, missing):
        del time
        return ops.any(missing > _TOLERANCE * ops.abs(excess))

    time, _ = ops.while_loop(
        is_short,
        newton,
        (ops.zeros_like(excess), ops.abs(excess)),
        maximum_iterations=_NEWTON_STEPS,
    )
    return downhill * ops.minimum(moved(time), room)


def _dot(first, second):
    return example_sum(first * second)
