"""A multi-exit model cut into stages: one from each exit to the next.

    first, second, third = build_stages(model)
    logits, *carried = first([images])
    logits, *carried = second(carried)
    logits = third(carried)

Stage `i` computes what exit `i` needs beyond the exits before it, from the
tensors that earlier stages hand on. All stages together compute what the model
computes, once.
"""

import keras


def build_stages(model):
    """Return one functional model per exit; layers are shared.

    Args:
        model: a `MultiExitModel`.

    Returns:
        List of `keras.Model`s. Each takes a list of tensors: the first the
        images, any other what the stage before it handed on. Each returns a
        list: the logits of its exit, and then the tensors to hand on; where
        there are none, Keras returns the logits alone.
    """
    graph = _Graph(model)
    plan = graph.plan(model.exit_names)
    known, stages = graph.inputs, []
    for index, (name, calls) in enumerate(
        zip(model.exit_names, plan, strict=True)
    ):
        inputs = {
            tensor: keras.Input(value.shape[1:], dtype=value.dtype)
            for tensor, value in known.items()
        }
        values = graph.run(calls, inputs)
        needed = {graph.outputs[each] for each in model.exit_names[index + 1 :]}
        for later in plan[index + 1 :]:
            needed.update(*map(graph.tensors_into, later))
        known = {each: values[each] for each in sorted(values.keys() & needed)}
        stages.append(
            keras.Model(
                list(inputs.values()),
                [values[graph.outputs[name]], *known.values()],
                name=f"{model.name}_stage_{index + 1}",
            )
        )
    return stages


class _Graph:
    """The calls of a functional model, as its configuration lists them.

    A call is named by the layer's name and its number among the calls of
    this layer, a tensor by its call and its number among the outputs.
    """

    def __init__(self, model):
        outputs = [
            model.exit_model(name).outputs[0] for name in model.exit_names
        ]
        plain = keras.Model(model.input, outputs)
        config = plain.get_config()
        self._operations = {each.name: each for each in plain.operations}
        self._arguments = {
            (entry["name"], number): (node["args"], node["kwargs"])
            for entry in config["layers"]
            for number, node in enumerate(entry["inbound_nodes"])
        }
        (entry,) = _histories(config["input_layers"])
        self.inputs = {entry: model.input}
        self.outputs = dict(
            zip(
                model.exit_names,
                _histories(config["output_layers"]),
                strict=True,
            )
        )

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
            stack = [(self.outputs[name][:2], False)]
            while stack:
                call, is_ready = stack.pop()
                if is_ready:
                    calls.append(call)
                elif call not in seen and call in self._arguments:
                    seen.add(call)
                    stack.append((call, True))
                    stack += [
                        (each[:2], False) for each in self.tensors_into(call)
                    ]
            plan.append(calls)
        return plan

    def run(self, calls, inputs):
        """Repeat calls on other tensors.

        Args:
            calls: calls, each after those whose results it takes.
            inputs: dict from tensors to Keras tensors.

        Returns:
            Dict of the inputs and all results.
        """
        values = dict(inputs)
        for call in calls:
            arguments, named = _replace(self._arguments[call], values)
            results = self._operations[call[0]](*arguments, **named)
            for number, result in enumerate(keras.tree.flatten(results)):
                values[(*call, number)] = result
        return values


def _tensors(arguments):
    """Return the tensors among serialised arguments."""
    if isinstance(arguments, dict):
        if arguments.get("class_name") == "__keras_tensor__":
            return [tuple(arguments["config"]["keras_history"])]
        arguments = list(arguments.values())
    if isinstance(arguments, (list, tuple)):
        return [found for each in arguments for found in _tensors(each)]
    return []


def _replace(arguments, values):
    """Return arguments with values for tensors, and all else deserialised."""
    if isinstance(arguments, dict):
        if arguments.get("class_name") == "__keras_tensor__":
            return values[tuple(arguments["config"]["keras_history"])]
        if "class_name" in arguments:
            return keras.saving.deserialize_keras_object(arguments)
        return {
            name: _replace(each, values) for name, each in arguments.items()
        }
    if isinstance(arguments, (list, tuple)):
        return type(arguments)(_replace(each, values) for each in arguments)
    return arguments


def _histories(listed):
    """Return the tensors in a list of them, or in a single one."""
    if listed and isinstance(listed[0], str):
        listed = [listed]
    return [tuple(each) for each in listed]
