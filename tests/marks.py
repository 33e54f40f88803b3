"""Marks that several test files use."""

import keras
import pytest

# Programs that start others, whose work hardly depends on the backend: in
# `make test` under the default backend only, in `make test-all` under all.
slow_but_on_tensorflow = (
    pytest.mark.slow if keras.config.backend() != "tensorflow" else []
)


def slow(*values, **named):
    """Return a row of parameters that only `make test-all` runs."""
    return pytest.param(*values, marks=pytest.mark.slow, **named)
