"""Arrays to and from the backend, and comparisons of either."""

import keras
import numpy as np
from keras import ops


def tensor(values, dtype="float32"):
    """Return values as a tensor of the backend."""
    return ops.convert_to_tensor(np.asarray(values, dtype))


def array(values):
    """Return a copy of a tensor, variable or array-like as a NumPy array."""
    if ops.is_tensor(values) or isinstance(values, keras.Variable):
        values = ops.convert_to_numpy(values)
    return np.array(values)


def close(received, expected, *arguments, **named):
    """Compare as `np.testing.assert_allclose`, which has the arguments."""
    np.testing.assert_allclose(
        array(received), array(expected), *arguments, **named
    )


def equal(received, expected, **named):
    """Compare as `np.testing.assert_array_equal` does."""
    np.testing.assert_array_equal(array(received), array(expected), **named)
