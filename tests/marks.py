"""Marks that several test files use."""

import pytest


def slow(*values, **named):
    """Return a row of parameters that only `make test-all` runs."""
    return pytest.param(*values, marks=pytest.mark.slow, **named)
