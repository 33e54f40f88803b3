"""The contract of all training methods, and plain adversarial training.

A method turns the logits of clean and adversarial images into loss terms, one
value per example and exit; the training step weighs, sums and logs them:

    class Penalty(Method):
        def extra_terms(self, clean, adversarial, labels, step):
            values = ...                                  # (batch, exits)
            return [Term("penalty", values, (0.5,) * values.shape[1])]

Equations are those of NEO-KD (arXiv 2311.00428).
"""

import numbers
import typing

import keras
import numpy as np

from keras_neokd import checks
from keras_neokd import losses
from keras_neokd.configurable import Configurable

# Table of the paper's gamma by number of exits (section 4.1, appendix D).
PAPER_EXIT_WEIGHTS = {
    3: (1.0, 1.0, 1.0),
    5: (1.0, 1.0, 1.0, 1.5, 1.5),
    7: (1.0, 1.0, 1.0, 1.5, 1.5, 1.5, 1.5),
}


class Term(typing.NamedTuple):
    """One named part of the loss.

    Attributes:
        name: logged as `<exit>_<name>_loss` and, averaged over exits, as
            `<name>_loss`.
        values: `(batch, exits)`, unweighted.
        weights: one number per exit.
    """

    name: str
    values: typing.Any
    weights: tuple


class Step(typing.NamedTuple):
    """Where in the training a batch stands: all randomness comes from it.

    Attributes:
        seed: Python integer given to `compile`.
        epoch: integer tensor, 0-based.
        step: integer tensor, number of updates made so far.
        index: integers `(batch,)`, positions in the global batch.
    """

    seed: int
    epoch: typing.Any
    step: typing.Any
    index: typing.Any


class Method(Configurable):
    """Base class: clean plus adversarial cross-entropy, plus extra terms.

    Methods add up: `NEOKD() + 0.5 * ARD()` has the base terms of the first
    once, and the extra terms of both.
    """

    def __add__(self, other):
        """Return a `Sum`."""
        if not isinstance(other, Method):
            return NotImplemented
        return Sum([*summands(self), *summands(other)])

    def __rmul__(self, weight):
        """Return the method with its extra terms weighed, for a sum."""
        if isinstance(weight, bool) or not isinstance(weight, numbers.Real):
            return NotImplemented
        return Sum([(weight * each, method) for each, method in summands(self)])

    __mul__ = __rmul__

    def base_weights(self, num_exits):
        """Return the weights of the base terms.

        Args:
            num_exits: number of exits.

        Returns:
            Two tuples with one number per exit, for clean and adversarial
            cross-entropy.
        """
        ones = (1.0,) * num_exits
        return ones, ones

    def term_names(self):
        """Return the names of all terms in the order they are returned."""
        return ("clean", "adversarial", *self.extra_term_names())

    def extra_term_names(self):
        """Return the names of the terms that `extra_terms` returns."""
        return ()

    def extra_terms(self, clean, adversarial, labels, step):
        """Return what the method adds to the base terms.

        Args:
            clean: logits of the clean images, `(batch, exits, classes)`.
            adversarial: logits of the attacked images, same shape.
            labels: integers `(batch,)`.
            step: a `Step`.

        Returns:
            List of `Term`.
        """
        return []

    def __call__(self, clean, adversarial, labels, step):
        """Return all terms of the loss; arguments as in `extra_terms`."""
        on_clean, on_adversarial = self.base_weights(clean.shape[1])
        return [
            Term("clean", losses.cross_entropy(clean, labels), on_clean),
            Term(
                "adversarial",
                losses.cross_entropy(adversarial, labels),
                on_adversarial,
            ),
            *self.extra_terms(clean, adversarial, labels, step),
        ]

    def validate(self, num_exits, num_classes):
        """Raise `ValueError` if the method does not fit the model.

        Args:
            num_exits: number of exits.
            num_classes: number of classes.
        """


