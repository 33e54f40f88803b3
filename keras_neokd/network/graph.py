"""Order the calls of a functional model, and make them.

graph = Graph(model.inputs, {"exit_1": early, "exit_2": late})
first, second = graph.plan(["exit_1", "exit_2"])   # what each exit adds
values = graph.run(first, {graph.inputs[0]: images})
logits = values[graph.outputs["exit_1"]]
"""

import collections

import keras

from keras_neokd.network.recording import Arguments
from keras_neokd.network.recording import Recording
from keras_neokd.network.recording import Tensor

# No other dimension is likely to have this size, and many numbers divide it.
# PyTorch makes such a batch for real where a layer works on tensors of its own.
_BATCH = 840


class Graph:
    """Calls `(layer, number)` between inputs and outputs of a model.

    Args:
        inputs: list of Keras tensors.
        outputs: dict from names, such as those of exits, to Keras tensors.

    Attributes:
        inputs: list of `Tensor`, one per input.
        outputs: dict from the same names to `Tensor`.
    """

    def __init__(self, inputs, outputs):
        model = keras.Model(list(inputs), list(outputs.values()))
        try:
            recording = Recording(model, _BATCH)
            self._batch = recording.shapes[recording.inputs[0]][0]
        except Exception:  # Whatever a layer made for one batch size raises.
            recording, self._batch = Recording(model), -1
        self._operations = recording.operations
        self._arguments = recording.arguments
        self._shapes = recording.shapes
        self.inputs = recording.inputs
        self.outputs = dict(zip(outputs, recording.outputs, strict=True))

    def operation(self, call):
        """Return the layer, or other operation, of a call."""
        return self._operations[call[0]]

    def arguments(self, call):
        """Return the `Arguments` of a call."""
        return self._arguments[call]

    def tensors_into(self, call):
        """Return the tensors that a call takes, as a list."""
        return _tensors(self._arguments[call])

    def plan(self, exit_names):
        """Return a list per exit: the calls that no exit before it needs.

        Each call comes after those whose results it takes.

        Args:
            exit_names: names of the exits in depth order.
        """
        seen, plan = set(), []
        for name in exit_names:
            calls = []
            # A stack of its own: networks are deeper than Python's.
            stack = [(self.outputs[name].call, False)]
            while stack:
                call, is_ready = stack.pop()
                if is_ready:
                    calls.append(call)
                elif call not in seen and call in self._arguments:
                    seen.add(call)
                    stack.append((call, True))
                    stack += [
                        (each.call, False) for each in self.tensors_into(call)
                    ]
            plan.append(calls)
        return plan

    def count(self, name):
        """Count the calls of an output, those of nested models one by one."""
        (calls,) = self.plan([name])
        results = collections.defaultdict(list)
        for each in {self.outputs[name]}.union(*map(self.tensors_into, calls)):
            results[each.call].append(each.result)
        return sum(
            _count(self.operation(call), results[call]) for call in calls
        )

    def input_shapes(self, call):
        """Return the shapes of the tensors that a call takes, batch `None`."""
        shapes = [self._shapes[each] for each in self.tensors_into(call)]
        return tuple((None, *shape[1:]) if shape else () for shape in shapes)

    def check_rows(self, tensors=None):
        """Check that a batch can be divided: each row belongs to one image.

        Args:
            tensors: iterable of `Tensor`. Defaults to all.

        Raises:
            NotImplementedError: if a tensor has other rows than the batch, or
                a layer makes a mask, which calls hand on beside their tensors.
        """
        for tensor in self._shapes if tensors is None else tensors:
            if self._shapes[tensor][:1] != (self._batch,):
                raise NotImplementedError(
                    f"The result of {tensor.layer!r} needs one row per image "
                    "of the batch to be divided between exits, and does not "
                    "have it."
                )
        for name, operation in self._operations.items():
            if _makes_mask(operation):
                raise NotImplementedError(
                    f"{name!r} makes a Keras mask, and a mask is lost where a "
                    "batch is divided between exits."
                )

    def run(self, calls, inputs):
        """Make calls on other tensors; return a dict of these and all results.

        Args:
            calls: calls, each after those whose results it takes.
            inputs: dict from `Tensor` to tensors or Keras tensors.
        """
        values = dict(inputs)
        for call in calls:
            arguments = fill(self._arguments[call], values)
            results = self.operation(call)(
                *arguments.positional, **arguments.named
            )
            values.update(named_results(call, results))
        return values


def named_results(call, results):
    """Return what a call gave as a dict from `Tensor` to tensors."""
    return {
        Tensor(*call, number): result
        for number, result in enumerate(keras.tree.flatten(results))
    }


def fill(arguments, values):
    """Put tensors, `values`, in the place of their names in `Arguments`."""
    # `keras.tree.map_structure` takes five times as long, for every layer in
    # every step of an attack under PyTorch.
    if isinstance(arguments, Tensor):
        return values[arguments]
    if isinstance(arguments, Arguments):
        return Arguments(*(fill(each, values) for each in arguments))
    if isinstance(arguments, dict):
        return {name: fill(each, values) for name, each in arguments.items()}
    if isinstance(arguments, (list, tuple)):
        return type(arguments)(fill(each, values) for each in arguments)
    return arguments


def _tensors(arguments):
    leaves = keras.tree.flatten(arguments)
    return [each for each in leaves if isinstance(each, Tensor)]


def _count(operation, results=None):
    outputs = getattr(operation, "outputs", None)
    if not isinstance(operation, keras.Model) or not outputs:
        return 1
    if results and len(results) < len(outputs):
        wanted = [outputs[each] for each in results]
        operation = keras.Model(operation.inputs, wanted)
    return sum(
        _count(each)
        for each in getattr(operation, "operations", operation.layers)
        if not isinstance(each, keras.layers.InputLayer)
    )


def _makes_mask(operation):
    if isinstance(operation, keras.Model):
        return any(map(_makes_mask, operation.layers))
    if not isinstance(operation, keras.Layer):
        return False
    try:
        # Layers within a subclassed model have no input to ask for.
        mask = operation.compute_mask(getattr(operation, "input", None), None)
    except Exception:  # Whatever a class of theirs raises.
        return True
    return any(each is not None for each in keras.tree.flatten(mask))
