"""Processes that train together: which one this is, and what all agree on.

Each feeds its own part of every batch, all hold the same weights, and only the
first one writes files.
"""

import contextlib
import zlib

import keras
import numpy as np
from keras import ops

from keras_neokd import backend


def num_processes():
    """Return how many processes train together."""
    distribution = keras.distribution.distribution()
    return 1 if distribution is None else distribution.num_processes


def is_first():
    """Return whether this is the process that writes files."""
    distribution = keras.distribution.distribution()
    return distribution is None or distribution.data_shard_id == 0


def first_alone(function):
    """Return what a function returns, called on the first process first."""
    try:
        result = function() if is_first() else None
    finally:
        AnyProcess.any_now(False)  # The others wait, also if it failed.
    return result if is_first() else function()


@contextlib.contextmanager
def alone():
    """Let this process do what the others do not.

    To save a model, Keras makes variables, and waits for all processes where
    there is a distribution.
    """
    distribution = keras.distribution.distribution()
    keras.distribution.set_distribution(None)
    try:
        yield
    finally:
        keras.distribution.set_distribution(distribution)


def agree(facts, remedy):
    """Raise `ValueError` on all processes if their facts differ.

    All have to call it at the same place.

    Args:
        facts: dict of plain values.
        remedy: end of the message.
    """
    if num_processes() == 1:
        return
    names = sorted(facts)
    # Lists of other lengths could not even be compared.
    _compare({"the settings that there are": names}, remedy)
    _compare({name: facts[name] for name in names}, remedy)


def _compare(facts, remedy):
    hashes = [zlib.crc32(repr(each).encode()) for each in facts.values()]
    there = ops.convert_to_numpy(
        backend.gather_processes(np.array(hashes, "uint32").view("int32"))
    )
    different = (there != there[0]).any(axis=0)
    if different.any():
        lines = [
            f"  {name}, here {value!r}"
            for (name, value), differs in zip(
                facts.items(), different, strict=True
            )
            if differs
        ]
        raise ValueError(
            f"Worker disagreement: the {len(there)} processes that train "
            "together differ in\n" + "\n".join(lines) + f"\n{remedy}"
        )


class AnyProcess:
    """Tell all processes at the same step which flags any of them has set.

    With several processes the answer comes one call later: the devices need
    not wait for it.
    """

    def __init__(self):
        self._asked = None

    def any(self, *flags):
        """Return a bool for each flag of this process: is it set on any?"""
        asked, self._asked = self._asked, _asked(flags)
        if num_processes() == 1:
            asked = self._asked
        if asked is None:
            return np.zeros(len(flags), "bool")
        return _answer(asked)

    @staticmethod
    def any_now(*flags):
        """Return the answer of `any` at once, without its delay of a call."""
        return _answer(_asked(flags))


def _asked(flags):
    return backend.gather_processes(np.array([*map(bool, flags)], "int32"))


def _answer(asked):
    return ops.convert_to_numpy(asked).any(axis=0)
