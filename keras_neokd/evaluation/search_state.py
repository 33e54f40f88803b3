"""The state of a search, kept in a file so that it can be stopped anywhere."""

import hashlib
import json
import pathlib
import time

import keras
import numpy as np

from keras_neokd._version import __version__
from keras_neokd.base import writing
from keras_neokd.data.arrays import read_arrays

_SECONDS_BETWEEN_SAVES = 30
# What reading a file that is no state, or only part of one, raises.
_BROKEN = (AttributeError, KeyError, OSError, TypeError, ValueError)
_UNFINISHED = "unfinished/"


class SearchState:
    """Results and position of a search.

    Attributes:
        arrays: dict of `adversarial` (images of the first attack, then of the
            second and so on), `fooled_by` (a number for each) and `rows`, the
            examples that the present stage, a member of an attack, began
            with.
        begun: whether clean images have been looked at.
    """

    def __init__(self, path, fingerprint, images, num_attacks=1):
        self.begun = False
        self.arrays = {
            "adversarial": np.concatenate([images] * num_attacks),
            "fooled_by": np.full(num_attacks * len(images), -1, "int32"),
            "rows": np.zeros(0, "int64"),
        }
        self._path = None if path is None else pathlib.Path(path)
        self._fingerprint = fingerprint
        # Number of the stage, first place of the group, attempt, round.
        self._at = (-1, 0, 0, 0)
        self._unfinished = None
        self._saved = time.monotonic()

    @classmethod
    def open(cls, path, model, attacks, images, labels, batch_size, seed):
        """Return the state in a file, or a new one if there is no file.

        Args:
            path: the file, or `None`.
            model, attacks, images, labels, batch_size, seed: of the search.

        Raises:
            ValueError: if the file holds another search, or no state.
        """
        if path is None:
            return cls(None, None, images, len(attacks))
        serialized = keras.saving.serialize_keras_object(list(attacks))
        settings = {
            "attack": serialized if len(attacks) > 1 else serialized[0],
            "batch_size": batch_size,
            "seed": seed,
            "backend": keras.backend.backend(),
            "version": __version__,
            "model": _digest(*model.get_weights()),
            "data": _digest(images, labels),
        }
        fingerprint = json.dumps(settings, sort_keys=True)
        state = cls(path, fingerprint, images, len(attacks))
        if state._path.exists():
            # As the file gives it back: JSON makes lists of tuples.
            state._read(json.loads(fingerprint))
        return state

    def is_behind(self, number):
        """Return True if the stage of a number was finished before."""
        return number < self._at[0]

    def enter(self, number, rows):
        """Begin a stage, or go on; return the examples that it began with.

        Args:
            number: number of the stage.
            rows: the examples to attack, if it begins now.
        """
        if number > self._at[0]:
            self._at = (number, 0, 0, 0)
            self._unfinished = None
            self.arrays["rows"] = rows
            self._write_sometimes()
        return self.arrays["rows"]

    def is_done(self, first):
        """Return whether the group that begins at place `first` had ended."""
        return first < self._at[1]

    def first_attempt(self, first):
        """Return the attempt to begin or go on with in the group at `first`."""
        return self._at[2] if first == self._at[1] else 0

    def unfinished(self, first, attempt):
        """Return the arrays within an attempt, or `None`, and its round."""
        here = (first, attempt) == self._at[1:3]
        if not here or self._unfinished is None:
            return None, 0
        return self._unfinished, self._at[3]

    def save(self, first, attempt=0, round_=0, unfinished=None):
        """Note where the search stands; the file is written now and then.

        Args:
            first: first place of the group.
            attempt: number of the attempt.
            round_: the round that comes next.
            unfinished: dict of the arrays of the attempt, or `None`.
        """
        self._at = (self._at[0], first, attempt, round_)
        self._unfinished = unfinished
        self._write_sometimes()

    def _write_sometimes(self):
        if time.monotonic() - self._saved >= _SECONDS_BETWEEN_SAVES:
            self.write()

    def write(self):
        """Write the file now, if there is one."""
        if self._path is None:
            return
        self._path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = self._unfinished or {}
        with writing.replacing(self._path) as new, open(new, "wb") as file:
            np.savez(
                file,
                fingerprint=np.array(self._fingerprint),
                at=np.array(self._at),
                **self.arrays,
                **{_UNFINISHED + name: unfinished[name] for name in unfinished},
            )
        self._saved = time.monotonic()

    def _read(self, settings):
        try:
            first = read_arrays(self._path, ["fingerprint"])
            before = _without_modules(json.loads(str(first["fingerprint"])))
            settings = _without_modules(settings)
            differing = [
                key for key in settings if before.get(key) != settings[key]
            ]
            # Of another search, the rest is not looked at.
            saved = {} if differing else self._arrays_of_file()
        except _BROKEN as error:
            raise ValueError(
                f"{self._path} is not the state of a search ({error}). "
                "Remove it, or name another file."
            ) from None
        if differing:
            raise ValueError(
                f"{self._path} holds the state of another search: it differs "
                f"in {', '.join(differing)}. Remove it, or name another file."
            )
        self._at = tuple(int(each) for each in saved["at"])
        self.begun = True
        self._unfinished = {
            name.removeprefix(_UNFINISHED): saved[name]
            for name in saved
            if name.startswith(_UNFINISHED)
        } or None
        self.arrays = {name: saved[name] for name in self.arrays}

    def _arrays_of_file(self):
        """Return all arrays of the file, as a search could have written."""
        saved = read_arrays(self._path)
        expected = {name: each.shape for name, each in self.arrays.items()}
        expected |= {"rows": (saved["rows"].size,), "at": np.shape(self._at)}
        for name, shape in expected.items():
            if saved[name].shape != shape:
                raise ValueError(
                    f"expected {name!r} of shape {shape}, received "
                    f"{saved[name].shape}"
                )
        return saved


def _without_modules(plain):
    """Return a serialised object without the modules of its classes."""
    if isinstance(plain, dict):
        return {
            key: _without_modules(value)
            for key, value in plain.items()
            if not (key == "module" and "class_name" in plain)
        }
    if isinstance(plain, list):
        return [_without_modules(each) for each in plain]
    return plain


def _digest(*arrays):
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
