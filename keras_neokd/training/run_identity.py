"""Which run a checkpoint is of: plain values that it has to agree with."""

import json

import numpy as np

from keras_neokd.base import checks
from keras_neokd.training import checkpoints

_NAME, _DTYPE = "run/identity", "run/crafting_dtype"


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


def state(identity, model):
    """Return what a checkpoint holds of a run, a dict of arrays.

    Args:
        identity: what `plain` returns.
        model: the compiled model.
    """
    return {
        _NAME: np.array(json.dumps(identity)),
        _DTYPE: np.array(model.settings.crafting_dtype),
    }


def check_model(checkpoint, model):
    """Raise `ValueError` if attacks would go on in another precision.

    On another device, or another day, "auto" may come to something else.
    """
    theirs = str(checkpoint.state.get(_DTYPE, "float32"))
    ours = model.settings.crafting_dtype
    if theirs != ours:
        raise ValueError(
            f"The checkpoint {checkpoint.path} is of training with "
            f"crafting_dtype={theirs!r}, and the model is compiled with "
            f"{ours!r}. Compile it with crafting_dtype={theirs!r} to go on, "
            "or give another folder."
        )


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
