"""Compare an artefact, in its runtime, with the model it was written from."""

from typing import Any

import numpy as np

from keras_neokd.base import checks
from keras_neokd.base.typing import Array
from keras_neokd.deployment.artefact import Artefact
from keras_neokd.network.multi_exit import MultiExitModel

_NUM_RANDOM = 8


def images_to_compare(model: MultiExitModel, images: Array | None) -> Array:
    """Return checked float32 images, random ones for None.

    Args:
        model, images: as for `deploy`.

    Raises:
        TypeError, ValueError: as `deploy`.
    """
    shape = model.input_shape[1:]
    if images is None:
        if None in shape:
            raise ValueError(
                "The model takes images of any size, so `images` to compare "
                f"on are needed: its input shape is {shape}."
            )
        return np.random.default_rng(0).random((_NUM_RANDOM, *shape), "float32")
    checks.real_numbers("Images", images)
    images = np.asarray(images, "float32")
    checks.images_and_labels(images, image_shape=shape)
    if not len(images):
        raise ValueError("There are no images to compare on: received 0.")
    return images


def compare(
    model: MultiExitModel, artefact: Artefact, images: Array, most: float
) -> dict[str, Any]:
    """Return the figures of a comparison.

    Args:
        model, artefact: what is compared.
        images: as `images_to_compare` returns them.
        most: largest difference that is allowed, as for `deploy`.

    Raises:
        RuntimeError: if the artefact has other outputs, gives no finite
            numbers, or logits that differ by more.
    """
    logits = model.predict(images, verbose=0)
    expected = np.stack([logits[name] for name in model.exit_names], axis=1)
    answers = artefact.answers(images)
    policy = artefact.card.policy
    figures: dict[str, Any] = {"num_images": len(images)}
    if policy is not None:
        decision = policy.decide(np.exp(_log_softmax(expected)))
        found = artefact.decide(images).exit_index
        changed = float(np.mean(found != decision.exit_index))
        figures["decisions_changed"] = changed
    if artefact.card.form == "early_exit":
        _check_names(answers, {"logits", "exit_index", "confidence"})
        expected = _of_early_exit(expected, policy, answers["exit_index"])
        pairs = [("logits", answers["logits"], expected)]
    else:
        _check_names(answers, set(artefact.card.exit_names))
        pairs = [
            (name, answers[name], np.asarray(logits[name])) for name in answers
        ]
    figures["max_logit_difference"] = max(
        _difference(name, found, wanted, most) for name, found, wanted in pairs
    )
    return figures


def _of_early_exit(logits, policy, exits):
    """Return what `logits` are where images leave at given exits.

    Args:
        logits: of all exits, `(batch, exits, classes)`.
        policy: an `ExitPolicy`.
        exits: `(batch,)`.
    """
    logits = _log_softmax(logits)
    if policy.ensemble:
        sums = np.logaddexp.accumulate(logits, axis=1)
        counts = np.arange(1, logits.shape[1] + 1)[:, None]
        logits = sums - np.log(counts)
    return logits[np.arange(len(logits)), exits]


def _log_softmax(logits):
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def _check_names(answers, wanted):
    if set(answers) != wanted:
        raise RuntimeError(
            f"The files have other outputs than written: {sorted(answers)} "
            f"instead of {sorted(wanted)}. Nothing was deployed."
        )


def _difference(name, found, expected, most):
    """Return the largest difference of one output, if it is allowed."""
    if found.shape != expected.shape:
        raise RuntimeError(
            f"The output {name!r} of the files has shape {found.shape}, the "
            f"model's {expected.shape}. Nothing was deployed."
        )
    difference = float(np.abs(found - expected).max())
    allowed = most * max(1.0, float(np.abs(expected).max()))
    if not difference <= allowed:
        raise RuntimeError(
            f"The output {name!r} of the files differs from the model's by "
            f"{difference:.2g}; at most {allowed:.2g} is allowed "
            "(`max_logit_difference`). Nothing was deployed."
        )
    return difference
