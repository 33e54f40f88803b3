"""Decide at which exit an image leaves: the first that is confident enough.

    policy = ExitPolicy(thresholds=(0.9, 0.8))         # a model of 3 exits
    decision = policy.decide(probabilities)
    decision.exit_index, decision.label, decision.confidence

An image leaves at the first exit whose confidence, by default its largest
softmax probability, reaches that exit's threshold; all remaining images leave
at the last exit. Confidence is always that of the exit alone. The label is
that of the exit, or, with `ensemble`, of the mean softmax of this exit and all
before it, which costs no further pass (NEO-KD, appendix A.3).
"""

import json
import math
import os
import pathlib
from collections.abc import Sequence
from typing import Any
from typing import NamedTuple

import keras
import numpy as np
import numpy.typing as npt

from keras_neokd.base import checks
from keras_neokd.base import confidence as measures
from keras_neokd.base import writing
from keras_neokd.base.configurable import Configurable
from keras_neokd.base.typing import PathLike


class Decision(NamedTuple):
    """Decisions of a policy about images.

    Attributes:
        exit_index: 0-based exit of each image, `(examples,)`.
        label: predicted classes, `(examples,)`.
        confidence: how sure that exit is, from 0 to 1, `(examples,)`.
    """

    exit_index: np.ndarray
    label: np.ndarray
    confidence: np.ndarray


