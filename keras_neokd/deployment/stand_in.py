"""A model with the weights of files of lower precision, and with gradients."""

import numpy as np

from keras_neokd.network.multi_exit import MultiExitModel

_LARGEST = 127


def of(model: MultiExitModel, precision: str) -> MultiExitModel:
    """Return a model like another, with weights rounded as in files.

    Kernels become 8-bit integers times a scale for each of their last axis, as
    converters have it, or numbers of 16 bits. Activations stay in float32.

    Args:
        model: a `MultiExitModel` of float32.
        precision: one of `deployment.PRECISIONS`; for `"float32"` the model
            itself is returned.
    """
    if precision == "float32":
        return model
    rounded = _in_16_bits if precision == "float16" else _in_8_bits
    found = type(model).from_config(model.get_config())
    found.set_weights([rounded(each) for each in model.get_weights()])
    return found


def _in_16_bits(weight):
    return weight.astype("float16").astype(weight.dtype)


def _in_8_bits(weight):
    if weight.ndim < 2:
        return weight
    axes = tuple(range(weight.ndim - 1))
    scale = np.abs(weight).max(axis=axes, keepdims=True) / _LARGEST
    scale[scale == 0] = 1
    return np.round(weight / scale) * scale
