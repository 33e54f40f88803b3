"""Compute random numbers as a pure function of integer words.

Every random decision of the library (the start of an attack, the classes an
exit learns in EOKD, the crop of an image) is computed from the words that
name it, for example `(seed, epoch, step, index of the example)`. There is no
hidden generator: two replicas draw what one device would draw, an evaluation
does not depend on its batch size, a resumed run goes on with the numbers of
the uninterrupted one, and all backends draw the same bits.

    keys = randomness.bits(seed, step, ops.arange(batch_size))   # on device
    noise = randomness.example_uniform(keys, shape=(28, 28, 1))
    offsets = randomness.host_bits(seed, epoch, indices) % 9     # in NumPy

The mixing function is the 32-bit finaliser "lowbias32" (Chris Wellons, "Hash
prospector", 2018, public domain), a bijection of 32-bit words. It is meant
for simulation, not for cryptography.
"""

import math
from collections.abc import Iterable
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from keras_neokd.base import checks
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Tensor

_MULTIPLIERS = (0x7FEB352D, 0x846CA68B)
_SHIFTS = (16, 15, 16)
_WORD_OFFSET = 0x9E3779B9
_STATE_MULTIPLIER = 0x85EBCA6B


def check_seed(seed: Any) -> int:
    """Return an integer from 0 to 2**31 - 1; raise as `checks.integer`."""
    return checks.integer("seed", seed, minimum=0)


def bits(*words: Tensor) -> Tensor:
    """Mix integer words into well-spread 32-bit integers, on the device.

    Args:
        words: integers or int32 tensors that broadcast against each other.

    Returns:
        int32 tensor of the broadcast shape; all 2**32 patterns are equally
        likely.
    """
    state = _signed(0)
    for word in words:
        hashed = _mix(_as_int32(word) + _signed(_WORD_OFFSET))
        state = _mix(
            ops.bitwise_xor(state * _signed(_STATE_MULTIPLIER), hashed)
        )
    return state


def uniform(*words: Tensor) -> Tensor:
    """Return float32 numbers in the open interval (0, 1), on the device.

    Args:
        words: as in `bits`.
    """
    mantissa = ops.cast(_logical_shift(bits(*words), 9), "float32")
    return (mantissa + 0.5) * 2.0**-23


def example_uniform(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw one array of numbers in (0, 1) per example.

    Args:
        keys: int32 tensor `(batch,)`, one key per example, from `bits`.
        shape: shape of one example, for example `(28, 28, 1)`.

    Returns:
        float32 tensor `(batch, *shape)`.
    """
    size = math.prod(shape)
    flat = uniform(ops.expand_dims(keys, 1), np.arange(size, dtype="int32"))
    return ops.reshape(flat, (-1, *shape))


def example_normal(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw one array of standard normal numbers per example (Box-Muller).

    Takes and returns the same as `example_uniform`.
    """
    radius = ops.sqrt(-2.0 * ops.log(example_uniform(bits(keys, 0), shape)))
    angle = 2.0 * math.pi * example_uniform(bits(keys, 1), shape)
    return radius * ops.cos(angle)


def moved_seeds(
    variables: Iterable[keras.Variable], noise: Tensor
) -> list[tuple[keras.Variable, Tensor]]:
    """Return the states of Keras' seed generators, moved to other draws.

    Args:
        variables: variables, those of a model for example.
        noise: integer or scalar tensor that numbers the draws.

    Returns:
        List of pairs of a variable and its value, for `keras.StatelessScope`;
        other variables are left out.
    """
    return [
        (variable, variable.value + ops.cast(noise, variable.dtype))
        for variable in variables
        if variable.name == "seed_generator_state"
    ]


def host_bits(*words: int | Array) -> Array:
    """Mix integer words in NumPy: the same bits as `bits`, as uint32.

    Args:
        words: integers or integer arrays that broadcast against each other;
            only their lowest 32 bits count.

    Returns:
        uint32 array of the broadcast shape.
    """
    state: Any = np.uint32(0)
    with np.errstate(over="ignore"):
        for word in words:
            word = np.asarray(word, "int64").astype("uint32")
            hashed = _host_mix(word + np.uint32(_WORD_OFFSET))
            state = _host_mix((state * np.uint32(_STATE_MULTIPLIER)) ^ hashed)
    return state


def _signed(value: int) -> Any:
    """Return the int32 that has the bits of a 32-bit pattern."""
    return np.array(value, "uint32").view("int32")[()]


def _as_int32(word: Tensor) -> Tensor:
    if isinstance(word, (int, np.integer)):
        # A tensor wraps around where a NumPy scalar warns.
        return ops.convert_to_tensor(_signed(int(word) % 2**32))
    return ops.cast(word, "int32")


def _mix(x: Tensor) -> Tensor:
    x = ops.convert_to_tensor(x, "int32")
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, None), strict=True):
        x = ops.bitwise_xor(x, _logical_shift(x, shift))
        if multiplier is not None:
            x = x * _signed(multiplier)
    return x


def _logical_shift(x: Tensor, shift: int) -> Tensor:
    # int32 is the one integer type that wraps around on every backend; its
    # right shift copies the sign, hence the mask.
    return ops.bitwise_and(ops.right_shift(x, shift), 2 ** (32 - shift) - 1)


def _host_mix(x: Array) -> Array:
    for shift, multiplier in zip(_SHIFTS, (*_MULTIPLIERS, None), strict=True):
        x = x ^ (x >> np.uint32(shift))
        if multiplier is not None:
            x = x * np.uint32(multiplier)
    return x
