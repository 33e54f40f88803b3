"""Compare an artefact, in its runtime, with the model it was written from.

    gate = Gate(images, labels, PGD(0.03, 0.0075, 20), max_robust_drop=0.01)
    deploy(model, "artefact", "litert", gate=gate).figures

Robust accuracy is measured twice: on adversarial images that the attack makes
on the model, and on those that Square makes on the files themselves, through
their logits. The first alone would hide files that merely mask gradients.
"""

from typing import Any

import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd.attacks.attack import Attack
from keras_neokd.attacks.early_exit import EarlyExit
from keras_neokd.attacks.objective import SingleExit
from keras_neokd.attacks.square import Square
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.typing import Array
from keras_neokd.deployment.artefact import Artefact
from keras_neokd.evaluation import batches
from keras_neokd.evaluation.anytime import adversarial_images
from keras_neokd.network.multi_exit import MultiExitModel

_NUM_RANDOM = 8
# Of logits, relative to the model's largest where that exceeds 1.
_LARGEST_DIFFERENCE = {"float32": 1e-4, "float16": 1e-2}
CLEAN, POLICY = "clean", "policy"
_NOTHING = "Nothing was deployed."


class Gate:
    """Images to compare on, and what may differ.

    Args:
        images: array `(n, height, width, channels)` in [0, 1]; real ones that
            the model was not trained on say most. Defaults to 8 random images;
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
            generator = np.random.default_rng(0)
            return generator.random((_NUM_RANDOM, *shape), "float32")
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
            Dict with `num_images`, `max_logit_difference` and, of forms with a
            policy, `decisions_changed`: the share of the images that leave
            elsewhere. With labels `accuracy` is a list of rows with `images`
            (`"clean"`, `"model attacked"`, `"each attacked"`), `exit` (or
            `"policy"`), and the accuracy of `model` and `artefact`.

        Raises:
            RuntimeError: if the artefact has other outputs, gives no finite
                numbers, or misses a limit.
        """
        images = self.checked_images(model)
        expected, answers = _logits(model, images), artefact.answers(images)
        found: dict[str, Any] = {"num_images": len(images)}
        policy = artefact.card.policy
        if policy is not None:
            wanted = policy.decide(_softmax(expected)).exit_index
            changed = artefact.decide(images).exit_index != wanted
            found["decisions_changed"] = float(changed.mean())
        found["max_logit_difference"] = self._largest_difference(
            artefact.card, answers, expected, model.exit_names
        )
        if self.labels is not None:
            labels = batches.check(model, images, self.labels, 1)[1]
            found["accuracy"] = rows = self._accuracy(
                model, artefact, images, labels
            )
            clean = [each for each in rows if each["images"] == CLEAN]
            attacked = [each for each in rows if each["images"] != CLEAN]
            _check_drop("max_accuracy_drop", self.max_accuracy_drop, clean)
            _check_drop("max_robust_drop", self.max_robust_drop, attacked)
        return found

    def _largest_difference(self, card, answers, expected, exit_names):
        """Return the largest difference of a logit, if it is allowed."""
        if card.form == "early_exit":
            wanted = {"logits", "exit_index", "confidence"}
            _check_names(answers, wanted)
            expected = _at_exits(expected, card.policy, answers["exit_index"])
            pairs = [("logits", answers["logits"], expected)]
        else:
            _check_names(answers, set(card.exit_names))
            pairs = [
                (name, answers[name], expected[:, exit_names.index(name)])
                for name in card.exit_names
            ]
        most = self.max_logit_difference
        if most is None:
            most = _LARGEST_DIFFERENCE.get(card.precision, np.inf)
        return max(_difference(*pair, most) for pair in pairs)

    def _accuracy(self, model, artefact, images, labels):
        """Return rows of accuracy, clean and attacked."""

        def scores(of_model, of_files):
            """Return pairs of accuracies on the images of each, by exit."""
            theirs = _labels_of_model(model, artefact.card, of_model)
            ours = _labels_of_files(artefact, of_files)
            return {
                name: (
                    np.mean(theirs[name] == labels),
                    np.mean(ours[name] == labels),
                )
                for name in ours
            }

        found = _rows(CLEAN, scores(images, images))
        if self.attack is None:
            return found
        attacked = adversarial_images(model, images, labels, self.attack)
        found += _rows("model attacked", scores(attacked, attacked))
        if self.num_queries:
            predict = artefact.exit_logits()
            for name, exit, own in _objectives(model, artefact):
                data = images, labels
                made = (
                    adversarial_images(model, *data, self._square(exit)),
                    _attacked(predict, *data, self._square(own)),
                )
                found += _rows("each attacked", {name: scores(*made)[name]})
        return found

    def _square(self, objective):
        return Square.margin(
            self.attack.epsilon,
            objective,
            num_queries=self.num_queries,
            norm=self.attack.norm,
        )


