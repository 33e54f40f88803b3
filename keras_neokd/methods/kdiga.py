"""KDIGA: a teacher's predictions and input gradients (Shao et al. 2021).

teacher = keras.saving.load_model("teacher.keras")
KDIGA(teacher)                             # clean images, per-example norms
KDIGA.author_2021(teacher)                 # as the authors' code of 2021
KDIGA.kdiga_rs(teacher)                    # the same on noisy images
KDIGA(teacher, exits="each")               # align every exit
NEOKD() + 0.5 * KDIGA(teacher)             # both

After a reload: model.set_teacher(teacher)
"""

import functools
from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from typing import Any
from typing import Self

import keras
from keras import ops

from keras_neokd import backend
from keras_neokd import losses
from keras_neokd.attacks.objective import check_exits
from keras_neokd.attacks.objective import select_exits
from keras_neokd.attacks.uniform_noise import UniformNoise
from keras_neokd.backend import precision
from keras_neokd.base import checks
from keras_neokd.base.registry import METHODS
from keras_neokd.methods import input_gradients
from keras_neokd.methods.context import Context
from keras_neokd.methods.context import Term
from keras_neokd.methods.method import Method
from keras_neokd.methods.teacher import Teacher

_IMAGES = ("clean", "adversarial")
_DISTILLATIONS = (*_IMAGES, "clean_to_adversarial")
_NORMS = ("example", "batch")
_REDUCTIONS = ("sum", "mean")
_MASKS = ("none", "teacher_correct")
# The first author's repository of 2021.
_AUTHOR_2021 = {"alignment_weight": 0.5, "norm": "batch", "reduction": "mean"}
_RS = {
    **_AUTHOR_2021,
    "clean_weight": 0.0,
    "adversarial_weight": 0.5,
    "distillation": "adversarial",
    "alignment": "adversarial",
    "noise": 8 / 255,
}
_ARD = {**_AUTHOR_2021, "distillation": "adversarial"}


