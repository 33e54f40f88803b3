"""The calls of a functional model, in an order in which they can be made.

    graph = Graph(model)
    first, second = graph.plan(["exit_1", "exit_2"])   # what each exit adds
    values = graph.run(first, {graph.input: images})
    logits = values[graph.outputs["exit_1"]]

Only what Keras documents is used: the configuration of the model, which lists
the calls, and its operations.
"""

from typing import Any
from typing import NamedTuple

import keras
import numpy as np


class Tensor(NamedTuple):
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
        return self[:2]


class Arguments(NamedTuple):
    """What a call takes; tensors stand as their names.

    Attributes:
        positional: list.
        named: dict.
    """

    positional: Any
    named: Any


class Graph:
    """The calls of a functional model, as its configuration lists them.

    A call is named by the layer's name and its number among the calls of
    this layer.

    Args:
        model: a `MultiExitModel`.

    Attributes:
        input: the `Tensor` of the images.
        outputs: dict from the name of each exit to the `Tensor` of its
            logits.

    Raises:
        NotImplementedError: if a layer cannot tell its configuration, or an
            argument cannot be read from it.
    """

    def __init__(self, model):
        outputs = [
            model.exit_model(name).outputs[0] for name in model.exit_names
        ]
        plain = keras.Model(model.input, outputs)
        config = plain.get_config()
        self._operations = {each.name: each for each in plain.operations}
        self._arguments = {
            (entry["name"], number): _arguments_of(entry["name"], node)
            for entry in config["layers"]
            for number, node in enumerate(entry["inbound_nodes"])
        }
        (self.input,) = _histories(config["input_layers"])
        self.outputs = dict(
            zip(
                model.exit_names,
                _histories(config["output_layers"]),
                strict=True,
            )
        )

    def operation(self, call):
        """Return the layer, or other operation, of a call."""
        return self._operations[call[0]]

    def arguments(self, call):
        """Return the `Arguments` of a call."""
        return self._arguments[call]

    def tensors_into(self, call):
        """Return the tensors that a call takes, as a list."""
        return _tensors(self._arguments.get(call, ()))

    def plan(self, exit_names):
        """Return the calls of each exit that no exit before it needs.

        Args:
            exit_names: names of the exits in depth order.

        Returns:
            List of lists; each call comes after those whose results it takes.
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

    def run(self, calls, inputs):
        """Make calls on other tensors.

        Args:
            calls: calls, each after those whose results it takes.
            inputs: dict from `Tensor` to tensors or Keras tensors.

        Returns:
            Dict of the inputs and all results.
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
    """Put tensors in the place of their names.

    Args:
        arguments: `Arguments`, or a part of them.
        values: dict from `Tensor` to tensors.
    """
    if isinstance(arguments, Tensor):
        return values[arguments]
    if isinstance(arguments, Arguments):
        return Arguments(*(fill(each, values) for each in arguments))
    if isinstance(arguments, dict):
        return {name: fill(each, values) for name, each in arguments.items()}
    if isinstance(arguments, (list, tuple)):
        return type(arguments)(fill(each, values) for each in arguments)
    return arguments


def _arguments_of(name, node):
    try:
        return Arguments(_read(node["args"]), _read(node["kwargs"]))
    except Exception as error:  # Whatever a class of theirs raises.
        raise NotImplementedError(
            f"The arguments of {name!r} cannot be read from the configuration "
            f"of the model: {error}"
        ) from error


def _read(serialised):
    """Return serialised arguments with names of tensors, and all else read."""
    if isinstance(serialised, dict):
        if serialised.get("class_name") == "__keras_tensor__":
            return Tensor(*serialised["config"]["keras_history"])
        if serialised.get("class_name") == "__tensor__":
            # Not as a tensor: one made while a step is traced belongs to it.
            config = serialised["config"]
            return np.array(config["value"], config["dtype"])
        if "class_name" in serialised:
            return keras.saving.deserialize_keras_object(serialised)
        return {name: _read(each) for name, each in serialised.items()}
    if isinstance(serialised, (list, tuple)):
        return type(serialised)(_read(each) for each in serialised)
    return serialised


def _tensors(arguments):
    """Return the names of tensors among arguments."""
    if isinstance(arguments, Tensor):
        return [arguments]
    if isinstance(arguments, dict):
        arguments = list(arguments.values())
    if isinstance(arguments, (list, tuple)):
        return [found for each in arguments for found in _tensors(each)]
    return []


def _histories(listed):
    """Return the tensors in a list of them, or in a single one."""
    if listed and isinstance(listed[0], str):
        listed = [listed]
    return [Tensor(*each) for each in listed]
