"""What a model holds for its training method: variables, and a teacher.

Both outlive a step. The variables are stored in the model's file, beside the
optimizer's; a teacher network is not, and is given again after a reload.
"""

import keras

# How names of the variables begin in files.
_PREFIX = "method_"


class MethodState:
    """Mixin in front of `keras.Model` for models with a compiled method."""

    def set_teacher(self, teacher):
        """Give the method its teacher network, after reloading the model.

        State and optimizer stay as they are.

        Args:
            teacher: a `keras.Model`.

        Raises:
            ValueError: if the model is not compiled, the method has no
                teacher, or the teacher does not fit the model.
        """
        self._check_compiled("set_teacher")
        method = self._setup.method.with_teacher(teacher)
        method.validate(self)
        self._setup.method = self._setup.config["method"] = method

    def save_own_variables(self, store):
        """Store the state of the method beside the weights."""
        super().save_own_variables(store)
        for name, variable in self._state().items():
            store[f"{_PREFIX}{name}"] = variable

    def load_own_variables(self, store):
        """Load the state of the method where the file has it.

        Raises:
            ValueError: if it is of another shape.
        """
        names = list(store.keys())
        of_layers = [name for name in names if not name.startswith(_PREFIX)]
        super().load_own_variables({name: store[name] for name in of_layers})
        for name, variable in self._state().items():
            if f"{_PREFIX}{name}" not in names:
                continue
            value = store[f"{_PREFIX}{name}"]
            if tuple(value.shape) != tuple(variable.shape):
                raise ValueError(
                    f"The file holds {name!r} of shape {tuple(value.shape)}, "
                    f"and the method of this model needs {variable.shape}. "
                    "Compile with the method that the file was written with."
                )
            variable.assign(value)

    def _state(self):
        return self._setup.state if self.compiled else {}

    def _check_compiled(self, name):
        if not self.compiled:
            raise ValueError(
                f"`{name}` needs a compiled model: call `compile` first."
            )

    def _num_examples_needed(self):
        return self._setup.method.num_examples if self.compiled else None

    def _prepare_training(self):
        """See that training can begin; the host calls it before it does."""
        if not self.compiled:
            return
        self._setup.method.check_ready()
        # JAX compiles a teacher's weights in: new ones need a new step.
        network = self._setup.method.teacher_network
        weights = [] if network is None else network.variables
        weights = [variable.value for variable in weights]
        known = self._setup.compiled_in
        if len(known) != len(weights) or any(
            new is not old for new, old in zip(weights, known, strict=True)
        ):
            self._setup.compiled_in = weights
            self.train_function = None


def make_variable(value, name):
    """Return a variable that is no weight of the model.

    Args:
        value: NumPy array or scalar.
        name: name of the variable.
    """
    return keras.Variable(
        value,
        trainable=False,
        dtype=value.dtype.name,
        aggregation="only_first_replica",
        name=name,
    )
