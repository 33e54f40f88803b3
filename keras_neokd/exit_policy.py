"""When to stop: at the first exit that is confident enough.

    policy = ExitPolicy(thresholds=(0.9, 0.8))         # a model of 3 exits
    decision = policy.decide(probabilities)
    decision.exit_index, decision.label, decision.confidence

An image leaves at the first exit whose largest softmax probability reaches
that exit's threshold; whatever gets to the last exit leaves there. Confidence
is always that of the exit alone. The label is that of the exit, or, with
`ensemble`, of the mean softmax of this exit and all before it, which costs no
further pass (NEO-KD, appendix A.3).
"""

import json
import math
import pathlib
from typing import NamedTuple

import numpy as np

from keras_neokd import checks
from keras_neokd import writing
from keras_neokd.configurable import Configurable


class Decision(NamedTuple):
    """What a policy decides about images.

    Attributes:
        exit_index: 0-based exit of each image, `(examples,)`.
        label: predicted classes, `(examples,)`.
        confidence: largest softmax probability of that exit, `(examples,)`.
    """

    exit_index: np.ndarray
    label: np.ndarray
    confidence: np.ndarray


class ExitPolicy(Configurable):
    """Thresholds on the confidence of exits.

    Args:
        thresholds: one number >= 0 per exit but the last; `math.inf`, where
            no image leaves.
        ensemble: predict by the mean of this exit and all before it.
            Defaults to False.

    Raises:
        TypeError: if a threshold is not a number.
        ValueError: if one is negative or NaN.
    """

    def __init__(self, thresholds, ensemble=False):
        self.thresholds = tuple(_threshold(each) for each in thresholds)
        self.ensemble = bool(ensemble)

    @property
    def num_exits(self):
        """Number of exits of the models that the policy is for."""
        return len(self.thresholds) + 1

    def check(self, num_exits):
        """See that the policy is for a model.

        Args:
            num_exits: number of exits of the model.

        Raises:
            ValueError: if it has another number of exits.
        """
        if num_exits != self.num_exits:
            raise ValueError(
                f"{len(self.thresholds)} thresholds are for a model of "
                f"{self.num_exits} exits: the last needs none. The model has "
                f"{num_exits} exits."
            )

    def decide(self, probabilities):
        """Decide from what all exits say.

        Args:
            probabilities: softmax of every exit, `(examples, exits,
                classes)`.

        Returns:
            A `Decision`.
        """
        self.check(probabilities.shape[1])
        confidences = probabilities.max(axis=2)
        exits = self.exits(confidences)
        rows = np.arange(len(exits))
        votes = probabilities
        if self.ensemble:
            votes = np.cumsum(probabilities, axis=1)
        return Decision(
            exits, votes[rows, exits].argmax(axis=1), confidences[rows, exits]
        )

    def exits(self, confidences):
        """Return the exit at which each image leaves.

        Args:
            confidences: `(examples, exits)`.

        Returns:
            0-based indices `(examples,)`.
        """
        bounds = np.array([*self.thresholds, -math.inf], confidences.dtype)
        return (confidences >= bounds).argmax(axis=1)

    def save(self, path):
        """Write the policy to a JSON file; `null` is a threshold of infinity.

        Args:
            path: the file.
        """
        values = [
            None if math.isinf(each) else each for each in self.thresholds
        ]
        plain = {"thresholds": values, "ensemble": self.ensemble}
        writing.write_text(path, json.dumps(plain, indent=2) + "\n")

    @classmethod
    def load(cls, path):
        """Read what `save` wrote.

        Args:
            path: the file.

        Raises:
            ValueError: if it is not such a file.
        """
        try:
            plain = json.loads(pathlib.Path(path).read_text())
            return cls(
                [
                    math.inf if each is None else each
                    for each in plain["thresholds"]
                ],
                plain["ensemble"],
            )
        except (TypeError, KeyError, ValueError) as error:
            raise ValueError(
                f"{path} does not hold the thresholds of an ExitPolicy: "
                f"{error}. Write one with ExitPolicy.save."
            ) from None


def _threshold(value):
    if isinstance(value, float) and value == math.inf:
        return value
    return checks.number("thresholds", value, minimum=0)