@keras.saving.register_keras_serializable("keras_neokd")
class ExitPolicy(Configurable):
    """Thresholds on the confidence of exits.

    Args:
        thresholds: one number from 0 to 1 per exit but the last; `math.inf`
            or `None`, where no image leaves.
        ensemble: predict by the mean of this exit and all before it.
            Defaults to False.
        confidence: what thresholds are compared with: `"max_softmax"`
            (default), the largest probability `p`; `"margin"`, the largest
            minus the next; or `"entropy"`, `1 + sum(p log p) / log(classes)`.
        temperatures: numbers above 0, one per exit, by which its logits are
            divided before the softmax, see `evaluation.fit_temperatures`.
            Defaults to None, 1 for all.

    Raises:
        TypeError: if a threshold or temperature is not a number, or
            `ensemble` no bool.
        ValueError: if one is out of range or NaN, or there are not as many
            temperatures as exits.
    """

    def __init__(
        self,
        thresholds: Sequence[float | None],
        ensemble: bool = False,
        confidence: str = "max_softmax",
        temperatures: Sequence[float] | None = None,
    ) -> None:
        self.thresholds = checks.thresholds(thresholds)
        self.ensemble = checks.boolean("ensemble", ensemble)
        checks.choice("confidence", confidence, measures.KINDS)
        self.confidence = confidence
        self.temperatures = self._checked(temperatures)

    def _checked(self, temperatures: Any) -> tuple[float, ...] | None:
        if temperatures is None:
            return None
        each = "one number per exit"
        found = tuple(
            checks.number("temperatures", value, above=0)
            for value in checks.sequence("temperatures", temperatures, each)
        )
        if len(found) != self.num_exits:
            raise ValueError(
                f"`temperatures` needs {each}: expected {self.num_exits} for "
                f"{len(self.thresholds)} thresholds, received {len(found)}."
            )
        return found

    @property
    def num_exits(self) -> int:
        """Number of exits of the models that the policy is for."""
        return len(self.thresholds) + 1

    @classmethod
    def of(
        cls,
        policy: "ExitPolicy | Sequence[float | None] | PathLike",
        num_exits: int,
    ) -> "ExitPolicy":
        """Return a policy, also from its thresholds or the path of its file.

        Args:
            policy: an `ExitPolicy`, or what one is made of.
            num_exits: exits of the model that it is to be for.

        Raises:
            TypeError, ValueError: as `ExitPolicy`, `load` and `check`.
        """
        if isinstance(policy, (str, os.PathLike)):
            found = cls.load(policy)
        elif isinstance(policy, ExitPolicy):
            found = policy
        else:
            found = cls(policy)
        found.check(num_exits)
        return found

    def check(self, num_exits: int) -> None:
        """Raise `ValueError` unless the policy is for models of `num_exits`."""
        if num_exits != self.num_exits:
            raise ValueError(
                f"{len(self.thresholds)} thresholds are for a model of "
                f"{self.num_exits} exits: the last needs none. The model has "
                f"{num_exits} exits."
            )

    def decide(self, probabilities: npt.ArrayLike) -> Decision:
        """Decide from the probabilities of all exits.

        Args:
            probabilities: softmax of every exit, `(examples, exits,
                classes)`.

        Raises:
            ValueError: if there are other exits than the policy is for, or a
                confidence is NaN, or not from 0 to 1.
        """
        probabilities = np.asarray(probabilities)
        if probabilities.ndim != 3:
            raise ValueError(
                "A policy needs probabilities (examples, exits, classes), "
                f"received shape {probabilities.shape}."
            )
        self.check(probabilities.shape[1])
        labels, confidences = self.answers(probabilities)
        exits = self.exits(confidences)
        rows = np.arange(len(exits))
        return Decision(exits, labels[rows, exits], confidences[rows, exits])

    def answers(self, probabilities: np.ndarray) -> tuple[Any, Any]:
        """Return what each exit would answer, and how sure it is.

        Args:
            probabilities: softmax of every exit, `(examples, exits,
                classes)`.

        Returns:
            Tuple of labels and confidences, both `(examples, exits)`; neither
            depends on the thresholds.

        Raises:
            ValueError: if a number is NaN, or not from 0 to 1.
        """
        shape = probabilities.shape[:2]
        labels = np.zeros(shape, "int64")
        confidences = np.zeros(shape, probabilities.dtype)
        votes = 0.0
        for exit in range(self.num_exits):
            each = probabilities[:, exit]
            checks.confidences(each.max(axis=1))
            each, confidences[:, exit] = self.at(exit, each)
            votes = votes + each if self.ensemble else each
            labels[:, exit] = votes.argmax(axis=1)
        return labels, confidences

    def at(
        self, exit: int, probabilities: Any, functions: Any = np
    ) -> tuple[Any, Any]:
        """Return what the policy sees of one exit.

        Args:
            exit: 0-based index.
            probabilities: softmax of the exit, `(..., classes)`.
            functions: `numpy` (default), or `keras.ops` for tensors.

        Returns:
            Tuple of the softmax at the exit's temperature, `(..., classes)`,
            and the confidence, `(...)`.
        """
        if self.temperatures is not None:
            probabilities = measures.tempered(
                probabilities, self.temperatures[exit], functions
            )
        return probabilities, measures.of(
            self.confidence, probabilities, functions
        )

    def exits(self, confidences: np.ndarray) -> np.ndarray:
        """Return the exit at which each image leaves.

        Args:
            confidences: `(examples, exits)`.

        Returns:
            0-based indices `(examples,)`.

        Raises:
            ValueError: if one is NaN, or not from 0 to 1.
        """
        checks.confidences(confidences)
        bounds = self.bounds(confidences.dtype)
        return (confidences >= bounds).argmax(axis=1)

    def bounds(self, dtype: npt.DTypeLike) -> np.ndarray:
        """Return the confidence with which an image leaves, of every exit.

        Args:
            dtype: of the confidences that are compared with it.

        Returns:
            Array `(exits,)`; the last bound is minus infinity.
        """
        return np.array([*self.thresholds, -math.inf], dtype)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments as plain values; `None` is infinity."""
        values = [
            None if math.isinf(each) else each for each in self.thresholds
        ]
        return {
            "thresholds": values,
            "ensemble": self.ensemble,
            "confidence": self.confidence,
            "temperatures": self.temperatures and list(self.temperatures),
        }

    def save(self, path: writing.Name) -> None:
        """Write a JSON file; `null` is a threshold of infinity."""
        writing.write_text(path, json.dumps(self.get_config(), indent=2) + "\n")

    @classmethod
    def load(cls, path: writing.Name) -> "ExitPolicy":
        """Read what `save` wrote; raise `ValueError` for other files."""
        try:
            plain = json.loads(pathlib.Path(path).read_text())
            return cls(**{**plain, "ensemble": plain["ensemble"]})
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} does not hold the thresholds of an ExitPolicy: "
                f"{error}. Write one with ExitPolicy.save."
            ) from None
