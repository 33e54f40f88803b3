"""LW: keep the last dense kernel of each exit small.

LW()                          # the Frobenius norms
LW(form="hinge")              # only where a later exit's exceeds an earlier's
"""

from collections.abc import Sequence

import keras
from keras import ops

from keras_neokd import losses
from keras_neokd.base import checks
from keras_neokd.base.registry import METHODS
from keras_neokd.methods.context import Context
from keras_neokd.methods.context import Term
from keras_neokd.methods.exit_weights import check_exit_weights
from keras_neokd.methods.exit_weights import resolve_exit_weights
from keras_neokd.methods.method import Method

FORMS = ("norm", "squared_norm", "hinge")


@METHODS.register("lw")
@keras.saving.register_keras_serializable("keras_neokd")
class LW(Method):
    """Eq. 4 plus a penalty on the classifier weights of every exit.

    After Chen et al., "Towards understanding catastrophic overfitting in
    fast adversarial training" (Neural Networks 150, 2022), whose formula and
    weight are not public: they found late exits with larger weight norms
    than early ones where training collapses, and NEO-KD describes LW as
    restricting the dense weights of each exit. Chosen here, with
    `W_i` the last dense kernel of exit `i`, biases left out:

    - `"norm"`: `weight * sum_i c_i ||W_i||_F`, the default;
    - `"squared_norm"`: `weight * sum_i c_i ||W_i||_F**2`;
    - `"hinge"`: `weight * sum_i c_i max(0, ||W_i||_F - ||W_{i-1}||_F)`, only
      what a kernel exceeds its predecessor by; nothing for the first exit.

    Args:
        weight: lambda, >= 0. Defaults to 0.01.
        form: as above. Defaults to `"norm"`.
        exit_weights: c, one number >= 0 per exit, for example increasing
            with depth; `None` (default) is 1 for all.

    Raises:
        ValueError: when the model is compiled, if an exit does not end in a
            dense layer.
    """

    extras_use_attack = False

    def __init__(
        self,
        weight: float = 0.01,
        form: str = "norm",
        exit_weights: Sequence[float] | None = None,
    ) -> None:
        self.weight = checks.number("weight", weight, minimum=0)
        self.form = checks.choice("form", form, FORMS)
        self.exit_weights = check_exit_weights(exit_weights)

    def validate(self, model: keras.Model) -> None:
        """See `Method.validate`."""
        self._exit_weights(model.num_exits)
        model.head_kernels()

    def extra_term_names(self) -> tuple[str, ...]:
        """See `Method.extra_term_names`."""
        return ("lw",)

    def extra_terms(self, context: Context) -> list[Term]:
        """See `Method.extra_terms`."""
        kernels = [ops.cast(each, "float32") for each in context.head_kernels()]
        values = ops.stack([ops.sum(ops.square(each)) for each in kernels])
        if self.form != "squared_norm":
            values = losses.norm(values)
        if self.form == "hinge":
            rise = ops.relu(values[1:] - values[:-1])
            values = ops.concatenate([ops.zeros_like(values[:1]), rise])
        weights = self._exit_weights(values.shape[0])
        weights = tuple(self.weight * each for each in weights)
        return [Term("lw", values, weights, level="weights")]

    def _exit_weights(self, num_exits):
        given = self.exit_weights
        ones = (1.0,) * num_exits
        return resolve_exit_weights(ones if given is None else given, num_exits)
