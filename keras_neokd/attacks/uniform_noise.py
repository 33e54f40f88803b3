"""Random noise instead of an attack.

UniformNoise(epsilon=8 / 255)    # KDIGA's variant with noisy images
"""

import keras

from keras_neokd.attacks.attack import Attack
from keras_neokd.attacks.attack import ExitLogits
from keras_neokd.base import randomness
from keras_neokd.base.registry import ATTACKS
from keras_neokd.base.typing import Tensor
from keras_neokd.base.typing import Tensors


@ATTACKS.register("uniform_noise", noise={})
@keras.saving.register_keras_serializable("keras_neokd")
class UniformNoise(Attack):
    """Add uniform noise from the L-infinity ball, clipped to [0, 1].

    No attack at all: a lower bound to compare attacks with, and the noise
    that `KDIGA.kdiga_rs` trains with. `epsilon` is in pixel units.
    """

    def __init__(self, epsilon: float) -> None:
        super().__init__(epsilon)

    def perturb(
        self, predict: ExitLogits, images: Tensor, labels: Tensor, keys: Tensor
    ) -> tuple[Tensor, Tensors]:
        """See `Attack.perturb`. `info` is empty."""
        unit = randomness.example_uniform(keys, images.shape[1:])
        return images + self.epsilon * (2.0 * unit - 1.0), {}
