"""What the tests hand to methods in place of a model and its step."""

import types

from keras_neokd import methods


def model(num_exits, num_classes):
    """Return what a method asks of a model that has these numbers."""
    return types.SimpleNamespace(num_exits=num_exits, num_classes=num_classes)


def context(clean, adversarial, labels, step):
    """Return the context of given logits."""
    return methods.Context(
        labels=labels, step=step, clean=clean, adversarial=adversarial
    )
