"""Record the calls of a functional model while Keras makes them.

When Keras clones a model, it makes the calls of the model one after the other
and lets a function of ours stand in for each (`keras.models.clone_model`). The
configuration of a model lists its calls, too, but counts those of a nested
model from 1 in one place and from 0 in another.
"""

import collections
import dataclasses
from typing import Any
from typing import NamedTuple

import keras


@dataclasses.dataclass(frozen=True, order=True)
class Tensor:
    """The name of a tensor: which result of which call of a layer.

    Attributes:
        layer: name of the layer or operation.
        number: 0-based, among the calls of this layer.
        result: 0-based, among the results of the call.
    """

    layer: str
    number: int
    result: int

    @property
    def call(self):
        """The call `(layer, number)` that gives the tensor."""
        return self.layer, self.number


class Arguments(NamedTuple):
    """Arguments of a call, a tuple and a dict; tensors stand as their names."""

    positional: Any
    named: Any


class Recording:
    """The calls of a functional model.

    Args:
        model: functional `keras.Model` whose inputs are a list.
        batch: size of the batch that the calls are tried with; `None` leaves
            it open.

    Attributes:
        inputs: list of `Tensor`.
        outputs: list of `Tensor`.
        operations: dict from names to layers and other operations.
        arguments: dict from calls `(layer, number)` to `Arguments`, each call
            after those whose results it takes.
        shapes: dict from each `Tensor` to its shape.
    """

    def __init__(self, model, batch=None):
        self.operations, self.arguments, self.shapes = {}, {}, {}
        self._names, self._counts = {}, collections.Counter()
        inputs = [
            keras.Input(
                batch_shape=(each.shape[0] or batch, *each.shape[1:]),
                dtype=each.dtype,
            )
            for each in model.inputs
        ]
        # No layer may have a slash in its name.
        self.inputs = self._name(inputs, ("/inputs", 0))
        clone = keras.models.clone_model(
            model,
            input_tensors=inputs,
            clone_function=lambda operation: operation,
            call_function=self._record,
        )
        self.outputs = [self._names[each] for each in clone.outputs]
        self._names = {}

    def _name(self, tensors, call):
        names = []
        for number, each in enumerate(keras.tree.flatten(tensors)):
            names.append(Tensor(*call, number))
            self._names[each] = names[-1]
            self.shapes[names[-1]] = tuple(each.shape)
        return names

    def _record(self, operation, *positional, **named):
        call = operation.name, self._counts[operation.name]
        self._counts[operation.name] += 1
        self.operations[operation.name] = operation
        arguments = Arguments(positional, named)
        self.arguments[call] = _replace(self._names.get, arguments)
        # The call itself is made on tensors of no model, and its results stay
        # apart: what returns its argument would join them.
        alone = _replace(_unknown, arguments)
        results = operation(*alone.positional, **alone.named)
        results = _replace(_unknown, results)
        self._name(results, call)
        return _StandIn(results)(*positional, **named)


class _StandIn(keras.Operation):
    """Stands for a call whose results are known."""

    def __init__(self, results):
        super().__init__()
        self._results = results

    def compute_output_spec(self, *arguments, **named):
        """Return the results."""
        return self._results


def _unknown(tensor):
    return keras.KerasTensor(tensor.shape, tensor.dtype, tensor.sparse)


def _replace(function, structure):
    return keras.tree.map_structure(
        lambda each: (
            function(each) if isinstance(each, keras.KerasTensor) else each
        ),
        structure,
    )
