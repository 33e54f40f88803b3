"""Baselines in which one exit, or the mean of all, teaches exits.

SKD()                                # last exit teaches the earlier ones
SKD.phuong()                         # with the weights of Phuong and Lampert
SKD.phuong(annealing=True)
ARD()                                # clean last exit, adversarial last exit
ARD(teacher="ensemble", student="all")
"""

from typing import Any
from typing import Self

import keras
import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd import losses
from keras_neokd.base import checks
from keras_neokd.base.registry import METHODS
from keras_neokd.base.typing import Array
from keras_neokd.methods.context import Context
from keras_neokd.methods.context import Term
from keras_neokd.methods.method import Method

# Phuong and Lampert's annealing: the factor, and the confidence above which
# it is applied.
_ANNEALING_FACTOR = 1.05
_ANNEALING_CONFIDENCE = 0.5
_TEMPERATURE = "skd_temperature"
# The code of Phuong and Lampert: half the weight on labels and half, times
# T**2, on the teacher; all of it times 10 / exits.
_PHUONG = {
    "weight": 0.5,
    "temperature": 4.0,
    "divergence": "cross_entropy",
    "base_weight": 0.5,
    "temperature_squared": True,
    "scale": 10.0,
}
_PHUONG_ANNEALING = {**_PHUONG, "temperature": 1.0, "annealing": True}
# The code of Goldblum et al.
_GOLDBLUM = {"temperature": 30.0, "reduction": "mean"}


class _ExitDistillation(Method):
    """Base of SKD and ARD: teacher, weight, divergence, temperature."""

    exit_arguments = ("teacher", "student")

    def __init__(
        self,
        weight: float,
        temperature: float,
        teacher: int | str,
        divergence: str,
    ) -> None:
        self.weight = checks.number("weight", weight, minimum=0)
        self.temperature = checks.number("temperature", temperature, above=0)
        self.teacher = _check_exit("teacher", teacher, "ensemble")
        self.divergence = checks.choice(
            "divergence", divergence, losses.DIVERGENCES
        )

    def validate(self, model: keras.Model) -> None:
        """See `Method.validate`."""
        _check_range("teacher", self.teacher, model.num_exits)

    def _values(self, teaching, taught, temperature):
        targets = losses.exit_teacher(teaching, self.teacher, temperature)
        return losses.distil(taught, targets, self.divergence, temperature)


@METHODS.register("skd", skd_phuong=_PHUONG, skd_annealing=_PHUONG_ANNEALING)
@keras.saving.register_keras_serializable("keras_neokd")
class SKD(_ExitDistillation):
    """Eq. 4 plus self-distillation between exits (Phuong and Lampert 2019).

    One exit teaches all others, on clean and on attacked images separately,
    as NEO-KD compares with it. NEO-KD does not say with which weights: the
    defaults are those of its authors' earlier code.

    Args:
        weight: weight of both terms, >= 0. Defaults to 0.35.
        temperature: of teacher and student, > 0. Defaults to 1.5.
        teacher: 0-based index of the teaching exit, which is not taught
            itself; -1 (default) or `"last"` is the last. `"ensemble"`: the mean
            prediction of all exits teaches all (Table A4).
        divergence: `"kl"` (default) or `"cross_entropy"`: equal gradients.
        base_weight: weight of both cross-entropies of Eq. 4. Defaults to 1.
        temperature_squared: multiply both terms by T**2. Defaults to False.
        scale: multiply the whole loss by `scale / exits`; `None` (default)
            does not.
        annealing: after each batch in which the mean of the teacher's largest
            probability on clean images is above 0.5, multiply the
            temperature by 1.05. Defaults to False. The temperature is saved
            with the model.
    """

    def __init__(
        self,
        weight: float = 0.35,
        temperature: float = 1.5,
        teacher: int | str = -1,
        divergence: str = "kl",
        base_weight: float = 1.0,
        temperature_squared: bool = False,
        annealing: bool = False,
        scale: float | None = None,
    ) -> None:
        super().__init__(weight, temperature, teacher, divergence)
        self.base_weight = checks.number("base_weight", base_weight, minimum=0)
        self.temperature_squared = checks.boolean(
            "temperature_squared", temperature_squared
        )
        self.annealing = checks.boolean("annealing", annealing)
        if scale is not None:
            scale = checks.number("scale", scale, above=0)
        self.scale = scale

    @classmethod
    def phuong(cls, annealing: bool = False, **overrides: Any) -> Self:
        """Return the setting of Phuong and Lampert's code.

        With `annealing` T grows from 1, without it is 4 throughout;
        `overrides` replace arguments of the constructor.
        """
        annealing = checks.boolean("annealing", annealing)
        settings = _PHUONG_ANNEALING if annealing else _PHUONG
        return cls(**{**settings, **overrides})

    def base_weights(
        self, num_exits: int
    ) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """See `Method.base_weights`."""
        weights = (self._scaled(self.base_weight, num_exits),) * num_exits
        return weights, weights

    def extra_term_names(self) -> tuple[str, ...]:
        """See `Method.extra_term_names`."""
        return ("clean_skd", "adversarial_skd")

    def validate(self, model: keras.Model) -> None:
        """See `Method.validate`."""
        super().validate(model)
        if model.num_exits == 1:
            raise ValueError(
                "SKD has one exit teach the others, and the model has a "
                "single exit. Use AdversarialTraining, or KDIGA with a "
                "teacher network."
            )

    def initial_state(self, model: keras.Model) -> dict[str, Array]:
        """See `Method.initial_state`."""
        if not self.annealing:
            return {}
        return {_TEMPERATURE: np.array(self.temperature, "float32")}

    def extra_terms(self, context: Context) -> list[Term]:
        """See `Method.extra_terms`."""
        temperature = self.temperature
        if self.annealing:
            temperature = ops.convert_to_tensor(context.state[_TEMPERATURE])
            self._anneal(context, temperature)
        factor = temperature**2 if self.temperature_squared else 1.0
        num_exits = context.clean.shape[1]
        weights = [self._scaled(self.weight, num_exits)] * num_exits
        if self.teacher != "ensemble":
            weights[self.teacher] = 0.0

        def term(name, logits):
            values = factor * self._values(logits, logits, temperature)
            return Term(name, values, tuple(weights))

        return [
            term("clean_skd", context.clean),
            term("adversarial_skd", context.adversarial),
        ]

    def _scaled(self, weight, num_exits):
        return weight if self.scale is None else weight * self.scale / num_exits

    def _anneal(self, context, temperature):
        targets = losses.exit_teacher(context.clean, self.teacher, temperature)
        confidence = ops.stop_gradient(ops.max(targets, axis=-1))
        # The same on every replica, which all change the temperature.
        confidence = ops.mean(backend.gather_replicas(confidence))
        context.state[_TEMPERATURE].assign(
            ops.where(
                confidence > _ANNEALING_CONFIDENCE,
                _ANNEALING_FACTOR * temperature,
                temperature,
            )
        )


