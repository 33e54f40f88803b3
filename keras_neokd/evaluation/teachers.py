"""Any Keras model as a teacher: a function from images to its logits."""

import keras
import numpy as np
from keras import ops

from keras_neokd import backend
from keras_neokd.multi_exit import MultiExitModel


def logits(teacher, exit_, student, images):
    """Return the teacher as a function from images to logits.

    Args:
        teacher: a built `keras.Model`.
        exit_: name or index of one of several outputs.
        student: a `MultiExitModel` that the teacher has to fit.
        images: one or more images in [0, 1] to try the teacher with.

    Returns:
        Function of `(batch, height, width, channels)` that returns float32
        `(batch, classes)`, in inference mode and leaving all variables as
        they are.

    Raises:
        TypeError: if the teacher is not a Keras model.
        ValueError: if it is not built, or does not fit the student.
    """
    if not isinstance(teacher, keras.Model):
        raise TypeError(f"`teacher` needs a keras.Model, received {teacher!r}.")
    if not teacher.built:
        raise ValueError(
            f"The teacher {teacher.name!r} is not built, so it has no weights "
            "yet: call it on a batch of images and load its weights first."
        )
    _check_input(teacher, student)
    function = _function(teacher, exit_)
    _check_output(function(ops.convert_to_tensor(images)), teacher, student)
    return function


def _function(teacher, exit_):
    if isinstance(teacher, MultiExitModel):
        index = teacher.exit_index(exit_)
        predict = teacher.exit_logits()
        return lambda images: predict(images, (index,))[0]
    variables = [*teacher.trainable_variables, *teacher.non_trainable_variables]

    def forward(images):
        with backend.frozen_state(variables):
            outputs = teacher(images, training=False)
        return ops.cast(_select(outputs, exit_, teacher), "float32")

    return forward


def _select(outputs, exit_, teacher):
    if not isinstance(outputs, (dict, list, tuple)):
        return outputs
    if isinstance(outputs, dict):
        if exit_ in outputs:
            return outputs[exit_]
        # Keras may sort the keys, exit_10 before exit_2: no last one.
        expected = f"a name, one of {list(outputs)}"
    else:
        if isinstance(exit_, int) and -len(outputs) <= exit_ < len(outputs):
            return outputs[exit_]
        expected = f"an index from 0 to {len(outputs) - 1}, or negative"
    raise ValueError(
        f"The teacher {teacher.name!r} has several outputs and none is "
        f"`teacher_exit` {exit_!r}: expected {expected}."
    )


def _check_input(teacher, student):
    # A subclassed model does not say what it takes.
    shape = getattr(teacher, "input_shape", None)
    wanted = student.input_shape[1:]
    if shape is None:
        return
    fits = (
        isinstance(shape, tuple)
        and len(shape) == len(wanted) + 1
        and all(
            None in (want, have) or want == have
            for want, have in zip(wanted, shape[1:], strict=True)
        )
    )
    if not fits:
        raise ValueError(
            f"The teacher {teacher.name!r} has to take the images of the "
            f"student: expected input shape (batch, "
            f"{', '.join(map(str, wanted))}), received {shape}."
        )


def _check_output(output, teacher, student):
    shape = tuple(output.shape)
    if len(shape) != 2 or shape[1] != student.num_classes:
        raise ValueError(
            f"The teacher {teacher.name!r} has to know the classes of the "
            f"student: expected logits of shape (batch, "
            f"{student.num_classes}), received {shape}."
        )
    values = ops.convert_to_numpy(output)
    if (values >= 0).all() and np.allclose(values.sum(axis=1), 1, atol=1e-3):
        raise ValueError(
            f"The teacher {teacher.name!r} returns probabilities, and its "
            "loss needs logits: through a second softmax gradients vanish. "
            "Build it without the last softmax."
        )
