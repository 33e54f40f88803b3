"""Compare an artefact, in its runtime, with the model it was written from.

    gate = Gate(images, labels, PGD(0.03, 0.0075, 20), max_robust_drop=0.01)
    deploy(model, "artefact", "litert", gate=gate).figures

`accuracy` says on which images robust accuracy is measured.
"""

import time
from typing import Any

import numpy as np

from keras_neokd.attacks.attack import Attack
from keras_neokd.base import checks
from keras_neokd.base.typing import Array
from keras_neokd.deployment import accuracy
from keras_neokd.deployment.artefact import Artefact
from keras_neokd.evaluation import batches
from keras_neokd.network.multi_exit import MultiExitModel

_NUM_RANDOM = 64
# Of logits, relative to the model's largest where that exceeds 1.
_LARGEST_DIFFERENCE = {"float32": 1e-4, "float16": 1e-2}
# Of a confidence from a threshold, for rounding to decide.
_CLOSE = 1e-4
_NOTHING = "Nothing was deployed."
# Single images that are timed, after the first ones.
_NUM_TIMED, _WARM_UP = 50, 5


class Gate:
    """Images to compare on, and what may differ.

    Args:
        images: array `(n, height, width, channels)` in [0, 1]; real ones that
            the model was not trained on say most. A part of the files where
            none of them leaves is not checked. Defaults to 64 random images;
            needed where the model takes images of any size.
        labels: integers `(n,)` or one-hot; with them accuracy is measured.
        attack: an `Attack` on the model, such as `PGD`; with it robust
            accuracy is measured, too. Needs labels. Defaults to None.
        num_queries: queries of Square on the model and on the files, at the
            radius of `attack`, an integer >= 0; 0 leaves Square out. Defaults
            to 100.
        max_logit_difference: largest difference of a logit, relative to the
            model's largest logit where that exceeds 1. Defaults to None:
            1e-4 in float32, 1e-2 in float16, any in int8.
        max_decisions_changed: share of the images that may leave at another
            exit, but for those whose confidence is within 1e-4 of a threshold.
            Defaults to None: 0 in float32, any otherwise.
        max_accuracy_drop: share of the images that an exit, or the policy, may
            classify worse than the model's. Defaults to None, any.
        max_robust_drop: the same under attack. Defaults to None, any.

    Raises:
        TypeError, ValueError: if an argument is not as described.
    """

    def __init__(
        self,
        images: Array | None = None,
        labels: Array | None = None,
        attack: Attack | None = None,
        num_queries: int = 100,
        max_logit_difference: float | None = None,
        max_decisions_changed: float | None = None,
        max_accuracy_drop: float | None = None,
        max_robust_drop: float | None = None,
    ) -> None:
        for name, value, needed in (
            ("labels", labels, images),
            ("attack", attack, labels),
            ("max_accuracy_drop", max_accuracy_drop, labels),
            ("max_robust_drop", max_robust_drop, attack),
        ):
            if value is not None and needed is None:
                other = {"labels": "images", "max_robust_drop": "attack"}
                raise ValueError(
                    f"`{name}` of a Gate needs `{other.get(name, 'labels')}`, "
                    "received None."
                )
        if attack is not None and not isinstance(attack, Attack):
            raise TypeError(
                f"`attack` of a Gate needs an Attack, received {attack!r}."
            )
        limits = {
            "max_logit_difference": max_logit_difference,
            "max_decisions_changed": max_decisions_changed,
            "max_accuracy_drop": max_accuracy_drop,
            "max_robust_drop": max_robust_drop,
        }
        for name, value in limits.items():
            if value is not None:
                checks.number(name, value, minimum=0.0)
        self.images, self.labels, self.attack = images, labels, attack
        self.num_queries = checks.integer("num_queries", num_queries, 0)
        if attack is not None and attack.epsilon is None and num_queries:
            raise ValueError(
                "Square on the files needs the radius of `attack`, received "
                f"{attack!r}. Give it one, or num_queries=0."
            )
        self.max_logit_difference = max_logit_difference
        self.max_decisions_changed = max_decisions_changed
        self.max_accuracy_drop = max_accuracy_drop
        self.max_robust_drop = max_robust_drop

    def checked_images(self, model: MultiExitModel) -> Array:
        """Return float32 images that the model takes, random ones for None.

        Raises:
            TypeError, ValueError: if images or labels do not fit the model.
        """
        shape = model.input_shape[1:]
        if self.images is None:
            if None in shape:
                raise ValueError(
                    "The model takes images of any size, so `images` to "
                    f"compare on are needed: its input shape is {shape}."
                )
            return _random_images(shape)
        labels = self.labels
        if labels is None:
            labels = np.zeros(len(self.images), "int32")
        if self.attack is not None:
            self.attack.validate(model.num_exits, model.num_classes)
        return batches.check(model, self.images, labels, 1)[0]

    def figures(
        self, model: MultiExitModel, artefact: Artefact
    ) -> dict[str, Any]:
        """Return what a comparison finds.

        Args:
            model, artefact: what is compared.

        Returns:
            Dict with `num_images`, `max_logit_difference`, of forms with a
            policy `decisions_changed`, the share of the images that leave
            elsewhere, and `images_at_exits`, how many leave the model where,
            and `milliseconds`, the percentiles `p50`, `p90` and `p99` of
            single images in this process. With labels `accuracy` is
            a list of rows with `images` (`"clean"`, `"model attacked"`,
            `"rounded model attacked"`, `"each attacked"`), `exit` (or
            `"policy"`), and the accuracy of `model` and `artefact`.

        Raises:
            RuntimeError: if the artefact has other outputs, gives no finite
                numbers, or misses a limit.
        """
        images = self.checked_images(model)
        expected = accuracy.logits_of(model, images)
        answers = accuracy.in_batches(artefact.answers, images)
        found: dict[str, Any] = {"num_images": len(images)}
        found["max_logit_difference"] = self._largest_difference(
            artefact.card, answers, expected, model.exit_names
        )
        if artefact.card.policy is not None:
            decision = accuracy.in_batches(artefact.decide, images)
            found |= self._decisions(artefact.card, decision, expected)
        found["milliseconds"] = _milliseconds(artefact, images)
        if self.labels is not None:
            labels = batches.check(model, images, self.labels, 1)[1]
            found["accuracy"] = []
            for row in accuracy.rows(
                *(model, artefact, images, labels),
                *(self.attack, self.num_queries),
            ):
                found["accuracy"].append(row)
                self._check_drop(found["accuracy"])
        return found

    def _decisions(self, card, decision, expected):
        """Return the figures of decisions, if their changes are allowed."""
        policy = card.policy
        answers = policy.answers(accuracy.softmax(expected))
        wanted = policy.exits(answers[1])
        changed = decision.exit_index != wanted
        most = self.max_decisions_changed
        if most is None:
            most = 0.0 if card.precision == "float32" else 1.0
        # Rounding decides where a confidence is as large as a threshold.
        bounds = policy.bounds("float32")
        is_close = np.abs(answers[1] - bounds).min(axis=1) < _CLOSE
        share = float((changed & ~is_close).mean())
        if share > most:
            raise RuntimeError(
                f"{share:.2%} of the images leave the files at another exit "
                f"than the model; at most {most:.2%} is allowed "
                f"(`max_decisions_changed`). {_NOTHING}"
            )
        counts = np.bincount(wanted, minlength=policy.num_exits)
        return {
            "decisions_changed": float(changed.mean()),
            "images_at_exits": counts.tolist(),
        }

    def _check_drop(self, rows):
        """Raise if the accuracy of the last row drops by more than allowed."""
        row, name = rows[-1], "max_robust_drop"
        if row["images"] == accuracy.CLEAN:
            name = "max_accuracy_drop"
        most = getattr(self, name)
        # A share of images may be a little more by rounding.
        if most is not None and row["model"] - row["artefact"] > most + 1e-9:
            figures = "; ".join(
                f"{each['exit']}, {each['images']}: {each['model']:.2%} and "
                f"{each['artefact']:.2%}"
                for each in rows
            )
            raise RuntimeError(
                f"The accuracy of {row['exit']!r} on images {row['images']!r} "
                f"drops by more than the {most:.2%} that is allowed "
                f"(`{name}`). Of model and files: {figures}. {_NOTHING}"
            )

    def _largest_difference(self, card, answers, expected, exit_names):
        """Return the largest difference of a logit, if it is allowed."""
        if card.form == "early_exit":
            expected = _at_exits(expected, card.policy, answers["exit_index"])
            pairs = [("logits", answers["logits"], expected)]
        else:
            pairs = [
                (name, answers[name], expected[:, exit_names.index(name)])
                for name in card.exit_names
            ]
        most = self.max_logit_difference
        if most is None:
            most = _LARGEST_DIFFERENCE.get(card.precision, np.inf)
        return max(_difference(*pair, most) for pair in pairs)


