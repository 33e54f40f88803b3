"""Check single arguments, where objects are built.

`name` is that of the argument, for the message.
"""

import math
import numbers
import operator
from collections.abc import Iterable
from typing import Any

import numpy as np

# Models, attacks and losses compute in float32 and count in int32.
_LARGEST_NUMBER = float(np.finfo("float32").max)
_SMALLEST_NUMBER = float(np.finfo("float32").tiny)
_LARGEST_INTEGER = 2**31 - 1
# A smaller change of a pixel of 1 rounds to none in float32.
_SMALLEST_CHANGE = 2.0**-24
# Negative indices count from the last exit; no model has so many.
MOST_EXITS = 10_000
# Rounding may take a softmax so far above 1.
LARGEST_CONFIDENCE = 1 + 1e-6
# Characters of a received value that a message shows.
_SHOWN = 200


def number(
    name: str,
    value: Any,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    below: float | None = None,
) -> float:
    """Return `value` as a float.

    Args:
        value: a finite real number of float32.
        minimum: smallest allowed value, or `None`.
        above: bound that the value must exceed, or `None`.
        maximum: largest allowed value, or `None`.
        below: bound that the value must stay under, or `None`.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is not finite or out of range, or another number
            than 0 that is 0 in float32.
    """
    if isinstance(value, np.generic):
        value = value.item()  # float16 cannot be compared with these bounds.
    if not _is_real(value):
        raise TypeError(f"`{name}` needs a number, received {typed(value)}.")
    bounds = [(">=", minimum), (">", above), ("<=", maximum), ("<", below)]
    bounds = [f"{sign} {bound}" for sign, bound in bounds if bound is not None]
    wanted = f"a finite number {' and '.join(bounds)}".rstrip()
    if (
        not -_LARGEST_NUMBER <= value <= _LARGEST_NUMBER
        or (minimum is not None and value < minimum)
        or (above is not None and value <= above)
        or (maximum is not None and value > maximum)
        or (below is not None and value >= below)
    ):
        raise ValueError(f"`{name}` needs {wanted}, received {shown(value)}.")
    if 0 < abs(value) < _SMALLEST_NUMBER:
        raise ValueError(
            f"`{name}` needs {wanted}, received {shown(value)}, which is 0 in "
            "float32."
        )
    return float(value)


def _is_real(value: Any) -> bool:
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def pixel_change(name: str, value: Any, **bounds: float) -> float:
    """Return a length in pixel units of images in [0, 1] as a float.

    Args:
        value: 0, or a number of at least 2**-24.
        **bounds: as for `number`.

    Raises:
        TypeError: if it is not a number.
        ValueError: if it is out of range, or so small that adding it to a
            pixel changes nothing.
    """
    value = number(name, value, **bounds)
    if 0 < value < _SMALLEST_CHANGE:
        raise ValueError(
            f"`{name}` is in pixel units of images in [0, 1], and adding less "
            f"than {_SMALLEST_CHANGE:.0e} (2**-24) to a pixel of 1 changes "
            f"nothing in float32: received {value}."
        )
    return value


def integer(name: str, value: Any, minimum: int) -> int:
    """Return `value` as an int.

    Args:
        value: an integer of int32, also as an array of no axes.
        minimum: smallest allowed value.

    Raises:
        TypeError: if it is not an integer.
        ValueError: if it is smaller than `minimum` or larger than 2**31 - 1.
    """
    try:
        # True is an integer to Python.
        found = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        found = None
    if found is None:
        raise TypeError(f"`{name}` needs an integer, received {typed(value)}.")
    if found < minimum:
        raise ValueError(
            f"`{name}` needs an integer >= {minimum}, received {shown(found)}."
        )
    if found > _LARGEST_INTEGER:
        raise ValueError(
            f"`{name}` needs an integer <= {_LARGEST_INTEGER}, received "
            f"{shown(found)}."
        )
    return found


def boolean(name: str, value: Any) -> bool:
    """Return `value` as a bool.

    Args:
        value: True or False, of Python or NumPy.

    Raises:
        TypeError: if it is something else, such as the text "no".
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(
            f"`{name}` needs True or False, received {typed(value)}."
        )
    return bool(value)


def choice(
    name: str, value: Any, known: Iterable[Any], others: str = ""
) -> Any:
    """Return `value` if it is one of `known`; raise `ValueError` if not.

    The message ends with `others`, what could be known beside them.
    """
    known = list(known)
    # An array is equal to nothing and to everything, element by element.
    if not isinstance(value, tuple(map(type, known))) or value not in known:
        raise ValueError(
            f"Unknown `{name}` {shown(value)}: expected one of {known}{others}."
        )
    return value


def sequence(name: str, values: Any, wanted: str) -> tuple[Any, ...]:
    """Return `values` as a tuple.

    Args:
        values: a list, a tuple or something else with an order, which may
            be read once only.
        wanted: what it holds, for the message, such as "one number per exit".

    Raises:
        TypeError: if it is a single value, a text, a dict or a set.
    """
    without_order = isinstance(values, (str, bytes, dict, set, frozenset))
    if without_order or not np.iterable(values):
        raise TypeError(
            f"`{name}` needs a sequence with {wanted}, received "
            f"{typed(values)}."
        )
    return tuple(values)


def thresholds(values: Any) -> tuple[float, ...]:
    """Return thresholds on confidences as a tuple of floats.

    Args:
        values: one number from 0 to 1 per exit but the last, each the least
            softmax probability with which an image leaves; infinity, or
            `None` (JSON has no infinity), where no image leaves.

    Raises:
        TypeError: if a threshold is not a number.
        ValueError: if one is NaN or out of range.
    """
    values = sequence("thresholds", values, "one number per exit but the last")
    return tuple(_threshold(each) for each in values)


def _threshold(value: Any) -> float:
    is_float = isinstance(value, (float, np.floating))
    if value is None or (is_float and value == math.inf):
        return math.inf
    value = number("thresholds", value, minimum=0)
    if value > LARGEST_CONFIDENCE:
        raise ValueError(
            "`thresholds` are compared with softmax probabilities, so they "
            "need numbers from 0 to 1, or infinity where no image leaves; "
            f"received {value}."
        )
    return value


def typed(value: Any) -> str:
    """Return what a message shows of a value of the wrong type."""
    return f"{shown(value)} of type {type(value).__name__}"


def shown(value: Any) -> str:
    """Return what a message shows of a value: its `repr`, shortened."""
    try:
        text = repr(value)
    except ValueError:  # Python writes integers of up to 4,300 digits only.
        return "an integer of more than 4,300 digits"
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
