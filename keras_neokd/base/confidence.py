"""How sure an exit is of its answer, from its softmax: a number from 0 to 1.

`of("margin", probabilities)`. The functions compute in NumPy or, given
`keras.ops`, on tensors of any backend.
"""

import math
from typing import Any

import numpy as np


def of(kind: str, probabilities: Any, functions: Any = np) -> Any:
    """Return the confidence of each prediction.

    Args:
        kind: one of `KINDS`.
        probabilities: array or tensor `(..., classes)`.
        functions: `numpy` (default) or `keras.ops`.

    Returns:
        Array or tensor `(...)`.
    """
    return _FUNCTIONS[kind](probabilities, functions)


def tempered(
    probabilities: Any, temperature: float, functions: Any = np
) -> Any:
    """Return the softmax of logits that are divided by a temperature.

    Args:
        probabilities: softmax of the logits as they are, `(..., classes)`.
        temperature: a number above 0; above 1 makes predictions less sure.
        functions: `numpy` (default) or `keras.ops`.
    """
    if temperature == 1.0:
        return probabilities
    # Divided by the largest first: small numbers may round to 0.
    largest = functions.max(probabilities, axis=-1, keepdims=True)
    powers = (probabilities / largest) ** (1.0 / temperature)
    return powers / functions.sum(powers, axis=-1, keepdims=True)


def _max_softmax(probabilities: Any, functions: Any) -> Any:
    return functions.max(probabilities, axis=-1)


def _margin(probabilities: Any, functions: Any) -> Any:
    ordered = functions.sort(probabilities, axis=-1)
    return ordered[..., -1] - ordered[..., -2]


def _entropy(probabilities: Any, functions: Any) -> Any:
    """Return 1 minus the entropy, as a share of the largest possible one."""
    logs = functions.log(functions.maximum(probabilities, 1e-30))
    entropy = -functions.sum(probabilities * logs, axis=-1)
    share = entropy / math.log(probabilities.shape[-1])
    return functions.clip(1.0 - share, 0.0, 1.0)


_FUNCTIONS = {
    "max_softmax": _max_softmax,
    "margin": _margin,
    "entropy": _entropy,
}
KINDS = tuple(_FUNCTIONS)