def _random_images(shape):
    """Return noise of all contrasts, from none to full: exits differ on it."""
    generator = np.random.default_rng(0)
    noise = generator.random((_NUM_RANDOM, *shape), "float32")
    bounds = np.sort(generator.random((2, _NUM_RANDOM), "float32"), axis=0)
    low, high = (each.reshape(-1, *[1] * len(shape)) for each in bounds)
    return low + (high - low) * noise


def _milliseconds(artefact, images):
    """Return percentiles of the time of single images."""
    answer = artefact.decide if artefact.card.policy else artefact.answers
    seconds = []
    for number in range(_WARM_UP + _NUM_TIMED):
        image = images[number % len(images)][None]
        start = time.perf_counter()
        answer(image)
        seconds.append(time.perf_counter() - start)
    percents = (50, 90, 99)
    values = np.percentile(seconds[_WARM_UP:], percents)
    return {
        f"p{percent}": round(1000 * float(value), 4)
        for percent, value in zip(percents, values, strict=True)
    }


def _at_exits(logits, policy, exits):
    """Return the log probabilities of a policy at given exits `(batch,)`."""
    if policy.temperatures is not None:
        logits = logits / np.array(policy.temperatures, "float32")[:, None]
    logits = accuracy.log_softmax(logits)
    if policy.ensemble:
        sums = np.logaddexp.accumulate(logits, axis=1)
        logits = sums - np.log(np.arange(1, logits.shape[1] + 1)[:, None])
    return logits[np.arange(len(logits)), exits]


def _difference(name, found, expected, most):
    """Return the largest difference of one output, if it is allowed."""
    if found.shape != expected.shape:
        raise RuntimeError(
            f"The output {name!r} of the files has shape {found.shape}, the "
            f"model's {expected.shape}. {_NOTHING}"
        )
    difference = float(np.abs(found - expected).max())
    allowed = most * max(1.0, float(np.abs(expected).max()))
    if not (np.isfinite(difference) and difference <= allowed):
        raise RuntimeError(
            f"The output {name!r} of the files differs from the model's by "
            f"{difference:.2g}; at most {allowed:.2g} is allowed "
            f"(`max_logit_difference`). {_NOTHING}"
        )
    return difference
