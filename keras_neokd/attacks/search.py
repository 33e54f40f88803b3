"""Attacks that search until an image is fooled, and then leave it alone.

A search is made of attempts (restarts, target classes), and an attempt of
rounds: a few iterations each, small enough to stop in between. Inside a
compiled step all examples go through all rounds. An evaluation of many images
calls the rounds one by one and hands on only the examples that are still worth
it, see `evaluation.searching`; the result of an example is the same.
"""

from collections.abc import Callable
from typing import Any
from typing import NamedTuple
from typing import Self

from keras import ops

from keras_neokd.attacks.attack import Attack
from keras_neokd.attacks.attack import ExitLogits
from keras_neokd.attacks.geometry import select
from keras_neokd.attacks.objective import Objective
from keras_neokd.attacks.objective import check_objective
from keras_neokd.base import checks
from keras_neokd.base.typing import Tensor
from keras_neokd.base.typing import Tensors


class Problem(NamedTuple):
    """One batch to attack, and what counts as success.

    Attributes:
        predict: an `ExitLogits`.
        objective: an `Objective`.
        images: `(batch, height, width, channels)` in [0, 1].
        labels: integers `(batch,)`.
        keys: int32 `(batch,)`, the randomness of each example.
    """

    predict: Any
    objective: Any
    images: Any
    labels: Any
    keys: Any

    def batch(self):
        """Return what `Attack.generate` takes."""
        return self.predict, self.images, self.labels, self.keys

    def logits(self, images, noise=None):
        """Return the logits of the exits that the objective needs."""
        exits = self.objective.exit_indices(self.predict.num_exits)
        return self.predict(images, exits, noise)

    def score(self, logits, objective=None):
        """Return what an objective, by default this one, makes of logits."""
        exits = self.objective.exit_indices(self.predict.num_exits)
        objective = self.objective if objective is None else objective
        return objective(logits, self.labels, exits)

    def fooled(self, logits):
        """Return which images are fooled, `(batch,)`."""
        return self.objective.fooled(logits, self.labels)