@METHODS.register(
    "kdiga",
    kd={"alignment_weight": 0.0},
    kdiga_author_2021=_AUTHOR_2021,
    kdiga_rs=_RS,
    kdiga_rd={**_ARD, "alignment_weight": 0.0},
    kdiga_ard=_ARD,
)
@keras.saving.register_keras_serializable("keras_neokd")
class KDIGA(Method):
    """Knowledge distillation with input gradient alignment (KDIGA).

    `w_CE * CE(s(x), y) + w_KD * T**2 * KL(t || s) + w_IGA * ||g_s - g_t||_2`
    with `g` the gradient of the cross-entropy with the true label with
    respect to the image, `s` the trained model and `t` a frozen teacher. The
    first two terms are summed over exits. `g_s` carries a gradient to the
    weights, so a step differentiates twice: a smooth activation (softplus,
    silu, gelu) has second derivatives everywhere, a ReLU network trains
    through the mixed derivative of image and weight alone. Batch statistics
    are those of the batch in `g_s`, and running statistics are updated by
    the other forward passes only.

    The paper (Shao et al. 2021, arXiv 2110.12072) gives no code; the presets
    `author_2021`, `kdiga_rs`, `ard` and `kdiga_ard` follow the first author's
    repository. `KDIGA(teacher)` has the mean of per-example norms.

    Without adversarial terms no batch is attacked. The teacher is not part
    of the model or its file; a reloaded model trains on after
    `model.set_teacher(teacher)`.

    Args:
        teacher: a built `keras.Model` from images in [0, 1] to logits, of
            any architecture, its preprocessing included; or `None`, to be
            given by `model.set_teacher` before training.
        clean_weight: w_CE, >= 0, of each exit. Defaults to 0.5.
        adversarial_weight: weight of the cross-entropy of attacked images,
            >= 0. Defaults to 0.
        distillation_weight: w_KD, >= 0, of each exit. Defaults to 0.5.
        alignment_weight: w_IGA, >= 0. Defaults to 1.
        temperature: T of teacher and student, > 0. Defaults to 1.
        distillation: images of the KL: `"clean"` (default) or
            `"adversarial"` for both networks, `"clean_to_adversarial"` for
            clean images to the teacher and attacked ones to the student
            (Goldblum et al. 2020).
        alignment: images of the gradients, `"clean"` (default) or
            `"adversarial"`.
        norm: `"example"` (default): mean over examples of their norms;
            `"batch"`: norm over the whole (global) batch of the gradients
            of the mean cross-entropy, divided by the batch size.
        reduction: of the KL over classes: `"sum"` (default) or `"mean"`.
        mask: `"teacher_correct"`: KL and alignment only of examples that the
            teacher classifies correctly; others contribute 0. Defaults to
            `"none"`.
        exits: whose `g_s` is aligned: `"average"` (default): the one gradient
            of the mean cross-entropy over exits; `"each"`: each exit's own;
            or a sequence of 0-based indices: their own, 0 being logged for
            the others. Cost grows with their number.
        noise: train on images with uniform noise of this radius, in pixel
            units, instead of attacked ones. Defaults to 0, no noise.
        teacher_exit: which of the teacher's outputs: a name, or a 0-based
            index in a `MultiExitModel` or a list. Defaults to -1, the last.
    """

    needs_teacher = True
    exit_arguments = ("exits", "teacher_exit")

    def __init__(
        self,
        teacher: keras.Model | None,
        clean_weight: float = 0.5,
        adversarial_weight: float = 0.0,
        distillation_weight: float = 0.5,
        alignment_weight: float = 1.0,
        temperature: float = 1.0,
        distillation: str = "clean",
        alignment: str = "clean",
        norm: str = "example",
        reduction: str = "sum",
        mask: str = "none",
        exits: str | Sequence[int] = "average",
        noise: float = 0.0,
        teacher_exit: int | str = -1,
    ) -> None:
        self.teacher = teacher
        self.teacher_exit = teacher_exit
        self._teacher: Any = None
        if teacher is not None:
            self._teacher = Teacher(teacher, teacher_exit)
        self.clean_weight = _weight("clean", clean_weight)
        self.adversarial_weight = _weight("adversarial", adversarial_weight)
        self.distillation_weight = _weight("distillation", distillation_weight)
        self.alignment_weight = _weight("alignment", alignment_weight)
        self.temperature = checks.number("temperature", temperature, above=0)
        self.distillation = checks.choice(
            "distillation", distillation, _DISTILLATIONS
        )
        self.alignment = checks.choice("alignment", alignment, _IMAGES)
        self.norm = checks.choice("norm", norm, _NORMS)
        self.reduction = checks.choice("reduction", reduction, _REDUCTIONS)
        self.mask = checks.choice("mask", mask, _MASKS)
        self.exits = _check_aligned(exits)
        self.noise = checks.pixel_change("noise", noise, minimum=0, maximum=1)

    @classmethod
    def per_sample(
        cls, teacher: keras.Model | None, gamma: float = 1.0, **overrides: Any
    ) -> Self:
        """Return `KDIGA(teacher)` with `gamma` as `alignment_weight`."""
        return cls(teacher, **{"alignment_weight": gamma, **overrides})

    @classmethod
    def author_2021(
        cls, teacher: keras.Model | None, gamma: float = 0.5, **overrides: Any
    ) -> Self:
        """Return the objective of the authors' code at the paper's date.

        `0.5 * CE + 0.5 * KL / classes + gamma / B**2 * ||G_s - G_t||_F` with
        `G` the per-example gradients of a batch of `B`.

        `gamma`, the weight of the alignment, >= 0, is 0.5 by default; runs
        with 1, 10, 100 and 1000 are on record. `overrides` replace arguments
        of the constructor.
        """
        return cls(
            teacher, **{**_AUTHOR_2021, "alignment_weight": gamma, **overrides}
        )

    @classmethod
    def kdiga_rs(
        cls, teacher: keras.Model | None, gamma: float = 0.5, **overrides: Any
    ) -> Self:
        """Return `author_2021` on noisy images instead of clean ones.

        Uniform noise of 8/255; no attack is needed. Clean images pass
        through the network, too, and are logged. Arguments as there.
        """
        return cls(teacher, **{**_RS, "alignment_weight": gamma, **overrides})

    @classmethod
    def ard(cls, teacher: keras.Model | None, **overrides: Any) -> Self:
        """Return the authors' robust distillation, without alignment.

        Unlike in Goldblum et al. (`methods.ARD`), the teacher sees the
        attacked image, too. Arguments as in `author_2021`.
        """
        return cls.kdiga_ard(teacher, 0.0, **overrides)

    @classmethod
    def kdiga_ard(
        cls, teacher: keras.Model | None, gamma: float = 0.5, **overrides: Any
    ) -> Self:
        """Return `ard` with alignment of gradients at clean images."""
        return cls(teacher, **{**_ARD, "alignment_weight": gamma, **overrides})

    @property
    def own_attack(self) -> UniformNoise | None:  # type: ignore[override]
        """Uniform noise where `noise` says so."""
        return UniformNoise(self.noise) if self.noise else None

    @property
    def teacher_network(self) -> keras.Model | None:  # type: ignore[override]
        """See `Method`."""
        return self.teacher

    @property
    def extras_use_attack(self) -> bool:  # type: ignore[override]
        """True if distillation or alignment is on attacked images."""
        used = {"distillation": self.distillation, "alignment": self.alignment}
        return any(used[term] != "clean" for term in self.extra_term_names())

    def with_teacher(self, teacher: keras.Model) -> Method:
        """See `Method.with_teacher`."""
        Teacher(teacher, self.teacher_exit)  # None is none.
        return self.replace(teacher=teacher)

    def validate(self, model: keras.Model) -> None:
        """See `Method.validate`."""
        if self._teacher is not None:
            self._teacher.check(model)
            self._teacher.check_apart(model)
        if self.exits not in ("average", "each"):
            select_exits(self.exits, model.num_exits)
        if self.alignment_weight > 0 and precision.uses_float16(model):
            raise ValueError(
                "KDIGA differentiates input gradients, which round to zero "
                f"in float16, and layers of {model.name!r} compute in it. "
                "Build the model with mixed_bfloat16 or float32."
            )

    def extra_term_names(self) -> tuple[str, ...]:
        """See `Method.extra_term_names`."""
        names = ("distillation", "alignment")
        return tuple(each for each in names if getattr(self, f"{each}_weight"))

    def check_ready(self) -> None:
        """See `Method.check_ready`."""
        if self._teacher is None:
            raise ValueError(
                "KDIGA has no teacher, which is not in a model's file either: "
                "give it with model.set_teacher(teacher)."
            )

    def extra_terms(self, context: Context) -> list[Term]:
        """See `Method.extra_terms`."""
        terms = {"distillation": self._distil, "alignment": self._align}
        images = {
            "clean": context.images,
            "adversarial": context.adversarial_images,
        }
        # Both terms may need the teacher's logits of the same images.
        teacher_logits = functools.cache(
            lambda kind: self._teacher.logits(images[kind])
        )
        return [
            terms[name](context, images, teacher_logits)
            for name in self.extra_term_names()
        ]

    def _distil(self, context, images, teacher_logits):
        seen = self.distillation if self.distillation in _IMAGES else "clean"
        clean = self.distillation == "clean"
        taught = context.clean if clean else context.adversarial
        targets = ops.softmax(teacher_logits(seen) / self.temperature)
        values = losses.distil(
            taught, ops.expand_dims(targets, 1), "kl", self.temperature
        )
        _, num_exits, num_classes = taught.shape
        weight = self.distillation_weight * self.temperature**2
        if self.reduction == "mean":
            weight /= num_classes
        return Term(
            "distillation",
            self._mask(seen, teacher_logits, context.labels) * values,
            (weight,) * num_exits,
        )

    def _align(self, context, images, teacher_logits):
        seen = images[self.alignment]
        aligned, squares = input_gradients.squared_distances(
            context,
            seen,
            self._teacher.input_gradient(seen, context.labels),
            self.exits,
        )
        num_exits = context.clean.shape[1]
        weight = self.alignment_weight
        if self.exits == "average":
            weight /= num_exits
        weights = tuple(weight * (i in aligned) for i in range(num_exits))
        mask = self._mask(self.alignment, teacher_logits, context.labels)
        if self.norm == "example":
            return Term("alignment", mask * losses.norm(squares), weights)
        squares = backend.gather_replicas(mask * squares)
        batch_size = ops.cast(ops.shape(squares)[0], squares.dtype)
        values = losses.norm(ops.sum(squares, axis=0)) / batch_size**2
        return Term("alignment", values, weights, level="batch")

    def _mask(self, kind, teacher_logits, labels):
        """Return 1 for examples that count and 0 for others, `(batch, 1)`."""
        ones = ops.ones((ops.shape(labels)[0], 1))
        if self.mask == "none":
            return ones
        predicted = ops.argmax(teacher_logits(kind), axis=1)
        correct = ops.equal(ops.cast(predicted, "int32"), labels)
        return ops.expand_dims(ops.cast(correct, ones.dtype), 1)

    def get_config(self) -> dict[str, Any]:
        """Return the arguments without the teacher, as plain values."""
        return {
            name: keras.saving.serialize_keras_object(value)
            for name, value in self.arguments().items()
            if name != "teacher"
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """Build the method with its teacher still to be given."""
        return super().from_config({"teacher": None, **config})


def _weight(name, value):
    return checks.number(f"{name}_weight", value, minimum=0)


def _check_aligned(exits):
    if isinstance(exits, str) and exits in ("average", "each"):
        return exits
    if isinstance(exits, str) or not isinstance(exits, Iterable):
        raise TypeError(
            '`exits` needs "average", "each" or a sequence of exits, received '
            f"{exits!r}."
        )
    return check_exits(exits)
