"""Which run a checkpoint is of: plain values that it has to agree with."""

import json

import numpy as np

from keras_neokd.base import checks
from keras_neokd.training import checkpoints

_NAME = "run/identity"


def plain(identity):
    """Return an identity as a checkpoint gives it back."""
    if identity is None:
        return None
    try:
        # NaN is none of JSON, and would differ from itself.
        found = json.loads(json.dumps(identity, allow_nan=False))
    except (TypeError, ValueError):
        found = None
    if not isinstance(found, dict):
        raise TypeError(
            "`identity` needs a flat dict of plain values that JSON has, "
            f"received {checks.typed(identity)}."
        )
    return found


def state(identity):
    """Return what a checkpoint holds of an identity, a dict of arrays."""
    return {_NAME: np.array(json.dumps(identity))}


def check(checkpoint, identity):
    """Raise `ValueError` if a checkpoint is of another run."""
    try:
        theirs = json.loads(str(checkpoint.state.get(_NAME)))
    except json.JSONDecodeError:
        theirs = None
    if not isinstance(theirs, dict):
        raise ValueError(
            f"The checkpoint {checkpoint.path} does not say of which run it "
            "is: an earlier version of keras_neokd wrote it, or another "
            "program. Finish the run with that version, or begin anew in "
            "another folder."
        )
    checkpoints.refuse_differences(
        theirs,
        identity,
        f"The checkpoint {checkpoint.path} is of another run",
        "Move it back to its own run, or give another folder.",
    )
