"""AutoAttack (Croce and Hein 2020), for several exits.

AutoAttack(epsilon=8 / 255)                     # standard
AutoAttack(epsilon=8 / 255, version="plus")
AutoAttack(epsilon=8 / 255, version="margins")  # standard and two more
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
from keras_neokd.attacks.pgd import PGD
from keras_neokd.attacks.square import Square
from keras_neokd.attacks.targeted_pgd import TargetedPGD
from keras_neokd.attacks.worst_case import WorstCase
from keras_neokd.base import checks
from keras_neokd.base.configurable import settings
from keras_neokd.base.registry import ATTACKS


class _Version(NamedTuple):
    """Attacks in turn; restarts of APGD and FAB; draws of APGD."""

    members: tuple[str, ...]
    restarts: int = 1
    draws: int = 1


_STANDARD = ("apgd-ce", "apgd-t", "fab-t", "square")
_VERSIONS = {
    "standard": _Version(_STANDARD),
    "plus": _Version(
        ("apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"), restarts=5
    ),
    "rand": _Version(("apgd-ce", "apgd-dlr"), draws=20),
    # Behind the standard ones: these draw what they draw in "standard".
    "margins": _Version((*_STANDARD, "pgd-margin", "pgd-t")),
}
# Class, the objective's loss where it is used, and arguments of its own.
_MEMBERS = {
    "apgd-ce": (APGD, "cross_entropy", {}),
    "apgd-dlr": (APGD, "dlr", {}),
    "apgd-t": (TargetedAPGD, None, {}),
    "fab": (FAB, None, {}),
    "fab-t": (TargetedFAB, None, {}),
    "pgd-margin": (PGD, "margin", {"num_restarts": 4}),
    "pgd-t": (TargetedPGD, None, {}),
    "square": (Square, "margin", {}),
}
# In radii of the ball; a step that changes nothing is refused.
_PGD_STEP, _SMALLEST_STEP = 0.25, 2.0**-24


@ATTACKS.register(
    "auto_attack",
    auto_attack_plus={"version": "plus"},
    auto_attack_rand={"version": "rand"},
    auto_attack_margins={"version": "margins"},
)
@keras.saving.register_keras_serializable("keras_neokd")
class AutoAttack(WorstCase):
    """Four parameter-free attacks in turn, on the images still unharmed.

    `"standard"` is APGD-CE, APGD-T, FAB-T and Square; `"plus"` adds APGD-DLR
    and FAB, with five restarts of the three untargeted attacks; `"rand"`, for
    models that are random at inference, is APGD-CE and APGD-DLR with gradients
    averaged over 20 draws.

    `"margins"` is not of the paper: `"standard"`, with the same random
    numbers, and then for what resists PGD on differences of logits, from
    random starts in steps of a quarter of the radius (Madry et al. 2018):
    first from four on the margin `max_{i != y} z_i - z_y` (Carlini and Wagner
    2017), then from one on `z_t - z_y` towards each target class `t`
    (MultiTargeted, Gowal et al. 2019). So what resists it resists
    `"standard"`, too.

    Images that no attack fools come back clean, and with several exits one
    has to fool all of them: see `AverageExits` on `success`.

    Args:
        epsilon: radius of the ball, in pixel units.
        version: `"standard"` (default), `"plus"`, `"rand"` or `"margins"`.
        num_steps: of APGD, FAB and PGD. Defaults to 100.
        num_queries: of Square. Defaults to 5,000.
        num_targets: target classes of APGD-T, FAB-T and PGD, or `None` for
            all. Defaults to 9.
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
        kind, loss, own = _MEMBERS[name]
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
            **own,
        }
        if kind in (PGD, TargetedPGD):
            given["step_size"] = max(_PGD_STEP * epsilon, _SMALLEST_STEP)
        known = settings(kind)
        return kind(**{key: given[key] for key in given if key in known})