class SearchAttack(Attack):
    """Base class of attacks in attempts and rounds.

    An image that no attempt fools comes back as it was, as in auto-attack and
    torchattacks; so does one that is misclassified already. A new attack has
    `num_steps`, and writes `start` and `step`, whose state is a dict of
    tensors with one row per example, among them

    - `adversarial`: the image to return if `fooled`;
    - `fooled`: booleans, whether it is fooled;
    - `active`: booleans, whether further rounds can change the two.

    Args:
        epsilon: radius of the ball, in pixel units; `None` is no ball, where
            the attack allows it.
        norm: `"linf"` (default of all attacks but `CW`) or `"l2"`.
        objective: what to maximise and when an image counts as fooled;
            `None` is `AverageExits()`: the mean over all exits, every exit
            wrong.
        num_restarts: number of attempts from different starts, >= 1. Defaults
            to 1.
    """

    # Between two chances to leave fooled examples behind.
    steps_per_round = 10
    # Numbers of classes below this are refused.
    fewest_classes = 2
    # Whether the algorithm works on differences of logits, whatever the
    # objective's own score is.
    works_on_margins = False
    num_steps: int

    def __init__(
        self,
        epsilon: float | None,
        norm: str,
        objective: Objective | None,
        num_restarts: int = 1,
    ) -> None:
        super().__init__(epsilon, norm)
        self.num_restarts = checks.integer(
            "num_restarts", num_restarts, minimum=1
        )
        self.objective = check_objective(objective)
        if self.works_on_margins and self.objective.has_own_loss:
            raise ValueError(
                f"{type(self).__name__} works on margins between classes, and "
                f"{type(self.objective).__name__} is about something else: "
                "attack with PGD, APGD or Square."
            )

    def num_attempts(self, num_classes: int) -> int:
        """Return the number of attempts against a model with `num_classes`."""
        del num_classes
        return self.num_restarts

    def num_rounds(self) -> int:
        """Return the number of rounds of an attempt."""
        return -(-self.num_steps // self.steps_per_round)

    def aim(self, problem: Problem, attempt: Tensor) -> tuple[Tensor, Tensors]:
        """Return the restart of an attempt, and a dict of further state."""
        del problem
        return attempt, {}

    def start(self, problem: Problem, attempt: Tensor) -> Tensors:
        """Return the state at the start of an attempt.

        Args:
            problem: a `Problem`.
            attempt: its number from 0, an integer or a scalar tensor.
        """
        raise NotImplementedError

    def step(self, problem: Problem) -> Callable[[Tensor, Tensors], Tensors]:
        """Return a function `(number, state) -> state`, one step."""
        raise NotImplementedError

    def advance(
        self, problem: Problem, round_: Tensor, state: Tensors
    ) -> Tensors:
        """Return the state, of the same shapes and types, after a round.

        Args:
            problem: a `Problem`.
            round_: its number from 0, an integer or a scalar tensor.
            state: what `start` or the round before returned.
        """
        return ops.fori_loop(*self.steps_of(round_), self.step(problem), state)

    def steps_of(self, round_: Tensor) -> tuple[Tensor, Tensor]:
        """Return the number of a round's first step, and the one behind."""
        first = round_ * self.steps_per_round
        last = ops.minimum(first + self.steps_per_round, self.num_steps)
        return first, last

    def with_objective(self, objective: Objective) -> Self:
        """See `Attack.with_objective`."""
        return self.replace(objective=objective)

    def validate(self, num_exits: int, num_classes: int | None = None) -> None:
        """See `Attack.validate`."""
        self.objective.check(num_exits, num_classes)
        if num_classes is not None and num_classes < self.fewest_classes:
            raise ValueError(
                f"{type(self).__name__} needs at least {self.fewest_classes} "
                f"classes, received a model of {num_classes}. Use "
                "loss='margin'."
            )

    def perturb(
        self, predict: ExitLogits, images: Tensor, labels: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensors]:
        """See `Attack.perturb`; `info` holds `fooled`, `(batch, 1)`."""
        # A search judges every step by what it differentiates.
        predict = predict.exact
        problem = Problem(predict, self.objective, images, labels, keys)
        logits = problem.logits(images)
        num_rounds = self.num_rounds()

        def one_round(round_, state):
            return leave_alone(state, self.advance(problem, round_, state))

        def one_attempt(attempt, found):
            state = self.start(problem, attempt)
            return merge(found, ops.fori_loop(0, num_rounds, one_round, state))

        found = {"adversarial": images, "fooled": problem.fooled(logits)}
        num_attempts = self.num_attempts(logits[0].shape[-1])
        return returned(ops.fori_loop(0, num_attempts, one_attempt, found))


def returned(found):
    """Return what `perturb` does: images, and `info` with `fooled`."""
    fooled = ops.cast(found["fooled"], "float32")
    return found["adversarial"], {"fooled": ops.expand_dims(fooled, 1)}


def merge(found, state):
    """Add what an attempt found for images that were not fooled before."""
    first = ops.logical_and(state["fooled"], ops.logical_not(found["fooled"]))
    return {
        "adversarial": select(
            first, state["adversarial"], found["adversarial"]
        ),
        "fooled": ops.logical_or(first, found["fooled"]),
    }


def leave_alone(before, after):
    """Freeze the results of examples that were inactive before a round."""
    held = {
        name: select(before["active"], after[name], before[name])
        for name in ("adversarial", "fooled")
    }
    return {**after, **held}


def keep_fooled(state, images, fooled):
    """Return entries of a state in which the images that fool are the latest.

    Args:
        state: dict of tensors with `adversarial` and `fooled`.
        images: tensor `(batch, ...)`.
        fooled: booleans `(batch,)`, which of them fool.
    """
    ever = ops.logical_or(state["fooled"], fooled)
    return {
        "adversarial": select(fooled, images, state["adversarial"]),
        "fooled": ever,
        "active": ops.logical_not(ever),
    }


def fresh_state(images):
    """Return the three entries that every state has, with nothing found."""
    nobody = ops.zeros_like(images[:, 0, 0, 0], dtype="bool")
    return {
        "adversarial": images,
        "fooled": nobody,
        "active": ops.logical_not(nobody),
    }
