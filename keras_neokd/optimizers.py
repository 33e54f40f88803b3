"""Stochastic gradient descent as PyTorch does it, the paper's recipe.

optimizers.TorchSGD(0.1, momentum=0.9, coupled_weight_decay=5e-4)
"""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_neokd.base import checks
from keras_neokd.base.configurable import SYNONYMS
from keras_neokd.base.configurable import check_names
from keras_neokd.base.configurable import settings
from keras_neokd.base.typing import Tensor


@keras.saving.register_keras_serializable("keras_neokd")
class TorchSGD(keras.optimizers.Optimizer):
    """SGD with the momentum and weight decay of `torch.optim.SGD`.

    `g = gradient + coupled_weight_decay * w`, `v = momentum * v + g`,
    `w = w - learning_rate * v` (Nesterov: `g + momentum * v` for `v`).

    Two things differ from `keras.optimizers.SGD`. Its `weight_decay` is
    decoupled from the momentum and so about `1 / (1 - momentum)` times
    weaker; and it keeps the learning rate inside the velocity, so that steps
    after a drop of the rate still move with the old one.

    Args:
        learning_rate: number >= 0 or schedule. Defaults to 0.01.
        momentum: 0 <= momentum < 1. Defaults to 0.
        nesterov: needs a momentum. Defaults to False.
        coupled_weight_decay: added to the gradient before the momentum, for
            all trainable variables, batch-norm scales and biases included.
            Defaults to 0.
        name: name of the optimizer.
        **kwargs: other arguments of `keras.optimizers.Optimizer`.

    Raises:
        TypeError: if an argument has the wrong type, or does not exist.
        ValueError: if one is out of range, or the decoupled `weight_decay` of
            Keras is given.
    """

    def __init__(
        self,
        learning_rate: Any = 0.01,
        momentum: float = 0.0,
        nesterov: bool = False,
        coupled_weight_decay: float = 0.0,
        name: str = "torch_sgd",
        **kwargs: Any,
    ) -> None:
        if kwargs.get("weight_decay"):
            raise ValueError(
                "`weight_decay` is Keras' decoupled decay; TorchSGD takes "
                "`coupled_weight_decay`. Received weight_decay="
                f"{kwargs['weight_decay']}."
            )
        # The rest are Keras' own, which refuses what it does not know.
        check_names("TorchSGD", SYNONYMS.keys() & kwargs, settings(type(self)))
        # A schedule, or what Keras makes one from.
        if not (callable(learning_rate) or isinstance(learning_rate, dict)):
            learning_rate = checks.number(
                "learning_rate", learning_rate, minimum=0
            )
        super().__init__(learning_rate=learning_rate, name=name, **kwargs)
        self.momentum = checks.number("momentum", momentum, minimum=0, below=1)
        self.nesterov = checks.boolean("nesterov", nesterov)
        if self.nesterov and self.momentum == 0:
            raise ValueError(
                "`nesterov=True` needs a `momentum` > 0, received 0."
            )
        self.coupled_weight_decay = checks.number(
            "coupled_weight_decay", coupled_weight_decay, minimum=0
        )

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create one velocity per variable."""
        if self.built:
            return
        super().build(variables)
        self._velocities = self.add_optimizer_variables(variables, "velocity")

    def update_step(
        self, gradient: Tensor, variable: keras.Variable, learning_rate: Tensor
    ) -> None:
        """Update one variable."""
        gradient = ops.cast(gradient, variable.dtype)
        gradient = gradient + self.coupled_weight_decay * variable
        velocity = self._velocities[self._get_variable_index(variable)]
        self.assign(velocity, self.momentum * velocity + gradient)
        step = velocity
        if self.nesterov:
            step = gradient + self.momentum * velocity
        learning_rate = ops.cast(learning_rate, variable.dtype)
        self.assign_sub(variable, learning_rate * step)

    def get_config(self) -> dict[str, Any]:
        """Return the constructor arguments."""
        return {
            **super().get_config(),
            "momentum": self.momentum,
            "nesterov": self.nesterov,
            "coupled_weight_decay": self.coupled_weight_decay,
        }
