"""Multi-exit models: functional Keras models with named exits.

inputs = keras.Input((32, 32, 3))
...
model = MultiExitModel(inputs, {"exit_1": early, "exit_2": late})
model = MultiExitModel.from_functional(any_model_with_several_outputs)

model.exit_names                   # ("exit_1", "exit_2"), shallow first
model.exit_model("exit_1")         # functional model of one exit
model.exit_costs()                 # what each exit computes
"""

import numbers
import types
import warnings
from collections.abc import Callable
from collections.abc import Sequence
from typing import Any

import keras

from keras_neokd.base import checks
from keras_neokd.base.typing import PathLike
from keras_neokd.base.typing import Tensor
from keras_neokd.network import costs
from keras_neokd.network import ends
from keras_neokd.network import heads
from keras_neokd.network.costs import ExitCosts
from keras_neokd.network.frozen import FrozenNetwork
from keras_neokd.network.graph import Graph
from keras_neokd.network.model_logits import ModelLogits
from keras_neokd.network.programs import Programs
from keras_neokd.training import trainer


@keras.saving.register_keras_serializable("keras_neokd")
class MultiExitModel(trainer.Trainer, keras.Model):
    """Functional model with one output of logits per exit.

    Exits have an order, shallow first, and names; code addresses them by
    name, because Keras may sort the keys of dicts (`exit_10` before
    `exit_2`). Files and `from_config` keep the order of the exits;
    `keras.models.clone_model` drops it: a model sorted by name warns. A model
    with a single exit is an ordinary classifier, such as a teacher.

    Args:
        inputs: one `keras.Input` of images `(height, width, channels)`;
            for layers with their channels first put a
            `keras.layers.Permute((3, 1, 2))` behind it.
        outputs: dict from exit names to logits `(batch, classes)` in depth
            order, or a list of logits, whose names are `exit_1`, `exit_2`
            and so on.
        name: name of the model.
        exit_names: names in depth order. Defaults to the order of `outputs`.
        trainable: whether the weights are. Defaults to True.

    Raises:
        ValueError: if an output is not a logits tensor of two classes or
            more, the class counts differ, there are several inputs, or the
            names do not fit.

    Warns:
        UserWarning: if the exits do not seem to be in depth order.
    """

    def __init__(
        self,
        inputs: Tensor,
        outputs: dict[str, Tensor] | Sequence[Tensor],
        name: str | None = None,
        *,
        exit_names: Sequence[str] | None = None,
        trainable: bool = True,
    ) -> None:
        outputs = ends.named_outputs(outputs, exit_names)
        inputs = ends.single_input(inputs)
        super().__init__(
            inputs=inputs, outputs=outputs, name=name, trainable=trainable
        )
        self.exit_names = tuple(outputs)
        self.num_exits = len(outputs)
        self.num_classes = ends.count_classes(outputs)
        ends.check_channels_last(self)
        # Keras makes another input where it is given a tensor within a model.
        inputs = self.input
        outputs = {each: self.output[each] for each in outputs}
        self.call_graph = Graph([inputs], outputs)
        # A plain namespace, so that Keras does not track the sub-models as
        # layers of this model.
        self._exits = types.SimpleNamespace(
            models={
                (i,): keras.Model(inputs, output, name=f"{self.name}_{each}")
                for i, (each, output) in enumerate(outputs.items())
            },
            outputs=tuple(outputs.values()),
        )
        self.programs = Programs(self)
        for each in self.exit_names:
            heads.check_logits(each, self.call_graph)
        self._warn_about_order()

    @classmethod
    def from_functional(
        cls,
        model: keras.Model,
        exit_names: Sequence[str] | None = None,
        name: str | None = None,
    ) -> "MultiExitModel":
        """Convert a functional model with several outputs; layers are shared.

        Args:
            model: functional `keras.Model` whose outputs are logits.
            exit_names: names of the exits in depth order. Defaults to the
                keys of dict outputs, else `exit_1`, `exit_2` and so on.
            name: name of the new model. Defaults to that of `model`.

        Returns:
            A `MultiExitModel`.

        Raises:
            TypeError: if `model` is not functional.
            ValueError: as the constructor.
        """
        try:
            inputs, outputs = model.input, model.output
        except AttributeError:
            raise TypeError(
                "`from_functional` needs a functional keras.Model, received "
                f"{model!r}."
            ) from None
        return cls(
            inputs, outputs, name=name or model.name, exit_names=exit_names
        )

    def exit_model(self, exit: int | str) -> keras.Model:
        """Return the functional model of one exit; layers are shared.

        Args:
            exit: name of the exit, or its 0-based index in depth order.

        Raises:
            ValueError: if the model has no such exit.
        """
        return self._exits.models[(self.exit_index(exit),)]

    def exit_index(self, exit: int | str) -> int:
        """Return the 0-based index of an exit.

        Args:
            exit: name of the exit, or its index (-1 is the last).

        Raises:
            ValueError: if the model has no such exit.
        """
        if isinstance(exit, str) and exit in self.exit_names:
            return self.exit_names.index(exit)
        if isinstance(exit, numbers.Integral) and type(exit) is not bool:
            if -self.num_exits <= exit < self.num_exits:
                return int(exit) % self.num_exits
        raise ValueError(
            f"Model {self.name!r} has no exit {checks.shown(exit)}: its exits "
            f"are {list(self.exit_names)}."
        )

    def exit_costs(self) -> list[ExitCosts]:
        """Return the costs of each exit, see `models.exit_costs`."""
        return costs.exit_costs(self)

    def exit_logits(self, training: bool = False) -> ModelLogits:
        """Return the model as an attack sees it.

        Args:
            training: run layers in training mode. In both modes the call
                leaves all variables as they are. Defaults to False.

        Returns:
            A `ModelLogits`; it computes only the exits asked for.
        """
        return ModelLogits(self, checks.boolean("training", training))

    def head_kernels(self) -> list[Tensor]:
        """Return the last dense kernel `(features, classes)` of each exit.

        Raises:
            ValueError: if an exit does not end in a dense layer.
        """
        return [
            heads.last_dense(name, self.call_graph).kernel
            for name in self.exit_names
        ]

    def submodel(self, exits: Sequence[int]) -> Callable[..., Any]:
        """Return a function of images and the mode: the logits of `exits`."""
        if exits not in self._exits.models:
            outputs = [self._exits.outputs[index] for index in exits]
            self._exits.models[exits] = keras.Model(self.input, outputs)
        model = self._exits.models[exits]
        if len(exits) > 1:
            return model
        return lambda images, training: (model(images, training=training),)

    def frozen_network(self) -> FrozenNetwork | None:
        """Return the `FrozenNetwork` of the model, or `None` without one."""
        if not hasattr(self._exits, "frozen"):
            try:
                self._exits.frozen = FrozenNetwork(self)
            except NotImplementedError:  # Batches that cannot be divided.
                self._exits.frozen = None
        return self._exits.frozen

    def forget_frozen_network(self) -> None:
        """Have the `FrozenNetwork` made anew where it is needed next."""
        vars(self._exits).pop("frozen", None)

    def stacked_logits(self, images: Tensor, training: bool = False) -> Tensor:
        """Return logits of all exits, float32 `(batch, exits, classes)`.

        Args:
            images: `(batch, height, width, channels)`.
            training: run layers in training mode. Defaults to False.
        """
        logits = self(images, training=training)
        logits = [logits[name] for name in self.exit_names]
        logits = [keras.ops.cast(each, "float32") for each in logits]
        return keras.ops.stack(logits, axis=1)

    def export(
        self,
        filepath: PathLike,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        **options: Any,
    ) -> dict[str, float] | None:
        """Export the model, a SavedModel by way of `export_saved_model`.

        Under every backend a SavedModel is written by TensorFlow, reloaded and
        compared with the model; it has a signature for each exit, too.

        Args:
            filepath: folder of the SavedModel, else as `keras.Model.export`.
            format: `"tf_saved_model"`, the default, or another one of
                `keras.Model.export`: Keras writes these, nothing compares
                them.
            verbose: say what was written. Defaults to True.
            input_signature: see `export_saved_model`.
            **options: for other formats, see `keras.Model.export`.

        Returns:
            For a SavedModel what `export_saved_model` returns, else None.

        Raises:
            TypeError: if options are given for a SavedModel.
            ValueError: if Keras is known to write unusable files: ONNX under
                JAX, and OpenVINO of quantized layers.
            ImportError, RuntimeError: as `export_saved_model`.
        """
        # Not at the top: that module is built on this file.
        from keras_neokd.serving import export

        return export.export_model(
            self, filepath, format, verbose, input_signature, options
        )

    def get_config(self) -> dict[str, Any]:
        """Return the graph, and the order of the exits."""
        return {**super().get_config(), "exit_names": list(self.exit_names)}

    def _warn_about_order(self):
        sizes = [self.call_graph.count(name) for name in self.exit_names]
        if sizes != sorted(sizes):
            warnings.warn(
                f"The exits of model {self.name!r} do not seem to be in "
                f"depth order: {list(self.exit_names)} are computed by "
                f"{sizes} operations. Neighbours in NKD follow this order; "
                "pass `exit_names` shallow first.",
                stacklevel=3,
            )
