"""What is said, and not saved, when training diverges."""

import math

import numpy as np


class Diverged(ValueError):
    """The loss or the weights are no longer numbers."""


def check_logs(logs, epoch):
    """Raise `Diverged` if a logged number is NaN or infinite.

    Args:
        logs: dict of means over the epoch so far; one that broke in any step
            stays broken.
        epoch: 0-based.
    """
    broken = [
        name for name, value in logs.items() if not math.isfinite(float(value))
    ]
    terms = [name for name in broken if name.endswith("_loss")]
    if broken:
        raise _diverged(", ".join(terms or broken), epoch)


def check_state(state, paths, epoch):
    """Raise `Diverged` if a variable holds NaN or infinity.

    Args:
        state: dict of arrays, see `checkpoints.training_state`.
        paths: what to call them, see `checkpoints.variable_paths`.
        epoch: 0-based.
    """
    for name, value in state.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise _diverged(f"the variable {paths[name]} ({name})", epoch)


def _diverged(what, epoch):
    return Diverged(
        f"Training diverged in epoch {epoch + 1}: {what} is NaN or infinite. "
        "Checkpoints from before that are kept. Try a smaller learning rate, "
        "in a new folder."
    )
