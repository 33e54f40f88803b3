"""The worst of several attacks, image by image.

WorstCase([PGD(epsilon=0.1, step_size=0.01, num_steps=100),
           APGD(epsilon=0.1), Square(epsilon=0.1)])
"""

from collections.abc import Sequence
from typing import Any
from typing import Self

import keras

from keras_neokd.attacks import search
from keras_neokd.attacks.attack import Attack
from keras_neokd.attacks.attack import ExitLogits
from keras_neokd.attacks.objective import Objective
from keras_neokd.attacks.objective import check_objective
from keras_neokd.attacks.pgd import PGD
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.registry import ATTACKS
from keras_neokd.base.typing import Tensor
from keras_neokd.base.typing import Tensors


@ATTACKS.register("worst_case", cw_linf="cw_linf")
@keras.saving.register_keras_serializable("keras_neokd")
class WorstCase(Attack):
    """Try one attack after another on the images that still resist.

    As AutoAttack (Croce and Hein 2020). An image keeps what the first attack
    that fooled it made of it; one that no attack fools comes back clean, and
    so does one that is misclassified already.

    Args:
        attacks: list of at least one `Attack`, all of one norm.
        objective: which exits, and when an image counts as fooled, whatever
            the objectives of the attacks say. Defaults to `AverageExits()`:
            all exits, every one wrong.

    Raises:
        ValueError: if there is no attack, or the norms differ.
    """

    may_be_unbounded = True

    def __init__(
        self, attacks: Sequence[Attack], objective: Objective | None = None
    ) -> None:
        attacks = checks.sequence("attacks", attacks, "Attacks")
        if not all(isinstance(each, Attack) for each in attacks):
            raise TypeError(
                "`attacks` needs a list of Attacks, received "
                f"{checks.shown(attacks)}."
            )
        norms = sorted({each.norm for each in attacks})
        if len(norms) != 1:
            raise ValueError(
                "`attacks` needs attacks of one norm, to have one ball: "
                f"received {len(attacks)} attacks of norms {norms}."
            )
        radii: list[Any] = [each.epsilon for each in attacks]
        super().__init__(None if None in radii else max(radii), norms[0])
        self.attacks = attacks
        self.objective = check_objective(objective)

    @classmethod
    def cw_linf(
        cls,
        epsilon: float,
        step_size: float,
        num_steps: int,
        norm: str = "linf",
        random_start: bool | str = True,
        num_restarts: int = 1,
        objective: Objective | None = None,
    ) -> Self:
        """Return PGD on the margin of Carlini and Wagner, in L-infinity.

        Arguments are as in `PGD`; of the objective the loss is not used. As
        with `CW`, an image that resists comes back clean.

        Raises:
            ValueError: if `norm` is another one.
        """
        if norm != "linf":
            raise ValueError(
                "'cw_linf' knows the L-infinity norm only, and `norm` is "
                f"{norm!r}. Take 'cw' instead."
            )
        objective = check_objective(objective)
        pgd = PGD(
            epsilon,
            step_size,
            num_steps,
            random_start=random_start,
            num_restarts=num_restarts,
            objective=objective.with_loss("margin"),
        )
        return cls([pgd], objective)

    @property
    def members(self) -> tuple[Attack, ...]:
        """All attacks in order, those of other `WorstCase`s one by one."""
        return tuple(
            member for attack in self.attacks for member in attack.members
        )

    def validate(self, num_exits: int, num_classes: int | None = None) -> None:
        """See `Attack.validate`."""
        self.objective.check(num_exits)
        for attack in self.attacks:
            attack.validate(num_exits, num_classes)

    def perturb(
        self, predict: ExitLogits, images: Tensor, labels: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensors]:
        """See `Attack.perturb`; `info` holds `fooled`, `(batch, 1)`."""
        problem = search.Problem(
            predict.exact, self.objective, images, labels, keys
        )
        found = {
            "adversarial": images,
            "fooled": problem.fooled(problem.logits(images)),
        }
        for number, attack in enumerate(self.members):
            candidate, _ = attack.generate(
                predict, images, labels, self._keys(keys, number)
            )
            fooled = problem.fooled(problem.logits(candidate))
            found = search.merge(
                found, {"adversarial": candidate, "fooled": fooled}
            )
        return search.returned(found)

    def _keys(self, keys, number):
        # A single attack draws what it draws alone.
        if len(self.members) == 1:
            return keys
        return randomness.bits(keys, number)
