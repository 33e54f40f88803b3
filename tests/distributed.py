"""Two devices of this process, for the backends that can share batches."""

import contextlib

import keras
import pytest

from apps import distributing
from configs import digits

_STRATEGIES = {"tensorflow": "mirrored", "jax": "data_parallel"}
STRATEGY = _STRATEGIES.get(keras.config.backend())
needs_two_devices = pytest.mark.skipif(
    STRATEGY is None, reason="Keras trains on one device under PyTorch"
)


@contextlib.contextmanager
def two_devices():
    """Distribute over the two logical CPUs of `conftest.py`."""
    config = digits.get_config()
    config.distribution.strategy = STRATEGY
    with distributing.scope(config):
        yield
