"""TEAT: adversarial training with temporally ensembled predictions.

TEAT(num_examples=50_000, num_epochs=150)       # PGD-TE
TEAT(num_examples=10_000, num_epochs=5, variant="trades")

model.fit(images, {"label": labels, "index": np.arange(len(images))})
"""

import math

import keras
import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd import losses
from keras_neokd.attacks.attack import Attack
from keras_neokd.base import checks
from keras_neokd.base.registry import METHODS
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Tensor
from keras_neokd.methods.context import Context
from keras_neokd.methods.context import Term
from keras_neokd.methods.method import Method
from keras_neokd.methods.trades import clean_logits

_VARIANTS = ("pgd", "trades")
_AVERAGE = "teat_average"
# The original trains for 200 epochs, switches the term on at epoch 90 and
# has it in full from epoch 150 on.
_START, _FULL = 90 / 200, 150 / 200


@METHODS.register("teat", teat_trades={"variant": "trades"})
@keras.saving.register_keras_serializable("keras_neokd")
class TEAT(Method):
    """Temporally ensembled adversarial training (Dong et al. 2022).

    For every training example and exit a moving average of clean predictions
    is kept, `e <- m * e + (1 - m) * softmax(f_i(x))`, updated once per epoch
    before the attack, in the attack's mode. With `e / sum(e)` as the target
    of a prediction `p`, `R(p)` is the mean over classes of the squared
    difference, and with a ramp `r` over epochs:

    - `variant="pgd"` (PGD-TE): `sum_i CE(f_i(x_adv), y) + weight * r * R`
      of the attacked image, which is also what the attack maximises;
    - `variant="trades"` (TRADES-TE): as `TRADES`, plus `weight * r * R` of
      the clean image; the attack maximises `beta * KL + weight * r * R` of
      the attacked one.

    The attack takes the mean over the exits that it aims at, as NEO-KD does
    for this baseline; averages and `R` per exit are chosen here. The ramp is
    0 before 45 % of the epochs, `exp(-5 (1 - t)**2)` until 75 % and then 1,
    as in the original's 200 epochs.

    The averages take `4 * num_examples * exits * classes` bytes (140 MB for
    50,000 examples, 7 exits and 100 classes), in the model's file too, and a
    step may write them anew. They are read and written by the position of the
    example in the data set: labels are `{"label": labels, "index":
    positions}`.

    Clean images pass through the network in training mode as with other
    methods, so batch statistics are of clean and attacked images, although
    the original's are of attacked images alone.

    Args:
        num_examples: size of the training set, >= 1.
        num_epochs: length of the whole training, >= 1, for the ramp. A loop
            of `fit(epochs=1)` needs `initial_epoch`, one over
            `train_on_batch` needs `set_epoch`, or it stays in epoch 0.
        variant: `"pgd"` (default) or `"trades"`.
        weight: of `R` in full, >= 0. Defaults to 300.
        momentum: m, in [0, 1). Defaults to 0.9.
        beta: weight of the divergence in `"trades"`, >= 0. Defaults to 6.

    Raises:
        TypeError: when the model is compiled, if the loss of the attack
            cannot be replaced.
        ValueError: in training, if data come without positions.
    """

    num_examples: int

    def __init__(
        self,
        num_examples: int,
        num_epochs: int,
        variant: str = "pgd",
        weight: float = 300.0,
        momentum: float = 0.9,
        beta: float = 6.0,
    ) -> None:
        self.num_examples = checks.integer("num_examples", num_examples, 1)
        self.num_epochs = checks.integer("num_epochs", num_epochs, 1)
        self.variant = checks.choice("variant", variant, _VARIANTS)
        self.clean_weight = float(variant == "trades")
        self.adversarial_weight = float(variant == "pgd")
        self.weight = checks.number("weight", weight, minimum=0)
        # With 1, nothing new would enter the averages.
        self.momentum = checks.number("momentum", momentum, minimum=0, below=1)
        self.beta = checks.number("beta", beta, minimum=0)
        # Halves are rounded up: 68 and 113 of 150 epochs.
        self._start = math.floor(_START * self.num_epochs + 0.5)
        self._full = math.floor(_FULL * self.num_epochs + 0.5)

    def initial_state(self, model: keras.Model) -> dict[str, Array]:
        """See `Method.initial_state`."""
        shape = self.num_examples, model.num_exits, model.num_classes
        return {_AVERAGE: np.zeros(shape, "float32")}

    def begin_step(self, context: Context) -> None:
        """See `Method.begin_step`; updates the averages."""
        self._update(context, ops.stack(clean_logits(context), axis=1))

    def training_attack(
        self, attack: Attack, context: Context, weight: float = 1.0
    ) -> Attack:
        """See `Method.training_attack`."""
        clean = clean_logits(context) if self.variant == "trades" else None
        targets = self._targets(context)
        weight = weight * self.weight * self.ramp(context.position.epoch)

        def loss(logits, labels, exit):
            if self.variant == "pgd":
                base = losses.cross_entropy(logits, labels)
            else:
                base = self.beta * losses.kl_between(logits, clean[exit])
            return base + weight * _distance(logits, targets[:, exit])

        start = "normal" if self.variant == "trades" else None
        return attack.with_loss(loss, random_start=start)

    def extra_term_names(self) -> tuple[str, ...]:
        """See `Method.extra_term_names`."""
        return ("teat",) if self.variant == "pgd" else ("trades", "teat")

    def extra_terms(self, context: Context) -> list[Term]:
        """See `Method.extra_terms`."""
        num_exits = context.clean.shape[1]
        taught, terms = context.adversarial, []
        if self.variant == "trades":
            taught = context.clean
            divergence = losses.kl_between(context.adversarial, context.clean)
            terms.append(Term("trades", divergence, (self.beta,) * num_exits))
        values = self.ramp(context.position.epoch) * _distance(
            taught, self._targets(context)
        )
        return [*terms, Term("teat", values, (self.weight,) * num_exits)]

    def ramp(self, epoch: Tensor) -> Tensor:
        """Return the share of `weight`, from 0 to 1, in an epoch from 0."""
        progress = ops.cast(epoch - self._start, "float32") / (
            self._full - self._start
        )
        share = ops.exp(-5.0 * ops.square(1.0 - ops.clip(progress, 0.0, 1.0)))
        return ops.where(progress < 0, 0.0, share)

    def _update(self, context, logits):
        variable, index = context.state[_AVERAGE], context.position.example
        average = ops.convert_to_tensor(variable)
        old = ops.take(average, index, axis=0)
        new = self.momentum * old + (1 - self.momentum) * ops.softmax(logits)
        new = ops.where(context.position.epoch >= self._start, new, old)
        # Every replica writes what all have seen.
        rows = ops.expand_dims(backend.gather_replicas(index), 1)
        variable.assign(
            ops.scatter_update(average, rows, backend.gather_replicas(new))
        )

    def _targets(self, context):
        average = ops.take(
            context.state[_AVERAGE], context.position.example, axis=0
        )
        total = ops.sum(average, axis=-1, keepdims=True)
        # Zero before the first update, where the ramp is zero too.
        return ops.stop_gradient(average / ops.maximum(total, 1e-12))


def _distance(logits, targets):
    return ops.mean(ops.square(ops.softmax(logits) - targets), axis=-1)
