"""Initialise weights by PyTorch's definitions.

They draw with NumPy on the host: JAX would compile a random generator for
every shape, which takes a minute for MSDNet, and a seed given through
`keras.utils.set_random_seed` starts equal weights on every backend.

A Keras initialiser gives the same values each time it is called, so every
weight needs an object of its own.
"""

import math
import random

import keras
import numpy as np


class _HostInitializer(keras.initializers.Initializer):
    """Base class of initialisers that draw with NumPy; they write `_draw`."""

    def __init__(self, fan, seed=None):
        self.fan = fan
        self.seed = seed
        # Python's generator is what Keras' own initialisers draw seeds from.
        self._seed = random.randrange(2**31) if seed is None else seed

    def __call__(self, shape, dtype=None, **kwargs):
        values = self._draw(np.random.default_rng(self._seed), shape)
        return keras.ops.convert_to_tensor(
            values, dtype=dtype or keras.config.floatx()
        )

    def get_config(self):
        """Return the constructor arguments."""
        return {"fan": self.fan, "seed": self.seed}


@keras.saving.register_keras_serializable("keras_neokd")
class KaimingNormal(_HostInitializer):
    """Draws from a normal distribution with variance `2 / fan`.

    Args:
        fan: Kernel positions times input channels (fan-in) or output
            channels (fan-out).
        seed: Integer, or `None` to draw one. Defaults to `None`.
    """

    def _draw(self, generator, shape):
        return generator.normal(0.0, math.sqrt(2.0 / self.fan), shape)


@keras.saving.register_keras_serializable("keras_neokd")
class TorchDefault(_HostInitializer):
    """Draws uniformly between `-1 / sqrt(fan)` and `1 / sqrt(fan)`.

    PyTorch gives this to kernels and biases of convolutions and dense layers
    that nobody initialises.

    Args:
        fan: Kernel positions times input channels, for the bias too.
        seed: As in `KaimingNormal`.
    """

    def _draw(self, generator, shape):
        limit = 1.0 / math.sqrt(self.fan)
        return generator.uniform(-limit, limit, shape)


@keras.saving.register_keras_serializable("keras_neokd")
class EmbeddingNormal(_HostInitializer):
    """Draws from a normal distribution with standard deviation 0.02.

    Vision transformers start their class token and positions from it.

    Args:
        seed: As in `KaimingNormal`.
    """

    def __init__(self, seed=None):
        super().__init__(fan=None, seed=seed)

    def _draw(self, generator, shape):
        return generator.normal(0.0, 0.02, shape)

    def get_config(self):
        """Return the constructor arguments."""
        return {"seed": self.seed}