@keras.saving.register_keras_serializable("keras_neokd")
class AdversarialTraining(Method):
    """Adversarial training without distillation (Eq. 4).

    `sum over exits of CE(f_i(x), y) + CE(f_i(x_adv), y)`: the paper's
    baseline "Adv. w/o Distill". Triple-wins (Hu et al. 2020) weighs both
    with 0.5.

    Args:
        clean_weight: weight of the first term, >= 0. Defaults to 1.
        adversarial_weight: weight of the second, >= 0. Defaults to 1.

    Raises:
        TypeError, ValueError: if a weight is no number >= 0.
    """

    def __init__(self, clean_weight=1.0, adversarial_weight=1.0):
        self.clean_weight = checks.number(
            "clean_weight", clean_weight, minimum=0
        )
        self.adversarial_weight = checks.number(
            "adversarial_weight", adversarial_weight, minimum=0
        )

    def base_weights(self, num_exits):
        """See `Method.base_weights`."""
        return (
            (self.clean_weight,) * num_exits,
            (self.adversarial_weight,) * num_exits,
        )


@keras.saving.register_keras_serializable("keras_neokd")
class Sum(Method):
    """Several methods at once; written `NEOKD() + 0.5 * ARD()`.

    The base terms are those of the first method; weights apply to the extra
    terms only.

    Args:
        summands: list of pairs `(weight, method)`, weights >= 0.

    Raises:
        TypeError, ValueError: if a summand is not as described, or two
            methods have a term of the same name.
    """

    def __init__(self, summands):
        self.summands = [tuple(each) for each in summands]
        for weight, method in self.summands:
            checks.number("weight of a method", weight, minimum=0)
            if not isinstance(method, Method):
                raise TypeError(
                    f"A sum needs methods, received {method!r} of type "
                    f"{type(method).__name__}."
                )
        names = self.extra_term_names()
        if len(set(names)) != len(names):
            raise ValueError(
                "Methods that add up need terms of different names, received "
                f"{list(names)}. Use one method with a larger weight."
            )

    def validate(self, num_exits, num_classes):
        """See `Method.validate`."""
        for _, method in self.summands:
            method.validate(num_exits, num_classes)

    def base_weights(self, num_exits):
        """See `Method.base_weights`."""
        return self.summands[0][1].base_weights(num_exits)

    def extra_term_names(self):
        """See `Method.extra_term_names`."""
        return tuple(
            name
            for _, method in self.summands
            for name in method.extra_term_names()
        )

    def extra_terms(self, clean, adversarial, labels, step):
        """See `Method.extra_terms`."""
        return [
            term._replace(weights=tuple(weight * each for each in term.weights))
            for weight, method in self.summands
            for term in method.extra_terms(clean, adversarial, labels, step)
        ]

    def __repr__(self):
        return " + ".join(
            repr(method) if weight == 1 else f"{weight} * {method!r}"
            for weight, method in self.summands
        )


def summands(method):
    """Return the weighed parts of a method, itself if it is no sum."""
    return method.summands if isinstance(method, Sum) else [(1.0, method)]


def check_exit_weights(exit_weights):
    """Return `exit_weights` as a tuple of floats >= 0, or `None`.

    Raises:
        TypeError: if it is not a sequence of numbers.
        ValueError: if a number is negative or not finite.
    """
    if exit_weights is None:
        return None
    if isinstance(exit_weights, str) or not np.iterable(exit_weights):
        raise TypeError(
            "`exit_weights` needs a sequence with one number per exit, "
            f"received {exit_weights!r}."
        )
    return tuple(
        checks.number("exit_weights", weight, minimum=0)
        for weight in exit_weights
    )


def resolve_exit_weights(exit_weights, num_exits):
    """Return one weight (the paper's gamma) per exit.

    Args:
        exit_weights: result of `check_exit_weights`; `None` stands for the
            paper's values, which exist for 3, 5 and 7 exits.
        num_exits: number of exits.

    Raises:
        ValueError: if the length is wrong, or the paper has no values.
    """
    if exit_weights is None:
        if num_exits not in PAPER_EXIT_WEIGHTS:
            raise ValueError(
                "The paper gives `exit_weights` (gamma) for "
                f"{sorted(PAPER_EXIT_WEIGHTS)} exits only and the model has "
                f"{num_exits}: say which to use, for example "
                f"exit_weights={(1.0,) * num_exits}."
            )
        return PAPER_EXIT_WEIGHTS[num_exits]
    if len(exit_weights) != num_exits:
        raise ValueError(
            "`exit_weights` needs one value per exit: expected "
            f"{num_exits}, received {len(exit_weights)}: {exit_weights}."
        )
    return exit_weights
