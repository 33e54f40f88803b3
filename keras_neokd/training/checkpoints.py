"""Checkpoints of a training run: atomic, verified, the last few and the best.

    checkpoints = CheckpointFolder("runs/x/checkpoints", num_kept=3)
    checkpoints.write(training_state(model), Position(epoch=3, batch=120))
    found = checkpoints.newest()            # damaged files are passed over
    restore(model, found.state)             # then go on at found.position

A checkpoint is one `.npz` file of plain arrays (nothing in it is ever
executed), whose name holds its place in the run and its SHA-256.
"""

import contextlib
import hashlib
import json
import pathlib
import re
import shutil
import warnings
from typing import Any
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_neokd.base import checks
from keras_neokd.base import writing
from keras_neokd.data.arrays import read_arrays

_NAME = re.compile(
    r"(?:best_(?P<score>[0-9.]+)_)?"
    r"epoch_(?P<epoch>\d+)_batch_(?P<batch>\d+)_(?P<digest>[0-9a-f]{16})\.npz"
)
# Other names in a state are the caller's own.
_GROUPS = ("model/", "optimizer/", "metrics/")


class Position(NamedTuple):
    """0-based epoch to go on in, and how many of its batches are done."""

    epoch: int
    batch: int = 0


class Checkpoint(NamedTuple):
    """The content of a file: `state` is a dict as of `training_state`."""

    position: Position
    state: dict[str, Any]
    path: pathlib.Path


def training_state(model, with_metrics=True):
    """Return everything that training changes, as a dict of arrays.

    These are weights, statistics, optimizer, counters, what the method keeps,
    and states of random generators; under PyTorch, dropout draws from a
    generator that no variable holds. What is bfloat16 becomes float32.

    Args:
        model: a compiled `MultiExitModel`.
        with_metrics: include the sums of the metrics. Defaults to True.
    """
    return {
        name: _of_numpy(ops.convert_to_numpy(variable))
        for name, variable in _variables(model, with_metrics).items()
    }


def _of_numpy(value):
    """Return an array of a type that files of NumPy have, of equal values."""
    return value.astype("float32") if _is_bfloat16(value) else value


def restore(model, state):
    """Put a state into a compiled model; other names in it are left alone.

    Without sums of metrics in it, metrics begin anew.

    Raises:
        ValueError: if the state is of another model, method or optimizer;
            the model is then left as it was.
    """
    with_metrics = any(name.startswith("metrics/") for name in state)
    variables = _variables(model, with_metrics)
    _check_same(variables, state)
    for name, variable in variables.items():
        variable.assign(state[name])


def variable_paths(model):
    """Return a dict from names in a state to paths such as `exit_1/kernel`."""
    variables = _variables(model, with_metrics=True)
    return {name: variable.path for name, variable in variables.items()}


def _variables(model, with_metrics):
    if not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)
    metrics = {id(each) for each in model.metrics_variables}
    own = [each for each in model.variables if id(each) not in metrics]
    groups = {"model": own, "optimizer": model.optimizer.variables}
    if with_metrics:
        groups["metrics"] = model.metrics_variables
    return {
        f"{group}/{i:05d}{_ending(variable)}": variable
        for group, variables in groups.items()
        for i, variable in enumerate(variables)
    }


def _ending(variable):
    # Of a bfloat16 variable the array is float32: only the name can tell.
    return "_bfloat16" if _is_bfloat16(variable) else ""


def _is_bfloat16(value):
    return str(value.dtype) == "bfloat16"


def _check_same(variables, state):
    theirs = {
        name: (value.shape, str(value.dtype))
        for name, value in state.items()
        if name.startswith(_GROUPS)
    }
    ours = {
        name: (
            tuple(variable.shape),
            "float32" if _is_bfloat16(variable) else variable.dtype,
        )
        for name, variable in variables.items()
    }
    paths = {
        name: f"{name} ({variable.path})"
        for name, variable in variables.items()
    }
    different = [
        f"  {paths.get(name, name)}: there {theirs.get(name)}, "
        f"here {ours.get(name)}"
        for name in sorted({*theirs, *ours})
        if theirs.get(name) != ours.get(name)
    ]
    if different:
        raise ValueError(
            "The checkpoint is of another model, method or optimizer; "
            "shapes and types of variables differ:\n"
            + "\n".join(different[:10])
            + ("\n  ..." if len(different) > 10 else "")
        )


