"""Models that the tests of a file share."""

import pytest

from tests.training import tiny


@pytest.fixture
def model(shared):
    """The file's `shared` model, as at the start of training."""
    model, start = shared
    tiny.restore(model, start)
    return model
