"""TRADES (Zhang et al. 2019), for several exits.

TRADES(weight=6.0)     # beta of the CIFAR runs; 1.0 in the MNIST runs
"""

import keras
from keras import ops

from keras_neokd import losses
from keras_neokd.attacks.attack import Attack
from keras_neokd.base import checks
from keras_neokd.base.registry import METHODS
from keras_neokd.methods.context import Context
from keras_neokd.methods.context import Term
from keras_neokd.methods.method import Method


@METHODS.register("trades")
@keras.saving.register_keras_serializable("keras_neokd")
class TRADES(Method):
    """Cross-entropy plus divergence of predictions (Zhang et al. 2019).

    `sum_i CE(f_i(x), y) + beta * KL(softmax(f_i(x)) || softmax(f_i(x_adv)))`
    over exits; gradients flow through both arguments. The attack given to
    `compile` maximises the divergence (the mean over the exits that it aims
    at) instead of its own loss, and starts from `x + 0.001 * N(0, 1)`.

    Args:
        weight: beta, >= 0. Defaults to 6.

    Raises:
        TypeError: when the model is compiled, if the loss of the attack
            cannot be replaced.
    """

    adversarial_weight = 0.0

    def __init__(self, weight: float = 6.0) -> None:
        self.weight = checks.number("weight", weight, minimum=0)

    def training_attack(
        self, attack: Attack, context: Context, weight: float = 1.0
    ) -> Attack:
        """See `Method.training_attack`."""
        clean = clean_logits(context)
        return attack.with_loss(
            lambda logits, labels, exit: losses.kl_between(logits, clean[exit]),
            random_start="normal",
        )

    def extra_term_names(self) -> tuple[str, ...]:
        """See `Method.extra_term_names`."""
        return ("trades",)

    def extra_terms(self, context: Context) -> list[Term]:
        """See `Method.extra_terms`."""
        values = losses.kl_between(context.adversarial, context.clean)
        return [Term("trades", values, (self.weight,) * values.shape[1])]


def clean_logits(context):
    """Return the logits of clean images, see `ExitLogits.exact`.

    These are a tuple of `(batch, classes)`, one per exit, without gradient.
    """
    return tuple(map(ops.stop_gradient, context.predict.exact(context.images)))