def refuse_differences(theirs, ours, what, remedy):
    """Raise `ValueError` that names every key with two values.

    Args:
        theirs: flat dict of recorded values.
        ours: flat dict of the values asked for now.
        what: beginning of the message.
        remedy: its end.
    """
    lines = [
        f"  {key}: there {json.dumps(theirs.get(key))}, "
        f"now {json.dumps(ours.get(key))}"
        for key in sorted({*theirs, *ours})
        if theirs.get(key) != ours.get(key)
    ]
    if lines:
        raise ValueError("\n".join([f"{what}:", *lines, remedy]))


class CheckpointFolder:
    """The checkpoints of one run.

    Args:
        path: folder, made with the first checkpoint.
        num_kept: number of newest checkpoints to keep, >= 1. Defaults to 3.
            The best one is kept besides.
    """

    def __init__(self, path, num_kept=3):
        self.path = pathlib.Path(path)
        self._num_kept = checks.integer("num_kept", num_kept, minimum=1)

    def write(self, state, position, score=None):
        """Write a checkpoint, and remove those that are not to be kept.

        A kill at any moment leaves the earlier checkpoints and perhaps the
        new one, whole.

        Args:
            state: dict of arrays.
            position: a `Position`.
            score: number in [0, 1], or `None` (default). The checkpoint with
                the highest score is kept; the earlier of equal ones.

        Raises:
            OSError: if it cannot be written. Earlier ones are then left.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        place = f"epoch_{position.epoch:05d}_batch_{position.batch:06d}"
        with writing.unfinished(self.path / f"{place}.npz") as unfinished:
            digest = _write(unfinished, state)
            name = f"{place}_{digest}.npz"
            # As far as names of files tell scores apart.
            if score is not None and round(score, 6) > self.best_score():
                self._keep_best(unfinished, f"best_{score:.6f}_{name}")
            writing.move_to_disk(unfinished, self.path / name)
        for path in self._files(place):
            if path.name != name:  # Of an earlier try.
                path.unlink()
        for path in self._files()[: -self._num_kept]:
            # Newer ones could be damaged, and not be renamed.
            if path.name != name:
                path.unlink()

    def newest(self):
        """Return the newest whole `Checkpoint`, or `None` without one.

        Warns:
            UserWarning: for each damaged one that is passed over.

        Raises:
            OSError: if one cannot be read, which says nothing about it.
        """
        for path in reversed(self._files()):
            checkpoint = _read_or_warn(path)
            if checkpoint is not None:
                return checkpoint
        return None

    def best(self):
        """Return the best `Checkpoint`, or `None` without one.

        Warns, Raises: as `newest`.
        """
        files = self._files("best_")
        return _read_or_warn(files[-1]) if files else None

    def best_score(self):
        """Return the score of the best checkpoint, -1 without one."""
        scores = [
            float(_NAME.fullmatch(path.name)["score"])
            for path in self._files("best_")
        ]
        return max(scores, default=-1.0)

    def _keep_best(self, source, name):
        earlier = self._files("best_")
        with writing.replacing(self.path / name) as copy:
            shutil.copyfile(source, copy)
        for path in earlier:
            if path.name != name:  # What was done again.
                path.unlink()

    def _files(self, prefix="epoch_"):
        """Return the files, oldest first (`best_`: worst first)."""

        # A kill can leave two of a position that was reached again.
        def place_and_time(path):
            return path.name.rpartition("_")[0], path.stat().st_mtime_ns

        return sorted(
            (
                path
                for path in self.path.glob(f"{prefix}*.npz")
                if _NAME.fullmatch(path.name)
            ),
            key=place_and_time,
        )


def _write(path, state):
    with open(path, "wb") as file:
        np.savez(file, **state)
    return _digest(path)


def _digest(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _read_or_warn(path):
    match = _NAME.fullmatch(path.name)
    try:
        if _digest(path) != match["digest"]:
            raise ValueError(
                "its content does not have the SHA-256 of its name"
            )
        state = read_arrays(path)
    except OSError as error:
        # Out of the network's reach, perhaps, but not damaged.
        raise OSError(
            f"The checkpoint {path} cannot be read: {error}. It was left as "
            "it is; see that it can be read, and try again."
        ) from error
    except ValueError as error:
        warnings.warn(
            f"The checkpoint {path} is damaged ({error}) and passed over; if "
            f"possible, it is renamed to damaged_{path.name}.",
            stacklevel=3,
        )
        # Out of the way of what will be written for earlier positions. Where
        # that fails it is only passed over again.
        with contextlib.suppress(OSError):
            path.rename(path.with_name(f"damaged_{path.name}"))
        return None
    return Checkpoint(
        Position(int(match["epoch"]), int(match["batch"])), state, path
    )
