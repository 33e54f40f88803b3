"""Marks that several test files use."""

import keras
import pytest

# Programs that start others, files and texts, whose tests hardly depend on the
# backend: in `make test` under the default one only, in `make test-all` under
# all.
slow_but_on_tensorflow = (
    pytest.mark.slow if keras.config.backend() != "tensorflow" else []
)


def slow(*values, **named):
    """Return a row of parameters that only `make test-all` runs."""
    return pytest.param(*values, marks=pytest.mark.slow, **named)