@METHODS.register("ard", ard_goldblum=_GOLDBLUM)
@keras.saving.register_keras_serializable("keras_neokd")
class ARD(_ExitDistillation):
    """Eq. 4 plus adversarially robust distillation (Goldblum et al. 2020).

    `weight * T**2 * KL(teacher(x) || student(x_adv))`, where one exit's clean
    prediction teaches an exit's prediction on the attacked image; NEO-KD
    compares with last exit to last exit. It does not say with which weight:
    weight and temperature are 1. `ARD.goldblum` has the original code's.

    Args:
        weight: alpha, >= 0. Defaults to 1.
        temperature: T of teacher and student, > 0. Defaults to 1.
        teacher: 0-based index of the teaching exit, -1 (default) is the
            last, or `"ensemble"` (Table A4).
        student: 0-based index of the taught exit, -1 (default) is the last,
            or `"all"`.
        divergence: `"kl"` (default) or `"cross_entropy"`: equal gradients.
        reduction: `"sum"` over classes (default, the definition of KL) or
            `"mean"`: the original code's mean over all elements, weaker by
            the number of classes.
    """

    def __init__(
        self,
        weight: float = 1.0,
        temperature: float = 1.0,
        teacher: int | str = -1,
        student: int | str = -1,
        divergence: str = "kl",
        reduction: str = "sum",
    ) -> None:
        super().__init__(weight, temperature, teacher, divergence)
        self.student = _check_exit("student", student, "all")
        self.reduction = checks.choice("reduction", reduction, ("sum", "mean"))

    @classmethod
    def goldblum(cls, **overrides: Any) -> Self:
        """Return Goldblum et al.'s setting: T = 30, mean over elements."""
        return cls(**{**_GOLDBLUM, **overrides})

    def validate(self, model: keras.Model) -> None:
        """See `Method.validate`."""
        super().validate(model)
        _check_range("student", self.student, model.num_exits)

    def extra_term_names(self) -> tuple[str, ...]:
        """See `Method.extra_term_names`."""
        return ("ard",)

    def extra_terms(self, context: Context) -> list[Term]:
        """See `Method.extra_terms`."""
        _, num_exits, num_classes = context.clean.shape
        weight = self.weight * self.temperature**2
        if self.reduction == "mean":
            weight /= num_classes
        weights = [weight] * num_exits
        if self.student != "all":
            weights = [0.0] * num_exits
            weights[self.student] = weight
        values = self._values(
            context.clean, context.adversarial, self.temperature
        )
        return [Term("ard", values, tuple(weights))]


def _check_exit(name, value, word):
    """Return an exit index or the word."""
    if isinstance(value, str):
        if value in (word, "last"):
            return -1 if value == "last" else value
        raise ValueError(
            f"`{name}` needs {word!r}, 'last' or the index of an exit, "
            f"received {value!r}."
        )
    return checks.integer(name, value, minimum=-checks.MOST_EXITS)


def _check_range(name, value, num_exits):
    if isinstance(value, int) and not -num_exits <= value < num_exits:
        raise ValueError(
            f"`{name}` needs an exit from 0 to {num_exits - 1} (or negative, "
            f"counted from the last), received {value}."
        )
