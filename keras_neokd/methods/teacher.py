"""Any Keras model as a frozen teacher.

teacher = Teacher(network)            # one output, or the last of several
teacher.check(model)                  # does it fit the model it teaches?
logits = teacher.logits(images)
"""

import keras
from keras import ops

from keras_neokd import backend
from keras_neokd import losses
from keras_neokd.base import checks
from keras_neokd.network import heads


class Teacher:
    """A network that runs in inference mode, and in which nothing changes.

    Args:
        network: a built `keras.Model` that maps images in [0, 1], as the
            student gets them, to logits; any preprocessing is part of it.
        exit: which of several outputs teaches: a name, or an index where
            outputs have an order (a `MultiExitModel`, a list); -1 is the
            last.

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
        if not isinstance(exit, str):
            checks.integer("teacher_exit", exit, minimum=-checks.MOST_EXITS)
        self.network = network
        self._exit = exit

    def forward(self, images):
        """Return float32 logits `(batch, classes)` of images."""
        network = self.network
        if hasattr(network, "exit_logits"):
            # A multi-exit model computes only what the exit needs.
            index = network.exit_index(self._exit)
            return network.exit_logits()(images, (index,))[0]
        variables = network.trainable_variables
        variables = [*variables, *network.non_trainable_variables]
        with backend.frozen_state(variables):
            outputs = network(images, training=False)
        return ops.cast(self._select(outputs), "float32")

    def logits(self, images):
        """Return the logits as a constant, which carries no gradient."""
        return ops.stop_gradient(self.forward(images))

    def input_gradient(self, images, labels):
        """Return the gradient of each image's cross-entropy, a constant."""
        _, gradient = backend.value_and_input_gradient(
            lambda x: losses.cross_entropy(self.forward(x), labels), images
        )
        return ops.stop_gradient(gradient)

    def check(self, model):
        """Raise `ValueError` if the network cannot teach a `MultiExitModel`."""
        name = self.network.name
        if not self.network.built:
            raise ValueError(
                f"The teacher {name!r} is not built, so it has no weights to "
                "teach with: load a trained model, or build and train it."
            )
        self._check_input(model)
        # Pixels that differ: a softmax shows in the output of real numbers.
        shape = (1, *(size or 32 for size in model.input_shape[1:]))
        ramp = ops.linspace(0.0, 1.0, shape[1] * shape[2] * shape[3])
        self._check_output(self.forward(ops.reshape(ramp, shape)), model)

    def check_apart(self, model):
        """Raise `ValueError` if training the model would change the network."""
        trained = {id(variable) for variable in model.trainable_variables}
        for variable in self.network.variables:
            if id(variable) in trained:
                raise ValueError(
                    f"The teacher {self.network.name!r} shares weights with "
                    f"the model, for example {variable.path!r}, and would "
                    "change with every step. Give a copy: "
                    "keras.models.clone_model and set_weights."
                )

    def _select(self, outputs):
        exit, name = self._exit, self.network.name
        if not isinstance(outputs, (dict, list, tuple)):
            if exit in (-1, 0):
                return outputs
            raise ValueError(
                f"The teacher {name!r} has one output, so there is no "
                f"`teacher_exit` {exit!r}: leave it at -1."
            )
        if isinstance(outputs, dict):
            if exit in outputs:
                return outputs[exit]
            # Keras may sort the keys, exit_10 before exit_2: no last one.
            expected = f"a name, one of {list(outputs)}"
        else:
            if isinstance(exit, int) and -len(outputs) <= exit < len(outputs):
                return outputs[exit]
            expected = f"an index from 0 to {len(outputs) - 1}, or negative"
        raise ValueError(
            f"The teacher {name!r} has several outputs and none is "
            f"`teacher_exit` {exit!r}: expected {expected}."
        )

    def _check_input(self, model):
        # A subclassed model does not say what it takes.
        shape = getattr(self.network, "input_shape", None)
        wanted = model.input_shape[1:]
        if shape is None:
            return
        if (
            not isinstance(shape, tuple)
            or len(shape) != len(wanted) + 1
            or any(
                None not in (want, have) and want != have
                for want, have in zip(wanted, shape[1:], strict=True)
            )
        ):
            raise ValueError(
                f"The teacher {self.network.name!r} has to take the images of "
                f"the student: expected input shape (batch, "
                f"{', '.join(map(str, wanted))}), received {shape}."
            )

    def _check_output(self, output, model):
        name, shape = self.network.name, tuple(output.shape)
        if len(shape) != 2 or shape[1] != model.num_classes:
            raise ValueError(
                f"The teacher {name!r} has to know the classes of the "
                f"student: expected logits of shape (batch, "
                f"{model.num_classes}), received {shape}."
            )
        values = ops.convert_to_numpy(output)
        is_softmax = (values >= 0).all() and abs(values.sum() - 1) < 1e-3
        if is_softmax or self._squashing():
            raise ValueError(
                f"The teacher {name!r} returns probabilities, and its loss "
                "needs logits: through a second softmax gradients vanish. "
                f"Build it without the last {self._squashing() or 'softmax'}."
            )

    def _squashing(self):
        # A subclassed model has no graph to look into.
        # Exits of a multi-exit model are known to end in logits.
        graph = getattr(self.network, "output", None)
        if graph is None or hasattr(self.network, "exit_logits"):
            return ""
        output = self._select(graph)
        return heads.squashing(keras.Model(self.network.inputs, output))
