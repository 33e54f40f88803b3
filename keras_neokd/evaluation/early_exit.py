"""Run an exit policy stage by stage, and attack it with its thresholds known.

Thresholds are set on clean validation images, as those of a deployed model
would be, for a mean cost that is a share of the last exit's.
"""

import pathlib

import numpy as np

from keras_neokd import attacks
from keras_neokd.attacks.attack import Attack
from keras_neokd.base import checks
from keras_neokd.base.exit_policy import Decision
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Row
from keras_neokd.evaluation import batches
from keras_neokd.evaluation import exit_shares
from keras_neokd.evaluation import latency
from keras_neokd.evaluation.anytime import adversarial_images
from keras_neokd.evaluation.anytime import exit_probabilities
from keras_neokd.evaluation.protocol import Protocol
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import flat
from keras_neokd.evaluation.result import table
from keras_neokd.network.multi_exit import MultiExitModel
from keras_neokd.serving.predictor import EarlyExitPredictor

_PERCENTILES = (50, 90, 99)


class EarlyExitResult(Result):
    """A policy run stage by stage, with its times: a row per exit.

    `share` is that of the images that leave at the exit, `multiply-adds` the
    cost up to it, `p50 ms` a percentile of the time of a single image that
    leaves there. No image leaves where a threshold is None.
    `decisions_unlike_simulation` counts images on which the policy decides
    otherwise than on the outputs of all exits.

    Attributes:
        policy: the `ExitPolicy`.
    """

    columns = {
        "exit": "text",
        "share": "share",
        "multiply-adds": "cost",
        **{f"p{each} ms": "number" for each in _PERCENTILES},
        "threshold": "number?",
    }
    summary_columns = {
        "ensemble": "flag",
        "accuracy": "share",
        **exit_shares.FULL_COST,
        "decisions_unlike_simulation": "number",
        "images_per_second": "number",
        "images_per_second_of_last_exit": "number",
    }

    def __init__(
        self, rows: list[Row], summary: Row, policy: ExitPolicy
    ) -> None:
        super().__init__(rows, summary)
        self.policy = policy

    def write_beside(self, path: pathlib.Path) -> None:
        """Write the thresholds as `EarlyExitPredictor` reads them."""
        self.policy.save(path.with_name(f"policy_of_{path.stem}.json"))


def _check(model, validation, share_of_cost, ensemble, num_calls):
    exit_shares.check_policy(model, validation, share_of_cost, ensemble)
    checks.integer("num_calls", num_calls, minimum=1)


@Protocol("early_exit", EarlyExitResult, _check, num_exits=2)
def early_exit(
    model: MultiExitModel,
    images: Array,
    labels: Array,
    validation: tuple[Array, Array],
    share_of_cost: float = 0.5,
    ensemble: bool = False,
    num_calls: int = 100,
    batch_size: int = 64,
) -> EarlyExitResult:
    """Return an `EarlyExitResult` of a policy run stage by stage, and timed.

    Args:
        model, images, labels: as for `anytime`; labels are integers.
        validation, share_of_cost, ensemble: as for `policy_for_cost`.
        num_calls: single images timed at each exit. Defaults to 100.
        batch_size: images per compiled call, also of those that are timed.
            Defaults to 64.
    """
    checks.integer("num_calls", num_calls, minimum=1)
    images, labels = batches.check(model, images, labels, batch_size)
    policy = exit_shares.policy_for_cost(
        model, validation, share_of_cost, ensemble, batch_size
    )
    decision = _decide(model, policy, images, batch_size)
    simulated = policy.decide(
        exit_probabilities(model, images, labels, batch_size)
    )
    unlike = (decision.exit_index != simulated.exit_index) | (
        decision.label != simulated.label
    )
    costs = exit_shares.exit_costs(model)
    shares = exit_shares.shares_at_exits(decision, model)
    seconds = latency.exit_latency(model, images, num_calls)
    times = np.percentile(1e3 * seconds, _PERCENTILES, axis=1).round(3)
    early, full = latency.throughput(
        model, policy, images, min(batch_size, len(images))
    )
    bounds = (*policy.thresholds, None)
    columns = (model.exit_names, shares, costs, *times, bounds)
    rows = table(**dict(zip(EarlyExitResult.columns, columns, strict=True)))
    summary = flat(
        ensemble=ensemble,
        accuracy=(decision.label == labels).mean(),
        **exit_shares.share_of_full_cost(shares, costs, len(images)),
        decisions_unlike_simulation=int(unlike.sum()),
        images_per_second=round(early, 1),
        images_per_second_of_last_exit=round(full, 1),
    )
    return EarlyExitResult(rows, summary, policy)


def _decide(model, policy, images, batch_size):
    """Return the decision on all images, run stage by stage."""
    predictor = EarlyExitPredictor(model, policy)
    decisions = [
        predictor(images[first : first + batch_size])
        for first in range(0, len(images), batch_size)
    ]
    return Decision(*map(np.concatenate, zip(*decisions, strict=True)))


class AttackedPolicyResult(Result):
    """Accuracy and cost of a policy: a row per attack, `"none"` first."""

    columns = {
        "attack": "text",
        "accuracy": "share",
        "multiply-adds": "cost",
        **exit_shares.FULL_COST,
        "share at": "share",
    }
    summary_columns = {"threshold at": "number?"}


def _attacks_on(policy, attack):
    """Return attacks on a policy by name, all as strong as `attack`."""
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
    exit_shares.check_policy(model, **settings)


@Protocol(
    "early_exit_attacked",
    AttackedPolicyResult,
    _check_attacked,
    num_exits=2,
    section="early_exit",
)
def early_exit_attacked(
    model: MultiExitModel,
    images: Array,
    labels: Array,
    validation: tuple[Array, Array],
    attack: Attack,
    share_of_cost: float = 0.5,
    ensemble: bool = False,
    batch_size: int = 256,
    seed: int = 0,
) -> AttackedPolicyResult:
    """Return an `AttackedPolicyResult` of attacks that know the thresholds.

    The attacks are the given one, the worst of several for a wrong answer of
    the policy (the policy itself, the average and each exit attacked), and
    one for later exits.

    Args:
        model, images, labels, validation, share_of_cost, ensemble: as for
            `early_exit`.
        attack: an attack with an objective, such as `PGD`; its strength is
            that of all.
        batch_size, seed: as for `anytime`.
    """
    attack = attacks.get(attack)
    images, labels = batches.check(model, images, labels, batch_size)
    policy = exit_shares.policy_for_cost(
        model, validation, share_of_cost, ensemble, batch_size
    )
    costs, rows = exit_shares.exit_costs(model), []
    for name, each in _attacks_on(policy, attack).items():
        attacked = images
        if each is not None:
            attacked = adversarial_images(
                model, images, labels, each, batch_size, seed
            )
        decision = policy.decide(
            exit_probabilities(model, attacked, labels, batch_size)
        )
        shares = exit_shares.shares_at_exits(decision, model)
        rows.append(
            flat(
                attack=name,
                accuracy=(decision.label == labels).mean(),
                **{"multiply-adds": shares @ costs},
                **exit_shares.share_of_full_cost(shares, costs, len(images)),
                **_at_exits("share", model, shares),
            )
        )
    return AttackedPolicyResult(
        rows, flat(**_at_exits("threshold", model, policy.thresholds))
    )


def _at_exits(what, model, values):
    """Return values by "WHAT at EXIT"; the last exit has no threshold."""
    pairs = zip(model.exit_names, values, strict=False)
    return {f"{what} at {name}": value for name, value in pairs}
