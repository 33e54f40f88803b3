"""Adversarial training without distillation: the base of all methods.

AdversarialTraining()              # Eq. 4
AdversarialTraining(0.5, 0.5)      # as triple-wins weighs it
AdversarialTraining(1.0, 0.0)      # clean images only, no attack
"""

import keras

from keras_neokd.base import checks
from keras_neokd.base.registry import METHODS
from keras_neokd.methods.method import Method


@METHODS.register(
    "adversarial_training",
    triple_wins={"clean_weight": 0.5, "adversarial_weight": 0.5},
    clean_training={"adversarial_weight": 0.0},
)
@keras.saving.register_keras_serializable("keras_neokd")
class AdversarialTraining(Method):
    """Adversarial training without distillation (Eq. 4).

    `sum over exits of CE(f_i(x), y) + CE(f_i(x_adv), y)`: the paper's
    baseline "Adv. w/o Distill". Triple-wins (Hu et al. 2020) weighs both
    with 0.5; `adversarial_weight=0` is training on clean images only.

    Args:
        clean_weight: weight of the first term, >= 0. Defaults to 1.
        adversarial_weight: weight of the second, >= 0. Defaults to 1.
    """

    extras_use_attack = False

    def __init__(
        self, clean_weight: float = 1.0, adversarial_weight: float = 1.0
    ) -> None:
        self.clean_weight = checks.number(
            "clean_weight", clean_weight, minimum=0
        )
        self.adversarial_weight = checks.number(
            "adversarial_weight", adversarial_weight, minimum=0
        )
