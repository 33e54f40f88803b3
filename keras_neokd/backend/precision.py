"""Scale gradients of layers that compute in float16.

Layers may compute in 16 bits; weights, losses, logits and images stay in
float32. bfloat16 has the range of float32 and needs no scaling. In float16
numbers below 6e-8 are 0, so gradients have to be scaled: those of the weights
by Keras' `LossScaleOptimizer`, those of images by `rescaled`.
"""

import keras
from keras import ops

from keras_neokd import backend

# Of the gradient that enters the layers: far from 65504, the largest number
# of float16, and far from the smallest.
_LARGEST_GRADIENT = 64.0


def layer_dtypes(model):
    """Return the precisions that layers of a model compute in, a sorted list.

    Args:
        model: a `keras.Model`; layers within its layers count.
    """
    found = set()
    for layer in getattr(model, "layers", ()):
        found |= {layer.compute_dtype, *layer_dtypes(layer)}
    return sorted(found)


def uses_float16(model):
    """Return whether a layer of a model computes in float16."""
    return "float16" in layer_dtypes(model)


def uses_16_bits(model):
    """Return whether a layer of a model computes in 16 bits."""
    return not {"bfloat16", "float16"}.isdisjoint(layer_dtypes(model))


def loss_scaled(model, optimizer):
    """Return the optimizer, in a built `LossScaleOptimizer` if necessary.

    It is not if no layer computes in float16, or if the optimizer scales
    the loss already.

    Args:
        model: a built `keras.Model`.
        optimizer: a Keras optimizer.
    """
    scales = isinstance(optimizer, keras.optimizers.LossScaleOptimizer)
    if not uses_float16(model):
        return optimizer
    if not scales and optimizer.loss_scale_factor is None:
        optimizer = keras.optimizers.LossScaleOptimizer(
            optimizer, name="loss_scale_optimizer"
        )
    if not optimizer.built:
        # A step that is compiled before would scale by the initial factor
        # for ever, whatever the variable says.
        optimizer.build(model.trainable_variables)
    return optimizer


def rescaled(function, together):
    """Return a function with the same values and a more exact gradient.

    The gradient of each image is computed at a scale of its own, at which
    nothing in between rounds to zero, and comes back in float32 at its true
    scale. It is for images only: weights get no gradient.

    Args:
        function: maps images `(batch, ...)` to a tuple of logits `(batch,
            classes)`.
        together: whether images see each other, so that they need one scale.
    """

    def factors(gradients):
        largest = [ops.max(ops.abs(each), axis=1) for each in gradients]
        largest = ops.max(ops.stack(largest, axis=1), axis=1)
        if together:
            largest = ops.zeros_like(largest) + ops.max(largest)
        return _LARGEST_GRADIENT / ops.maximum(largest, 1e-30)

    def in_float32(images):
        return tuple(ops.cast(each, "float32") for each in function(images))

    return lambda images: backend.call_with_factors(in_float32, images, factors)
