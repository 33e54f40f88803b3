"""An exit policy run for real: stages of the network for undecided images.

Thresholds are set on clean validation images, as those of a model that is put
to use would be, for a mean cost that is a share of the last exit's.
"""

import dataclasses

import numpy as np

from keras_neokd.base import checks
from keras_neokd.base.exit_policy import Decision
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.evaluation.anytime import exit_probabilities
from keras_neokd.evaluation.exit_shares import FULL_COST
from keras_neokd.evaluation.exit_shares import check_policy
from keras_neokd.evaluation.exit_shares import exit_costs
from keras_neokd.evaluation.exit_shares import policy_for_cost
from keras_neokd.evaluation.exit_shares import share_of_full_cost
from keras_neokd.evaluation.exit_shares import shares_at_exits
from keras_neokd.evaluation.latency import exit_latency
from keras_neokd.evaluation.latency import throughput
from keras_neokd.evaluation.protocol import Protocol
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import flat
from keras_neokd.evaluation.result import table
from keras_neokd.serving.predictor import EarlyExitPredictor

_PERCENTILES = (50, 90, 99)


@dataclasses.dataclass(frozen=True)
class EarlyExitResult(Result):
    """A policy run stage by stage, with its times.

    Attributes:
        exit_names: names of the exits in depth order.
        policy: the `ExitPolicy`.
        exit_costs: multiply-adds up to each exit, `(exits,)`.
        exit_shares: share of the images at each exit, `(exits,)`.
        seconds: of single images that leave at each exit, `(exits, calls)`.
        accuracy: of the policy.
        num_examples: number of images.
        num_unlike_simulation: images on which it decides otherwise than the
            policy does on the outputs of all exits.
        images_per_second: tuple of the policy's and the last exit's.
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
        **FULL_COST,
        "decisions_unlike_simulation": "number",
        "images_per_second": "number",
        "images_per_second_of_last_exit": "number",
    }

    exit_names: tuple
    policy: ExitPolicy
    exit_costs: np.ndarray
    exit_shares: np.ndarray
    seconds: np.ndarray
    accuracy: float
    num_examples: int
    num_unlike_simulation: int
    images_per_second: tuple

    def rows(self):
        """Return a row per exit; no image leaves where a threshold is None."""
        percentiles = np.percentile(1e3 * self.seconds, _PERCENTILES, axis=1)
        names = [f"p{each} ms" for each in _PERCENTILES]
        return table(
            exit=self.exit_names,
            share=self.exit_shares,
            **{"multiply-adds": self.exit_costs},
            **dict(zip(names, percentiles.round(3), strict=True)),
            threshold=(*self.policy.thresholds, None),
        )

    def summary(self):
        """Return accuracy, cost and speed of the policy."""
        early, full = self.images_per_second
        return flat(
            ensemble=self.policy.ensemble,
            accuracy=self.accuracy,
            **share_of_full_cost(
                self.exit_shares, self.exit_costs, self.num_examples
            ),
            decisions_unlike_simulation=self.num_unlike_simulation,
            images_per_second=round(early, 1),
            images_per_second_of_last_exit=round(full, 1),
        )

    def write_beside(self, path):
        """Write the thresholds as `EarlyExitPredictor` reads them."""
        self.policy.save(path.with_name(f"policy_of_{path.stem}.json"))


def _check(model, validation, share_of_cost, ensemble, num_calls):
    check_policy(model, validation, share_of_cost, ensemble)
    checks.integer("num_calls", num_calls, minimum=1)


@Protocol("early_exit", EarlyExitResult, _check, num_exits=2)
def early_exit(
    model,
    images,
    labels,
    validation,
    share_of_cost=0.5,
    ensemble=False,
    num_calls=100,
    batch_size=64,
):
    """Run a policy stage by stage, and time it.

    Args:
        model: a `MultiExitModel`.
        images: array `(examples, height, width, channels)` in [0, 1].
        labels: integers `(examples,)`.
        validation, share_of_cost, ensemble: as for `policy_for_cost`.
        num_calls: single images timed at each exit. Defaults to 100.
        batch_size: images per compiled call, also of those that are timed.
            Defaults to 64.

    Returns:
        An `EarlyExitResult`.
    """
    policy = policy_for_cost(
        model, validation, share_of_cost, ensemble, batch_size
    )
    predictor = EarlyExitPredictor(model, policy)
    decisions = [
        predictor(images[first : first + batch_size])
        for first in range(0, len(images), batch_size)
    ]
    decision = Decision(*map(np.concatenate, zip(*decisions, strict=True)))
    simulated = policy.decide(
        exit_probabilities(model, images, labels, batch_size)
    )
    unlike = (decision.exit_index != simulated.exit_index) | (
        decision.label != simulated.label
    )
    return EarlyExitResult(
        exit_names=model.exit_names,
        policy=policy,
        exit_costs=exit_costs(model),
        exit_shares=shares_at_exits(decision, model.num_exits),
        seconds=exit_latency(model, images, num_calls),
        accuracy=float((decision.label == labels).mean()),
        num_examples=len(images),
        num_unlike_simulation=int(unlike.sum()),
        images_per_second=throughput(
            model, policy, images, min(batch_size, len(images))
        ),
    )
