"""Accuracy of a model and of its files, clean and attacked.

Robust accuracy is measured on images that an attack makes on the model, on
those that it makes on a model with the weights of the files, where these are
rounded, and on those that Square, which needs no gradient, makes on the files
themselves. The first alone would hide files that merely mask gradients.
"""

from collections.abc import Callable
from collections.abc import Iterator
from typing import Any

import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd.attacks.attack import Attack
from keras_neokd.attacks.early_exit import EarlyExit
from keras_neokd.attacks.objective import SingleExit
from keras_neokd.attacks.square import Square
from keras_neokd.base import randomness
from keras_neokd.base.typing import Array
from keras_neokd.deployment import stand_in
from keras_neokd.deployment.artefact import Artefact
from keras_neokd.evaluation.anytime import adversarial_images
from keras_neokd.network.multi_exit import MultiExitModel

CLEAN, POLICY = "clean", "policy"
# Images that files are given at a time.
_BATCH_SIZE = 64


def rows(
    model: MultiExitModel,
    artefact: Artefact,
    images: Array,
    labels: Array,
    attack: Attack | None,
    num_queries: int,
) -> Iterator[dict[str, Any]]:
    """Yield the accuracy of each exit, or of the policy, as it is measured.

    Args:
        model, artefact: what is compared.
        images: float32 array `(n, height, width, channels)` in [0, 1].
        labels: integers `(n,)`.
        attack: an `Attack`, or None for clean images alone.
        num_queries: of Square, at the radius of `attack`; 0 leaves it out.

    Yields:
        Dicts of `images` (`"clean"`, `"model attacked"`, `"rounded model
        attacked"`, `"each attacked"`), `exit` (or `"policy"`), and the
        accuracy of `model` and `artefact`.
    """

    def square(objective):
        return Square.margin(
            attack.epsilon,
            objective,
            num_queries=num_queries,
            norm=attack.norm,
        )

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

    yield from _rows(CLEAN, scores(images, images))
    if attack is None:
        return
    attacked = adversarial_images(model, images, labels, attack)
    yield from _rows("model attacked", scores(attacked, attacked))
    rounded = stand_in.of(model, artefact.card.precision)
    if rounded is not model:
        made = adversarial_images(rounded, images, labels, attack)
        yield from _rows("rounded model attacked", scores(made, made))
    if num_queries:
        predict = artefact.exit_logits()
        for name, exit, own in _objectives(model, artefact):
            data = images, labels
            made = (
                adversarial_images(model, *data, square(exit)),
                _attacked(predict, *data, square(own)),
            )
            yield from _rows("each attacked", {name: scores(*made)[name]})


def in_batches(function: Callable[[Array], Any], images: Array) -> Any:
    """Return what a function gives for images, of which it gets some at a time.

    Args:
        function: of images; returns a dict or a named tuple of arrays.
        images: `(n, height, width, channels)`.
    """
    pieces = [
        function(images[first : first + _BATCH_SIZE])
        for first in range(0, len(images), _BATCH_SIZE)
    ]
    if isinstance(pieces[0], dict):
        return {
            name: np.concatenate([each[name] for each in pieces])
            for name in pieces[0]
        }
    return type(pieces[0])(*map(np.concatenate, zip(*pieces, strict=True)))


def _attacked(predict, images, labels, attack):
    """Attack what is no model, and has no weights to differentiate."""
    index = np.arange(len(images), dtype="int32")
    keys = randomness.bits(0, index)
    generate = backend.compile_function(
        lambda *batch: attack.generate(predict, *batch)[0], []
    )
    found = []
    for first in range(0, len(images), _BATCH_SIZE):
        places = slice(first, first + _BATCH_SIZE)
        batch = [
            ops.convert_to_tensor(each[places])
            for each in (images, labels, ops.convert_to_numpy(keys))
        ]
        found.append(ops.convert_to_numpy(generate(*batch)))
    return np.concatenate(found)


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
    logits = logits_of(model, images)
    if card.policy is not None:
        return {POLICY: card.policy.decide(softmax(logits)).label}
    return {
        name: logits[:, model.exit_index(name)].argmax(axis=1)
        for name in card.exit_names
    }


def _labels_of_files(artefact, images):
    if artefact.card.policy is not None:
        return {POLICY: in_batches(artefact.decide, images).label}
    answers = in_batches(artefact.answers, images)
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


def logits_of(model: MultiExitModel, images: Array) -> Array:
    """Return the logits of all exits, `(batch, exits, classes)`."""
    found = model.predict(images, verbose=0)
    return np.stack([found[name] for name in model.exit_names], axis=1)


def softmax(logits: Array) -> Array:
    """Return the softmax over the last axis."""
    return np.exp(log_softmax(logits))


def log_softmax(logits: Array) -> Array:
    """Return the logarithm of the softmax over the last axis."""
    logits = logits - logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
