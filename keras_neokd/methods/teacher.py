"""A frozen network that teaches another one.

teacher = Teacher(network)            # one output, or the last of several
teacher.check(model)                  # does it fit the model it teaches?
logits = teacher.logits(images)
"""

import keras
from keras import ops

from keras_neokd import backend
from keras_neokd import heads
from keras_neokd import losses


class Teacher:
    """What methods need of a teacher network, whatever Keras model it is.

    It runs in inference mode, and nothing in it changes.

    Args:
        network: a built `keras.Model` that maps images in [0, 1], as the
            student gets them, to logits; any preprocessing is part of it.
        exit: which of several outputs teaches: a name, or a 0-based index
            for a `MultiExitModel` or a list of outputs; -1 is the last.

    Raises:
        TypeError: if `network` is no `keras.Model`.
    """

    def __init__(self, network, exit=-1):
        if not isinstance(network, keras.Model):
            raise TypeError(
                "`teacher` needs a keras.Model, for example "
                'keras.saving.load_model("teacher.keras"); received '
                f"{network!r} of type {type(network).__name__}."
            )
        self._network = network
        self._exit = exit

    def logits(self, images):
        """Return logits `(batch, classes)` that carry no gradient.

        Args:
            images: `(batch, height, width, channels)`.
        """
        return ops.stop_gradient(self._forward(images))

    def input_gradient(self, images, labels):
        """Return the gradient of each image's cross-entropy, a constant.

        Args:
            images: `(batch, height, width, channels)`.
            labels: integers `(batch,)`.
        """
        _, gradient = backend.value_and_input_gradient(
            lambda x: losses.cross_entropy(self._forward(x), labels), images
        )
        return ops.stop_gradient(gradient)

    def check(self, model):
        """Raise `ValueError` if the network cannot teach the model.

        Args:
            model: a `MultiExitModel`.
        """
        name = self._network.name
        if not self._network.built:
            raise ValueError(
                f"The teacher {name!r} is not built, so it has no weights to "
                "teach with: load a trained model, or build and train it."
            )
        shape = (1, *(size or 32 for size in model.input_shape[1:]))
        try:
            logits = self._forward(ops.zeros(shape))
        except _BadExit:
            raise
        except Exception as error:
            raise ValueError(
                f"The teacher {name!r} does not take the model's images of "
                f"shape {shape[1:]}: {error}"
            ) from error
        if tuple(logits.shape) != (1, model.num_classes):
            raise ValueError(
                f"The teacher {name!r} needs logits of the model's "
                f"{model.num_classes} classes, (batch, {model.num_classes}); "
                f"for one image it returns shape {tuple(logits.shape)}."
            )
        self._check_no_softmax()

    def _forward(self, images):
        with backend.frozen_state(self._network.variables):
            outputs = self._network(images, training=False)
        return ops.cast(self._select(outputs), "float32")

    def _select(self, outputs):
        if isinstance(outputs, dict):
            names = list(getattr(self._network, "exit_names", outputs))
            return outputs[self._name(names)]
        if isinstance(outputs, (list, tuple)):
            names = [f"output {i}" for i in range(len(outputs))]
            return outputs[names.index(self._name(names))]
        if self._exit not in (-1, 0):
            raise _BadExit(
                f"The teacher {self._network.name!r} has one output and no "
                f"exit {self._exit!r}: leave `teacher_exit` at -1."
            )
        return outputs

    def _name(self, names):
        if self._exit in names:
            return self._exit
        # Keras sorts the keys of dicts, so their order says nothing.
        ordered = isinstance(self._exit, int) and (
            hasattr(self._network, "exit_names") or names[0] == "output 0"
        )
        if not ordered or not -len(names) <= self._exit < len(names):
            raise _BadExit(
                f"The teacher {self._network.name!r} has no exit "
                f"{self._exit!r}: `teacher_exit` needs one of {names}"
                + (", or its 0-based index." if ordered else ".")
            )
        return names[self._exit]

    def _check_no_softmax(self):
        outputs = getattr(self._network, "output", None)
        if outputs is not None:
            model = keras.Model(self._network.inputs, self._select(outputs))
            heads.check_logits(f"of teacher {self._network.name}", model)


class _BadExit(ValueError):
    """The teacher has no such exit."""
