"""What the tests hand to methods in place of a model and its step."""

import types

import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd import methods
from tests import arrays


def model(num_exits, num_classes):
    """Return what a method asks of a model that has these numbers."""
    return types.SimpleNamespace(num_exits=num_exits, num_classes=num_classes)


def position(size=1, seed=0, epoch=0, step=0, first=0):
    return methods.Position(
        seed=seed,
        epoch=arrays.tensor(epoch, "int32"),
        step=arrays.tensor(step, "int32"),
        index=arrays.tensor(np.arange(first, first + size), "int32"),
    )


def context(clean, adversarial, labels, **place):
    """Return the context of given logits, arrays or tensors."""
    clean, adversarial = (
        each if ops.is_tensor(each) else arrays.tensor(each)
        for each in (clean, adversarial)
    )
    return methods.Context(
        labels=arrays.tensor(labels, "int32"),
        position=position(len(labels), **place),
        clean=clean,
        adversarial=adversarial,
    )


def terms_of(method, clean, adversarial, labels, **place):
    """Return a dict of the terms of given logits."""
    terms = method(context(clean, adversarial, labels, **place))
    return {term.name: term for term in terms}


def values_of(term):
    return arrays.array(term.values)


def total(terms):
    """Loss of each example: sum over terms and exits."""
    return sum(
        values_of(term) @ np.array(term.weights) for term in terms.values()
    )


def gradient(loss, logits):
    """Return the gradient of a loss `(batch, exits)` to logits."""
    _, found = backend.value_and_input_gradient(
        lambda x: ops.sum(loss(x), axis=1), arrays.tensor(logits)
    )
    return ops.convert_to_numpy(found)
