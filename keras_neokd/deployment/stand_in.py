"""A model with gradients, and weights like those of less precise files."""

import numpy as np

from keras_neokd.network.multi_exit import MultiExitModel

_LARGEST = 127
# Numbers of a kernel that `"int8_weights"` rounds.
_SMALLEST = 1024


def of(model: MultiExitModel, precision: str) -> MultiExitModel:
    """Return a model like another, with weights rounded much as in files.

    Kernels become 8-bit integers times a scale for each of their outputs, as
    converters have it, or numbers of 16 bits. Activations, and small kernels of
    `"int8_weights"`, stay in float32.

    Args:
        model: a `MultiExitModel` of float32.
        precision: one of `deployment.PRECISIONS`; for `"float32"` the model
            itself is returned.
    """
    if precision == "float32":
        return model
    found = type(model).from_config(model.get_config())
    found.set_weights(
        [_rounded(each, precision) for each in model.get_weights()]
    )
    return found


def _rounded(weight, precision):
    if precision == "float16":
        return weight.astype("float16").astype(weight.dtype)
    least = _SMALLEST if precision == "int8_weights" else 0
    if weight.ndim < 2 or weight.size < least:
        return weight
    # Kernels of depthwise convolutions have their outputs one axis before.
    outputs = weight.ndim - 1 - (weight.shape[-1] == 1)
    axes = tuple(each for each in range(weight.ndim) if each != outputs)
    scale = np.abs(weight).max(axis=axes, keepdims=True) / _LARGEST
    scale[scale == 0] = 1
    return np.round(weight / scale) * scale
