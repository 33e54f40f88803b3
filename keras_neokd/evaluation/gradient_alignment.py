"""Compare the input gradients of a student with those of its teacher.

    result = gradient_alignment(student, teacher, images, labels)
    result.mean_distance()     # L2, one number per exit of the student
    result.mean_cosine()

KDIGA (Shao et al. 2021) carries robustness from a teacher to a student by
making the gradients of their losses with respect to the image equal; this
measures how equal they are.
"""

import dataclasses

import keras
import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd.attacks.geometry import example_norm
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Row
from keras_neokd.evaluation import batches
from keras_neokd.evaluation.protocol import diagnostic
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import flat
from keras_neokd.evaluation.result import table
from keras_neokd.methods.teacher import Teacher
from keras_neokd.network.multi_exit import MultiExitModel


@dataclasses.dataclass(frozen=True)
class GradientAlignmentResult(Result):
    """Input gradients of each exit of a student beside those of a teacher.

    Gradients of the cross-entropy of one image, in nats per pixel unit. The
    loss term in the code of KDIGA's authors is, for a batch of B images,
    `sqrt(sum(distances**2)) / B`: each gradient is divided by B.

    Attributes:
        exit_names: names of the student's exits in depth order.
        distances: float32 `(examples, exits)`: L2 norm of the difference of
            the two gradients.
        cosines: float32 `(examples, exits)`: cosine of the angle between
            them, from -1 to 1; NaN where one of them is exactly 0.
        student_norms: float32 `(examples, exits)`: L2 norms of the student's
            gradients, the scale of `distances`.
        teacher_norms: float32 `(examples,)`: L2 norms of the teacher's
            gradients.
    """

    columns = {
        "exit": "text",
        "distance_to_teacher_gradient": "number?",
        "cosine_with_teacher_gradient": "number?",
        "gradient_norm": "number?",
    }
    spread = tuple(columns)[1:]
    summary_columns = {"teacher_gradient_norm": "number?"}

    exit_names: tuple[str, ...]
    distances: np.ndarray
    cosines: np.ndarray
    student_norms: np.ndarray
    teacher_norms: np.ndarray

    def mean_distance(self) -> Array:
        """Return the mean distance over the images, `(exits,)`."""
        return self.distances.mean(axis=0, dtype="float64")

    def mean_cosine(self) -> Array:
        """Return the mean over images that have a cosine, `(exits,)`.

        NaN for an exit without any.
        """
        known = ~np.isnan(self.cosines)
        total = np.where(known, self.cosines, 0).sum(axis=0, dtype="float64")
        count = known.sum(axis=0)
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def rows(self) -> list[Row]:
        """Return a row per exit, with means over the images."""
        return table(
            exit=self.exit_names,
            distance_to_teacher_gradient=self.mean_distance(),
            cosine_with_teacher_gradient=self.mean_cosine(),
            gradient_norm=self.student_norms.mean(axis=0),
        )

    def summary(self) -> Row:
        """Return the mean norm of the teacher's gradients."""
        return flat(teacher_gradient_norm=self.teacher_norms.mean())


def _check(student, teacher, teacher_exit):
    Teacher(teacher, teacher_exit).check(student)


@diagnostic("gradient_alignment", GradientAlignmentResult, _check)
def gradient_alignment(
    student: MultiExitModel,
    teacher: keras.Model,
    images: Array,
    labels: Array,
    teacher_exit: int | str = -1,
    batch_size: int = 256,
    verbose: int = 0,
) -> GradientAlignmentResult:
    """Return a `GradientAlignmentResult` of a student and its teacher.

    Both models run in inference mode, and neither is changed.

    Args:
        student, images, labels, batch_size, verbose: as for `anytime`.
        teacher: a built `keras.Model` that takes the same images and returns
            logits `(batch, classes)`, or several of them in a list or dict,
            such as another `MultiExitModel`.
        teacher_exit: which output of a teacher with several: the name of an
            exit or its index in depth order. Defaults to -1, the last. A
            plain model with a dict of outputs needs a name.

    Raises:
        TypeError: if `student` or `teacher` is no such model.
        ValueError: if the data is not as described, the teacher does not fit
            the student, or a gradient is NaN or infinite.
    """
    images, labels = batches.check(student, images, labels, batch_size)
    taught_by = Teacher(teacher, teacher_exit)
    taught_by.check(student)
    step = _compiled_step(student, taught_by)
    outputs = batches.over_examples(step, images, labels, batch_size, verbose)
    names = ("student_norms", "teacher_norms")
    for model, name in zip((student, teacher), names, strict=True):
        batches.check_finite(model, outputs[name], "gradients")
    return GradientAlignmentResult(student.exit_names, **outputs)


def _compiled_step(student, teacher):
    predict = student.exit_logits()

    def step(images, labels, index):
        del index  # Nothing is drawn at random.
        images = ops.convert_to_tensor(images)
        labels = ops.convert_to_tensor(labels)
        wanted = teacher.input_gradient(images, labels)
        columns = [
            _compare(
                batches.exit_gradient(predict, exit, images, labels), wanted
            )
            for exit in range(student.num_exits)
        ]
        stacked = {
            name: ops.stack([column[name] for column in columns], axis=1)
            for name in columns[0]
        }
        return {**stacked, "teacher_norms": _direction_and_norm(wanted)[1]}

    variables = {
        id(variable): variable
        for model in (student, teacher.network)
        for variable in (
            *model.trainable_variables,
            *model.non_trainable_variables,
        )
    }
    return backend.compile_per_example(step, list(variables.values()))


def _compare(student, teacher):
    """Compare two gradients `(batch, ...)`; a dict of `(batch,)`."""
    student_direction, student_norm = _direction_and_norm(student)
    teacher_direction, teacher_norm = _direction_and_norm(teacher)
    axes = tuple(range(1, len(student.shape)))
    cosine = ops.sum(student_direction * teacher_direction, axis=axes)
    known = ops.logical_and(student_norm > 0, teacher_norm > 0)
    return {
        "distances": _direction_and_norm(student - teacher)[1],
        # Rounding may leave the interval.
        "cosines": ops.where(known, ops.clip(cosine, -1.0, 1.0), np.nan),
        "student_norms": student_norm,
    }


def _direction_and_norm(gradient):
    """Return the gradient at unit length, and its length `(batch,)`."""
    # Two divisions: the square of a tiny gradient is zero in float32.
    axes = tuple(range(1, len(gradient.shape)))
    largest = ops.max(ops.abs(gradient), axis=axes, keepdims=True)
    gradient = gradient / ops.where(largest > 0, largest, 1.0)
    length = example_norm(gradient)
    norm = ops.reshape(largest * length, (-1,))
    return gradient / ops.maximum(length, 1.0), norm
