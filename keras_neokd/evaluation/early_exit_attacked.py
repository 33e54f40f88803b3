"""An exit policy attacked by those who know its thresholds."""

import dataclasses

import numpy as np

from keras_neokd import attacks
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.evaluation.anytime import adversarial_images
from keras_neokd.evaluation.anytime import exit_probabilities
from keras_neokd.evaluation.exit_shares import FULL_COST
from keras_neokd.evaluation.exit_shares import check_policy
from keras_neokd.evaluation.exit_shares import exit_costs
from keras_neokd.evaluation.exit_shares import policy_for_cost
from keras_neokd.evaluation.exit_shares import share_of_full_cost
from keras_neokd.evaluation.exit_shares import shares_at_exits
from keras_neokd.evaluation.protocol import Protocol
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import flat
from keras_neokd.evaluation.result import table


@dataclasses.dataclass(frozen=True)
class AttackedPolicyResult(Result):
    """Accuracy and cost of a policy under attacks.

    Attributes:
        exit_names: names of the exits in depth order.
        policy: the `ExitPolicy`.
        exit_costs: multiply-adds up to each exit, `(exits,)`.
        attack_names: names of the attacks.
        accuracy: of the policy, `(attacks,)`.
        exit_shares: share of the images at each exit, `(attacks, exits)`.
        num_examples: number of images.
    """

    columns = {
        "attack": "text",
        "accuracy": "share",
        "multiply-adds": "cost",
        **FULL_COST,
        "share at": "share",
    }
    summary_columns = {"threshold at": "number?"}

    exit_names: tuple
    policy: ExitPolicy
    exit_costs: np.ndarray
    attack_names: tuple
    accuracy: np.ndarray
    exit_shares: np.ndarray
    num_examples: int

    def rows(self):
        """Return a row per attack."""
        costs = [
            share_of_full_cost(each, self.exit_costs, self.num_examples)
            for each in self.exit_shares
        ]
        return table(
            attack=self.attack_names,
            accuracy=self.accuracy,
            **{"multiply-adds": self.exit_shares @ self.exit_costs},
            **{name: [each[name] for each in costs] for name in FULL_COST},
            **{"share at": (self.exit_names, self.exit_shares)},
        )

    def summary(self):
        """Return the thresholds of the policy."""
        pairs = zip(self.exit_names, self.policy.thresholds, strict=False)
        return flat(**{f"threshold at {name}": each for name, each in pairs})


def attacks_on(policy, attack):
    """Return attacks on a policy by name; `None` for no attack.

    Args:
        policy: an `ExitPolicy`.
        attack: an attack with an objective, such as `PGD`; its strength is
            that of all.
    """
    wrong = attacks.EarlyExit(policy, loss="margin")
    objectives = (
        wrong,
        attacks.EarlyExit(policy),
        attacks.AverageExits(),
        *(attacks.SingleExit(exit) for exit in range(policy.num_exits)),
    )
    return {
        "none": None,
        "average attack": attack,
        "wrong answer": attacks.WorstCase(
            [attack.with_objective(each) for each in objectives], wrong
        ),
        "slow down": attack.with_objective(attacks.SlowDown(policy)),
    }


def _check_attacked(model, attack, **settings):
    del attack
    check_policy(model, **settings)


@Protocol(
    "early_exit_attacked",
    AttackedPolicyResult,
    _check_attacked,
    num_exits=2,
    section="early_exit",
)
def early_exit_attacked(
    model,
    images,
    labels,
    validation,
    attack,
    share_of_cost=0.5,
    ensemble=False,
    batch_size=256,
    seed=0,
):
    """Attack a policy with its thresholds known, see `attacks_on`.

    Args:
        model, images, labels, validation, share_of_cost, ensemble: as for
            `early_exit`.
        attack: as for `attacks_on`.
        batch_size: images per compiled call. Defaults to 256.
        seed: integer. Defaults to 0.

    Returns:
        An `AttackedPolicyResult`.
    """
    policy = policy_for_cost(
        model, validation, share_of_cost, ensemble, batch_size
    )
    planned = attacks_on(policy, attack)
    accuracy, shares = [], []
    for each in planned.values():
        attacked = images
        if each is not None:
            attacked = adversarial_images(
                model, images, labels, each, batch_size, seed
            )
        decision = policy.decide(
            exit_probabilities(model, attacked, labels, batch_size)
        )
        accuracy.append((decision.label == labels).mean())
        shares.append(shares_at_exits(decision, model.num_exits))
    return AttackedPolicyResult(
        exit_names=model.exit_names,
        policy=policy,
        exit_costs=exit_costs(model),
        attack_names=tuple(planned),
        accuracy=np.array(accuracy),
        exit_shares=np.stack(shares),
        num_examples=len(images),
    )