def _attacked(predict, images, labels, attack):
    """Attack what is no model, and has no weights to differentiate."""
    index = np.arange(len(images), dtype="int32")
    keys = randomness.bits(0, index)
    generate = backend.compile_function(
        lambda *batch: attack.generate(predict, *batch)[0], []
    )
    batch = [ops.convert_to_tensor(each) for each in (images, labels, keys)]
    return ops.convert_to_numpy(generate(*batch))


def _objectives(model, artefact):
    """Yield what Square aims at in the model and in the files, by exit."""
    card = artefact.card
    if card.policy is None:
        for index, name in enumerate(card.exit_names):
            exit = model.exit_index(name)
            yield name, SingleExit(exit), SingleExit(index)
    else:
        policy = EarlyExit(card.policy)
        # A file that exits early has one output, whatever the exit.
        is_alone = card.form == "early_exit"
        yield POLICY, policy, SingleExit(0) if is_alone else policy


def _labels_of_model(model, card, images):
    logits = _logits(model, images)
    if card.policy is not None:
        return {POLICY: card.policy.decide(_softmax(logits)).label}
    return {
        name: logits[:, model.exit_index(name)].argmax(axis=1)
        for name in card.exit_names
    }


def _labels_of_files(artefact, images):
    if artefact.card.policy is not None:
        return {POLICY: artefact.decide(images).label}
    answers = artefact.answers(images)
    return {name: logits.argmax(axis=1) for name, logits in answers.items()}


def _rows(images, accuracies):
    return [
        {
            "images": images,
            "exit": name,
            "model": float(model),
            "artefact": float(artefact),
        }
        for name, (model, artefact) in accuracies.items()
    ]


def _logits(model, images):
    """Return the logits of all exits, `(batch, exits, classes)`."""
    found = model.predict(images, verbose=0)
    return np.stack([found[name] for name in model.exit_names], axis=1)


def _softmax(logits):
    return np.exp(_log_softmax(logits))


def _log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def _at_exits(logits, policy, exits):
    """Return the log probabilities of a policy at given exits `(batch,)`."""
    logits = _log_softmax(logits)
    if policy.ensemble:
        sums = np.logaddexp.accumulate(logits, axis=1)
        logits = sums - np.log(np.arange(1, logits.shape[1] + 1)[:, None])
    return logits[np.arange(len(logits)), exits]


def _check_names(answers, wanted):
    if set(answers) != wanted:
        raise RuntimeError(
            f"The files have other outputs than written: {sorted(answers)} "
            f"instead of {sorted(wanted)}. {_NOTHING}"
        )


def _difference(name, found, expected, most):
    """Return the largest difference of one output, if it is allowed."""
    if found.shape != expected.shape:
        raise RuntimeError(
            f"The output {name!r} of the files has shape {found.shape}, the "
            f"model's {expected.shape}. {_NOTHING}"
        )
    difference = float(np.abs(found - expected).max())
    allowed = most * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed:
        raise RuntimeError(
            f"The output {name!r} of the files differs from the model's by "
            f"{difference:.2g}; at most {allowed:.2g} is allowed "
            f"(`max_logit_difference`). {_NOTHING}"
        )
    return difference


def _check_drop(name, most, rows):
    """Raise if the accuracy of a row drops by more than a limit."""
    for row in rows:
        if most is not None and row["model"] - row["artefact"] > most:
            raise RuntimeError(
                f"The accuracy of {row['exit']!r} on images {row['images']!r} "
                f"is {row['artefact']:.2%} in the files and {row['model']:.2%} "
                f"in the model; a drop of {most:.2%} is allowed (`{name}`). "
                f"{_NOTHING}"
            )
