"""AutoAttack (Croce and Hein 2020), for several exits.

AutoAttack(epsilon=8 / 255)                     # standard
AutoAttack(epsilon=8 / 255, version="plus")
AutoAttack.paper()                              # appendix H of NEO-KD
WorstCase([APGD(epsilon=0.1), Square(epsilon=0.1)])     # an order of your own
"""

from typing import NamedTuple
from typing import Self

import keras

from keras_neokd.attacks.apgd import APGD
from keras_neokd.attacks.apgd import TargetedAPGD
from keras_neokd.attacks.fab import FAB
from keras_neokd.attacks.fab import TargetedFAB
from keras_neokd.attacks.objective import Objective
from keras_neokd.attacks.objective import check_objective
from keras_neokd.attacks.square import Square
from keras_neokd.attacks.worst_case import WorstCase
from keras_neokd.base import checks
from keras_neokd.base.configurable import settings
from keras_neokd.base.registry import ATTACKS


class _Version(NamedTuple):
    """Attacks in turn; restarts of APGD and FAB; draws of APGD."""

    members: tuple[str, ...]
    restarts: int = 1
    draws: int = 1


_VERSIONS = {
    "standard": _Version(("apgd-ce", "apgd-t", "fab-t", "square")),
    "plus": _Version(
        ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"), restarts=5
    ),
    "rand": _Version(("apgd-ce", "apgd-dlr"), draws=20),
}
# Class, and the objective's loss where it is used.
_MEMBERS = {
    "apgd-ce": (APGD, "cross_entropy"),
    "apgd-dlr": (APGD, "dlr"),
    "apgd-t": (TargetedAPGD, None),
    "fab": (FAB, None),
    "fab-t": (TargetedFAB, None),
    "square": (Square, "margin"),
}


@ATTACKS.register(
    "auto_attack",
    auto_attack_plus={"version": "plus"},
    auto_attack_rand={"version": "rand"},
)
@keras.saving.register_keras_serializable("keras_neokd")
class AutoAttack(WorstCase):
    """Four parameter-free attacks in turn, on the images still unharmed.

    `"standard"` is APGD-CE, APGD-T, FAB-T and Square; `"plus"` adds APGD-DLR
    and FAB, with five restarts of the three untargeted attacks; `"rand"`, for
    models that are random at inference, is APGD-CE and APGD-DLR with gradients
    averaged over 20 draws.

    Images that no attack fools come back clean, and with several exits one
    has to fool all of them: see `AverageExits` on `success`.

    Args:
        epsilon: radius of the ball, in pixel units.
        version: `"standard"` (default), `"plus"` or `"rand"`.
        num_steps: of APGD and FAB. Defaults to 100.
        num_queries: of Square. Defaults to 5,000.
        num_targets: target classes of APGD-T and FAB-T, or `None` for all.
            Defaults to 9.
        loss: of APGD-T: `"dlr"` (default), which needs 4 classes, or
            `"margin"`. `"plus"` and `"rand"` need 3 classes for APGD-DLR.
        norm: of all of them, `"linf"` (default) or `"l2"`.
        objective: which exits, and when an image counts as fooled; its loss
            is not used. Defaults to `AverageExits()`.
    """

    def __init__(
        self,
        epsilon: float,
        version: str = "standard",
        num_steps: int = 100,
        num_queries: int = 5_000,
        num_targets: int | None = 9,
        loss: str = "dlr",
        norm: str = "linf",
        objective: Objective | None = None,
    ) -> None:
        self.version = checks.choice("version", version, _VERSIONS)
        self.num_steps = num_steps
        self.num_queries = num_queries
        self.num_targets = num_targets
        self.loss = loss
        self.norm = norm
        objective = check_objective(objective)
        members = [
            self._member(name, epsilon, objective)
            for name in _VERSIONS[version].members
        ]
        super().__init__(members, objective)

    @classmethod
    def paper(
        cls, epsilon: float = 0.03, objective: Objective | None = None
    ) -> Self:
        """Return NEO-KD's AutoAttack (appendix H.3).

        50 iterations of every attack, all target classes, 5,000 queries.
        """
        return cls(epsilon, num_steps=50, num_targets=None, objective=objective)

    def _member(self, name, epsilon, objective):
        kind, loss = _MEMBERS[name]
        version = _VERSIONS[self.version]
        given = {
            "epsilon": epsilon,
            "num_steps": self.num_steps,
            "num_queries": self.num_queries,
            "num_targets": self.num_targets,
            "loss": self.loss,
            "norm": self.norm,
            "num_restarts": version.restarts if kind in (APGD, FAB) else 1,
            "num_draws": version.draws,
            "objective": objective.with_loss(loss) if loss else objective,
        }
        known = settings(kind)
        return kind(**{key: given[key] for key in given if key in known})
