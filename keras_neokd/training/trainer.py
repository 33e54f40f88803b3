"""`compile` of multi-exit models, and what it makes: two steps and their logs.

Settings and steps lie in plain objects: Keras would track dicts and lists, and
store their variables in the weights file.
"""

from collections.abc import Sequence
from typing import Any

import keras

from keras_neokd import backend
from keras_neokd.attacks.attack import Attack
from keras_neokd.backend import precision
from keras_neokd.base import checks
from keras_neokd.base import configurable
from keras_neokd.methods.method import Method
from keras_neokd.training import logs
from keras_neokd.training.checks import checked_settings
from keras_neokd.training.loops import CheckedLoops
from keras_neokd.training.step import TestingStep
from keras_neokd.training.step import TrainingStep

# How names of the method's variables begin in files.
_PREFIX = "method_"


class Trainer(CheckedLoops, backend.TrainStep):
    """Mixin that gives a multi-exit model robust training.

    Attributes:
        settings: namespace of the arguments of `compile`, as objects.
        training_step: a `training.step.TrainingStep`.
        testing_step: a `training.step.TestingStep`.
    """

    def compile(
        self,
        optimizer: keras.optimizers.Optimizer | str | None = None,
        method: Method | str | None = None,
        attack: Attack | None = None,
        metrics: Sequence[Any] | None = None,
        validation_attack: Attack | None = None,
        attack_training_mode: bool = False,
        crafting_batch_size: int | None = None,
        crafting_dtype: str = "float32",
        seed: int = 0,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        jit_compile: bool | str = "auto",
        **unknown: Any,
    ) -> None:
        """Configure training.

        Args:
            optimizer: a Keras optimizer or its name. With
                `gradient_accumulation_steps=n` it updates the weights every
                n batches. float16 layers get a `LossScaleOptimizer` around it.
            method: a `methods.Method`, or a name that `methods.get` knows.
            attack: the `attacks.Attack` of training; without meaning for
                methods that need no adversarial images.
            metrics: list of Keras metrics of `(integer labels, logits)`,
                besides accuracy; each is logged for clean and adversarial
                images of every exit.
            validation_attack: attack of `evaluate` and validation, or `None`
                (default). Callbacks on `val_adversarial_accuracy` need
                `mode="max"`: Keras cannot tell the direction.
            attack_training_mode: attack with the dropout and batch statistics
                of training (triple-wins), one dropout mask per attack (on
                PyTorch per step), not in inference mode. Defaults to False.
            crafting_batch_size: attack at most this many images at a time,
                per replica, with the same result in less memory; not with
                `attack_training_mode` or several devices of a
                `keras.distribution`. Defaults to `None`: all.
            crafting_dtype: precision of the convolutions that training attacks
                see, up to the logits: `"float32"` (default), `"bfloat16"`, or
                `"auto"` for the one that this device is measured to be faster
                in, which is printed and kept (JAX on processors: always
                float32). Images, logits, losses, the choice between finished
                images, validation and the training passes stay as they are.
                bfloat16 is refused with `attack_training_mode` and for models
                without such layers in float32, `"auto"` where several
                processes would measure.
            seed: integer from 0 to 2**31 - 1 behind all random numbers of
                attacks and methods. Defaults to 0.
            run_eagerly, steps_per_execution, jit_compile: as in
                `keras.Model.compile`; under PyTorch no `jit_compile=True`.
            **unknown: refused by the name that was probably meant.

        Warns:
            UserWarning: if layers, or attacks in bfloat16, are known to be
                slow on this device: 16 bits under JAX on processors.

        Raises:
            TypeError: if an argument has the wrong type, or does not exist.
            ValueError: if one is missing, or does not fit the model.
        """
        arguments = dict(locals())
        del arguments["self"], arguments["unknown"]
        configurable.check_names(
            "MultiExitModel.compile",
            unknown,
            configurable.settings(Trainer.compile),
        )
        self._configure(checked_settings(self, **arguments))

    def _configure(self, settings):
        """Take checked settings over; what can be refused comes first."""
        recorders = logs.Logs(self.exit_names, settings)
        training_step = TrainingStep(self, settings, recorders.training)
        testing_step = TestingStep(self, settings, recorders.testing)
        settings.optimizer = precision.loss_scaled(self, settings.optimizer)
        super().compile(
            optimizer=settings.optimizer,
            auto_scale_loss=False,
            run_eagerly=settings.run_eagerly,
            steps_per_execution=settings.steps_per_execution,
            jit_compile=settings.jit_compile,
        )
        self.settings, self._logs = settings, recorders
        self.training_step, self.testing_step = training_step, testing_step
        self.programs.refresh()  # They know the variables of before.

    def get_compile_config(self) -> dict[str, Any]:
        """Return the arguments of `compile` as plain values."""
        if not self.compiled:
            return {}
        return {
            name: keras.saving.serialize_keras_object(value)
            for name, value in vars(self.settings).items()
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile with the result of `get_compile_config`."""
        if keras.config.backend() == "torch":  # It cannot be True there.
            config = {**config, "jit_compile": "auto"}
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built and not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)

    @property
    def method(self) -> Method | None:
        """The training method, `None` before `compile`."""
        return self.settings.method if self.compiled else None

    def set_teacher(self, teacher: keras.Model) -> None:
        """Give the method its teacher, a `keras.Model`, after a reload.

        State and optimizer stay as they are.

        Raises:
            ValueError: if the model is not compiled, the method has no
                teacher, or the teacher does not fit the model.
        """
        self._check_compiled("set_teacher")
        method = self.settings.method.with_teacher(teacher)
        method.validate(self)
        self.settings.method = method

    def set_epoch(self, epoch: int) -> None:
        """Say which epoch it is, 0-based; `fit` does so by itself.

        For loops over `train_on_batch`: EOKD draws new classes every epoch.
        """
        self._check_compiled("set_epoch")
        self.training_step.epoch.assign(
            checks.integer("epoch", epoch, minimum=0)
        )

    def _check_compiled(self, name):
        if not self.compiled:
            raise ValueError(
                f"`{name}` needs a compiled model: call `compile` first."
            )

    # Keras asks for these whenever it resets, reports or hands state to a
    # compiled step.

    @property
    def variables(self) -> list[keras.Variable]:
        """Variables of the layers, counters and the state of the method."""
        if not self.compiled:
            return super().variables
        counters = [self.training_step.epoch, self.testing_step.examples_seen]
        return [*super().variables, *counters, *self._method_state().values()]

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The metrics of training and testing."""
        return self._logs.metrics if self.compiled else []

    @property
    def metrics_names(self) -> list[str]:
        """Names of everything that training logs, `loss` first."""
        return list(self._logs.training_names) if self.compiled else []

    def get_metrics_result(self) -> dict[str, Any]:
        """Return results of the metrics that saw data since the reset."""
        return self._logs.results_with_data()

    def reset_metrics(self) -> None:
        """Reset the metrics, and the position in the evaluated data set."""
        super().reset_metrics()
        if self.compiled:
            self.testing_step.examples_seen.assign(0)

    # A file holds what the method keeps between steps; a teacher network is
    # given again after a reload.

    def save_own_variables(self, store: Any) -> None:
        """Store the state of the method beside the weights."""
        super().save_own_variables(store)
        for name, variable in self._method_state().items():
            store[f"{_PREFIX}{name}"] = variable

    def load_own_variables(self, store: Any) -> None:
        """Load the state of the method where the file has it."""
        names = list(store.keys())
        of_layers = [name for name in names if not name.startswith(_PREFIX)]
        super().load_own_variables({name: store[name] for name in of_layers})
        for name, variable in self._method_state().items():
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

    def _method_state(self):
        return self.training_step.state if self.compiled else {}
