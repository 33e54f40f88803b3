"""The contract of all attacks.

An attack sees a function from images to logits, never a model, so the same
attack serves one exit, all exits, an ensemble of exits or an early-exit
policy:

    predict = model.exit_logits()               # images -> logits per exit
    attack = PGD(epsilon=8 / 255, step_size=2 / 255, num_steps=7)
    adversarial = attack(predict, images, labels, seed=0)

A new attack writes one method, `perturb`; `generate` is final and keeps the
promises: inside the ball, inside [0, 1], no gradient flows out.
"""

from collections.abc import Callable
from collections.abc import Sequence
from typing import Self

import numpy as np
from keras import ops

from keras_neokd.attacks.geometry import NORMS
from keras_neokd.attacks.geometry import project
from keras_neokd.attacks.objective import Objective
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.configurable import Configurable
from keras_neokd.base.typing import Loss
from keras_neokd.base.typing import Tensor
from keras_neokd.base.typing import Tensors


class ExitLogits:
    """The function from images to logits of exits that an attack sees.

    Args:
        function: called as `function(images, exits)` with a tuple of 0-based
            exit indices; returns one `(batch, classes)` tensor of logits for
            each of them, in that order. For attacks that average over random
            draws of the model it takes the number of a draw as `noise`.
        num_exits: number of exits of the model behind it.
        exact: function without arguments that returns an `ExitLogits` of the
            same model as its layers compute, if this one rounds more or
            elsewhere. Defaults to `None`: it does not.
    """

    def __init__(
        self,
        function: Callable[..., Sequence[Tensor]],
        num_exits: int,
        exact: "Callable[[], ExitLogits] | None" = None,
    ) -> None:
        self.num_exits = num_exits
        self._function = function
        self._exact = exact

    def __call__(
        self,
        images: Tensor,
        exits: Sequence[int] | None = None,
        noise: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Return a tuple of float32 logits, one per exit asked for.

        Args:
            images: `(batch, height, width, channels)` in [0, 1].
            exits: tuple of 0-based indices, or `None` for all exits.
            noise: number of the draw of a random model, an integer or a
                scalar tensor; `None` (default) for the same draw every time.
        """
        if exits is None:
            exits = tuple(range(self.num_exits))
        named = {} if noise is None else {"noise": noise}
        return tuple(
            ops.cast(logits, "float32")
            for logits in self._function(images, exits, **named)
        )

    @property
    def is_exact(self) -> bool:
        """Whether it is its own `exact`."""
        return self._exact is None

    @property
    def exact(self) -> "ExitLogits":
        """The same function as the model's layers compute it.

        Attacks choose by it which of several finished images they return. It
        is prepared where it is asked for: ask once, outside of loops.
        """
        return self if self._exact is None else self._exact()

    def frozen(self) -> "ExitLogits":
        """Return the same function, prepared for weights that do not change.

        What depends on weights alone is then computed once per attack.
        """
        return self

    def staggered(self, exits: Sequence[int]) -> "ExitLogits":
        """Return an `ExitLogits` of several batches at once, one per exit.

        It has one exit, and maps images `(len(exits) * batch, ...)`, the
        batch for the first of the exits in front, to logits that are each of
        its own exit.
        """

        def function(images, _, **named):
            parts = ops.split(images, len(exits))
            logits = [
                self(part, (index,), **named)[0]
                for index, part in zip(exits, parts, strict=True)
            ]
            return (ops.concatenate(logits, axis=0),)

        exact = None if self.is_exact else lambda: self.exact.staggered(exits)
        return ExitLogits(function, 1, exact)


class Attack(Configurable):
    """Base class of attacks that stay within a ball around the image.

    Args:
        epsilon: radius of the ball, in pixel units ([0, 1]), at least 2**-24
            (less changes nothing in float32). 0 returns the clean image.
        norm: `"linf"` (default) or `"l2"`.

    Raises:
        TypeError, ValueError: here and in every subclass, if an argument is
            not as described, or `epsilon` is larger than 1 for `"linf"`.
    """

    # Whether `epsilon` may be None: no ball.
    may_be_unbounded = False

    def __init__(self, epsilon: float | None, norm: str = "linf") -> None:
        if epsilon is not None or not self.may_be_unbounded:
            epsilon = checks.pixel_change("epsilon", epsilon, minimum=0)
        self.epsilon = epsilon
        self.norm = checks.choice("norm", norm, NORMS)
        if norm == "linf" and epsilon is not None and epsilon > 1:
            raise ValueError(
                "`epsilon` is in pixel units of images in [0, 1], so for the "
                f"L-infinity norm it needs 0 <= epsilon <= 1, received "
                f"{epsilon:g}. Did you mean epsilon={epsilon:g}/255?"
            )

    @property
    def members(self) -> tuple["Attack", ...]:
        """The attacks that are run one after the other: this one."""
        return (self,)

    def with_objective(self, objective: Objective) -> Self:
        """Return a copy that maximises another `Objective`.

        Raises:
            TypeError: if the attack cannot be aimed.
        """
        raise TypeError(
            "An attack that can be aimed at one exit is needed, for example "
            "PGD(epsilon=8/255, step_size=2/255, num_steps=7); received "
            f"{self!r}."
        )

    def with_loss(
        self, loss: Loss, random_start: bool | str | None = None
    ) -> Self:
        """Return a copy that maximises another loss over the same exits.

        Args:
            loss: as in `Objective`.
            random_start: as in `PGD`; `None` (default) for that of this
                attack.

        Raises:
            TypeError: if the loss cannot be replaced.
        """
        raise TypeError(
            "An attack whose loss can be replaced is needed, PGD or "
            f"MaxAverage(PGD); received {self!r}. For an attack of your own, "
            "write with_loss(self, loss, random_start=None): it returns a "
            "copy that maximises loss(logits, labels, exit), such as "
            "self.replace(objective=self.objective.with_loss(loss))."
        )

    def perturb(
        self, predict: ExitLogits, images: Tensor, labels: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensors]:
        """Run the algorithm; the only method a new attack writes.

        Args:
            predict: an `ExitLogits`.
            images: `(batch, height, width, channels)`.
            labels: integers `(batch,)`.
            keys: int32 `(batch,)`, the randomness of each example.

        Returns:
            Tuple `(adversarial, info)`; `info` is a dict of tensors
            `(batch, k)`, possibly empty.
        """
        raise NotImplementedError

    def validate(self, num_exits: int, num_classes: int | None = None) -> None:
        """Raise `ValueError` if a model cannot be attacked like this.

        Args:
            num_exits: number of exits of the model to attack.
            num_classes: number of its classes, or `None` if not known.
        """

    def logged(self, num_exits: int) -> dict[str, Sequence[int]]:
        """Return which entries of `info` training logs, and for which exits.

        Args:
            num_exits: number of exits of the model to attack.

        Returns:
            Dict from a name to the exit indices of its `k` columns.
        """
        return {}

    def generate(
        self, predict: ExitLogits, images: Tensor, labels: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensors]:
        """Attack a batch inside a compiled step.

        Args and returns: as `perturb`. The images are projected to the ball
        and to [0, 1] and carry no gradient.

        Raises:
            TypeError, ValueError: if `perturb` returned something else.
        """
        returned = self.perturb(predict.frozen(), images, labels, keys)
        adversarial, info = self._checked(
            returned, images, self.logged(predict.num_exits)
        )
        adversarial = project(adversarial, images, self.epsilon, self.norm)
        return ops.stop_gradient(adversarial), info

    def _checked(self, returned, images, logged):
        """Return what `perturb` returned, or say what is wrong with it."""
        name = f"{type(self).__name__}.perturb"
        if not isinstance(returned, (tuple, list)) or len(returned) != 2:
            raise TypeError(
                f"{name} needs to return (adversarial, info), received "
                f"{checks.typed(returned)}."
            )
        adversarial, info = returned
        adversarial = ops.convert_to_tensor(adversarial, images.dtype)
        found, wanted = tuple(adversarial.shape), tuple(images.shape)
        if len(found) != len(wanted) or any(map(_differ, found, wanted)):
            raise ValueError(
                f"{name} needs to return one adversarial image per image, "
                f"of shape {wanted}, received shape {found}."
            )
        if not isinstance(info, dict) or not set(logged) <= set(info):
            raise ValueError(
                f"{name} needs to return an `info` dict with what `logged` "
                f"names, {sorted(logged)}, received {checks.shown(info)}."
            )
        return adversarial, info

    def __call__(
        self, predict: ExitLogits, images: Tensor, labels: Tensor, seed: int = 0
    ) -> Tensor:
        """Attack a batch of arrays.

        Args:
            predict: an `ExitLogits`, for example `model.exit_logits()`.
            images: float array `(batch, height, width, channels)` in [0, 1].
            labels: integers `(batch,)` or one-hot `(batch, classes)`.
            seed: integer; image `i` is attacked with the random numbers of
                (seed, i). Defaults to 0.

        Returns:
            Tensor of the shape of `images`.

        Raises:
            TypeError, ValueError: if an argument is not as described.
        """
        if not isinstance(predict, ExitLogits):
            raise TypeError(
                "An attack needs a function from images to logits: pass "
                "`model.exit_logits()` of a MultiExitModel, or wrap your own "
                f"function in `ExitLogits`. Received {predict!r}."
            )
        self.validate(predict.num_exits)  # Before the model sees images.
        if labels is None:
            raise ValueError(
                "An attack needs the true `labels` of the images, received "
                "None."
            )
        checks.real_numbers("Images", images)
        images = ops.convert_to_tensor(images, "float32")
        labels = ops.convert_to_tensor(labels)
        host_images = ops.convert_to_numpy(images)
        checks.images_and_labels(host_images)  # Before the model sees them.
        num_classes = predict(images[:1], (0,))[0].shape[-1]
        checks.images_and_labels(
            host_images, ops.convert_to_numpy(labels), num_classes=num_classes
        )
        self.validate(predict.num_exits, num_classes)
        if not images.shape[0]:
            return images  # Keras refuses the maximum of nothing.
        labels = checks.class_indices(labels)
        index = np.arange(images.shape[0], dtype="int32")
        keys = randomness.bits(randomness.check_seed(seed), index)
        return self.generate(predict, images, labels, keys)[0]


def _differ(found, wanted):
    """Return whether two sizes differ; 1 image is broadcast to any number."""
    return found != wanted and (found == 1 or None not in (found, wanted))
