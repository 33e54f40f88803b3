"""A deployed model: files of one runtime, and a card that says what they are.

    artefact = load_artefact("artefact")
    artefact.answers(images)      # what its files compute
    artefact.decide(images)       # at which exit each image leaves

It needs the runtime, and of the frameworks what Keras runs on.
"""

import functools
import pathlib
from collections.abc import Sequence

import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd.attacks.attack import ExitLogits
from keras_neokd.base import checks
from keras_neokd.base.exit_policy import Decision
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import PathLike
from keras_neokd.deployment import graphs
from keras_neokd.deployment.card import Card
from keras_neokd.deployment.formats import Session
from keras_neokd.serving import compaction


class Artefact:
    """All exits, or one, in a runtime. For one thread at a time.

    `load_artefact` makes it; the forms with a policy are subclasses.

    Attributes:
        card: its `Card`.
    """

    def __init__(self, card: Card, sessions: Sequence[Session]) -> None:
        self.card = card
        self._sessions = sessions

    def answers(self, images: Array) -> dict[str, Array]:
        """Return what the files compute, without any early exit of a batch.

        Args:
            images: float array `(batch, height, width, channels)` in [0, 1],
                at least one image.

        Returns:
            Dict of arrays: the logits `(batch, classes)` of every exit that
            there is, by its name, in depth order. Of the form
            `"early_exit"`: `logits`, as log probabilities, `exit_index`
            `(batch,)` and `confidence` `(batch,)`, at the exit where each
            image leaves.

        Raises:
            TypeError: if the images are not real numbers.
            ValueError: if the images are not as described.
            RuntimeError: if the files have other outputs than written.
        """
        images = self._checked(images)
        if not len(images):
            raise ValueError("There are no images to answer: received 0.")
        return self._answers(images)

    def decide(self, images: Array) -> Decision:
        """Return a `Decision` for a batch, computing no further than needed.

        Args:
            images: as for `answers`; an empty batch is allowed.

        Raises:
            TypeError: as `answers`.
            ValueError: as `answers`; also if the form is `"exits"`, which has
                no policy, or if the model returns NaN.
        """
        return self._decide(self._checked(images))

    def exit_logits(self) -> ExitLogits:
        """Return the files as an attack without gradients sees them.

        Returns:
            An `ExitLogits` of the exits in depth order; of the form
            `"early_exit"` with one exit: the logits where each image leaves.
        """
        names = self._logit_names()

        def function(images, exits, **named):
            def compute(images):
                answers = self.answers(images)
                return np.stack([answers[names[exit]] for exit in exits])

            shape = (len(exits), images.shape[0], self.card.num_classes)
            return ops.unstack(backend.call_in_numpy(compute, images, shape))

        return ExitLogits(function, len(names))

    def _logit_names(self):
        return self.card.exit_names

    def _answers(self, images):
        (session,) = self._sessions
        names = self.card.exit_names
        answers = _asked(session, {"images": images}, names)
        return {name: answers[name] for name in names}

    def _decide(self, images):
        raise ValueError(
            "An artefact of the form 'exits' decides nothing. Deploy the model "
            "with a policy, in the form 'early_exit' or 'stages'."
        )

    def _checked(self, images):
        checks.real_numbers("Images", images)
        images = np.ascontiguousarray(images, "float32")
        if len(images):
            checks.images_and_labels(images, image_shape=self.card.input_shape)
        return images


class EarlyExitArtefact(Artefact):
    """Early exit in one file, which takes single images."""

    def _logit_names(self):
        return ("logits",)

    def _answers(self, images):
        (session,) = self._sessions
        names = ("logits", "exit_index", "confidence")
        single = [
            _asked(session, {"images": image[None]}, names) for image in images
        ]
        return {
            name: np.concatenate([each[name] for each in single])
            for name in single[0]
        }

    def _decide(self, images):
        if not len(images):
            return Decision(*np.zeros((3, 0), "int64"))
        found = self._answers(images)
        exits = found["exit_index"]
        for index in np.unique(exits):
            compaction.check_finite(
                found["logits"][exits == index], self.card.exit_names[index]
            )
        return Decision(
            exits.astype("int64"),
            found["logits"].argmax(axis=1),
            found["confidence"],
        )


class StagesArtefact(Artefact):
    """A file per stage: undecided images go on, packed into a batch."""

    def _answers(self, images):
        answers, tensors = {}, [images]
        for name, session in zip(
            self.card.exit_names, self._sessions, strict=True
        ):
            answers[name], tensors = _run(session, not answers, tensors)
        return answers

    def _decide(self, images):
        return compaction.decide(
            [
                functools.partial(_softmax_of_stage, session, index == 0)
                for index, session in enumerate(self._sessions)
            ],
            self.card.policy,
            images,
            self.card.exit_names,
        )


_CLASSES = {
    "exits": Artefact,
    "early_exit": EarlyExitArtefact,
    "stages": StagesArtefact,
}


def load_artefact(path: PathLike, num_threads: int | None = None) -> Artefact:
    """Open what `deploy` wrote, in its runtime.

    Args:
        path: the folder.
        num_threads: threads that compute, an integer >= 1; None (default)
            leaves it to the runtime.

    Raises:
        ImportError: if the runtime is not installed.
        TypeError: if `num_threads` is not an integer.
        ValueError: if the folder is no artefact or is damaged, or
            `num_threads` is smaller than 1.
        RuntimeError: if the runtime does not open its files.
    """
    if num_threads is not None:
        checks.integer("num_threads", num_threads, minimum=1)
    folder = pathlib.Path(path).expanduser()
    card = Card.read(folder)
    kind = card.kind
    kind.check_installed(kind.runners)
    sessions = []
    for name in card.graph_names:
        file = folder / f"{name}{kind.ending}"
        try:
            sessions.append(kind.open(file, num_threads))
        except (ImportError, ValueError):
            raise
        except Exception as error:
            # Runtimes have errors of their own.
            raise RuntimeError(
                f"The runtime of {kind.name!r} does not open {file}: {error}"
            ) from error
    return _CLASSES[card.form](card, sessions)


def _run(session, is_first, tensors):
    """Call a stage; return its logits and the tensors that it hands on."""
    names = ["images"] if is_first else graphs.taken_over(len(tensors))
    given = dict(zip(names, tensors, strict=True))
    outputs = _asked(session, given, None)
    logits = outputs.pop("logits")
    return logits, [outputs[name] for name in graphs.handed_on(len(outputs))]


def _asked(session, inputs, names):
    """Return the outputs of a session, if they are called as they should be.

    Args:
        session: the `Session`.
        inputs: arrays by name.
        names: of the outputs; None for those of a stage.
    """
    outputs = session(inputs)
    if names is None:
        names = ("logits", *graphs.handed_on(len(outputs) - 1))
    if set(outputs) != set(names):
        raise RuntimeError(
            f"The files have other outputs than written: {sorted(outputs)} "
            f"instead of {sorted(names)}. Deploy the model again."
        )
    return outputs


def _softmax_of_stage(session, is_first, tensors, rows):
    """Run a stage as `compaction.decide` does."""
    if rows is not None:
        tensors = [each[rows] for each in tensors]
    logits, tensors = _run(session, is_first, tensors)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True), tensors
