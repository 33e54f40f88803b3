"""Notice that training diverges: a loss or a weight is no finite number."""

import numpy as np
from keras import ops

from keras_neokd.training import checkpoints


class Diverged(ValueError):
    """The loss or the weights are NaN or infinite."""

    def __init__(self, what, epoch):
        super().__init__(
            f"Training diverged in epoch {epoch + 1}: {what} is NaN or "
            "infinite. Checkpoints from before that are kept. Try a smaller "
            "learning rate, in a new folder."
        )


def check_logs(logs, epoch):
    """Raise `Diverged` if a logged number is NaN or infinite.

    Args:
        logs: dict of means over the epoch so far, numbers or arrays: one NaN
            stays in them.
        epoch: 0-based.
    """
    broken = [
        name
        for name, value in logs.items()
        if not np.isfinite(ops.convert_to_numpy(value)).all()
    ]
    terms = [name for name in broken if name.endswith("_loss")]
    if broken:
        raise Diverged(", ".join(terms or broken), epoch)


def check_state(state, model, epoch):
    """Raise `Diverged` if a variable holds NaN or infinity."""
    for name, value in state.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            path = checkpoints.variable_paths(model)[name]
            raise Diverged(f"the variable {path} ({name})", epoch)
