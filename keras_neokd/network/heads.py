"""Find the operation that an exit ends in, and refuse a softmax."""

import keras

from keras_neokd.network.graph import Graph

_SQUASHING = ("softmax", "log_softmax", "logsoftmax", "sigmoid")
# They hand on what they are given.
_TRANSPARENT = ("identity", "flatten", "reshape", "cast", "squeeze")


def check_logits(name, graph):
    """Raise `ValueError` if an exit ends in a softmax or the like.

    Args:
        name: name of the exit.
        graph: `Graph` of the model, with the exit among its outputs.
    """
    head = _head(graph, name)
    if _squashing(head):
        raise ValueError(
            f"Exit {name!r} ends in {_squashing(head)}, and exits need logits: "
            "losses and attacks apply the softmax themselves, and through a "
            f"second one gradients vanish. Build {head.name!r} without the "
            "activation."
        )


def squashing(model):
    """Return the name, or "", of what squashes the output of a model."""
    return _squashing(_head(Graph(model.inputs, {"": model.outputs[0]}), ""))


def last_dense(name, graph):
    """Return the dense layer that an exit ends in, or raise `ValueError`.

    Args:
        name, graph: as in `check_logits`.
    """
    head = _head(graph, name)
    if not isinstance(head, keras.layers.Dense):
        last = getattr(head, "name", "none")
        raise ValueError(
            f"Exit {name!r} does not end in a keras.layers.Dense: its last "
            f"operation is {last!r}."
        )
    return head


def _head(graph, name):
    """Return the operation that decides what an output may mean, or `None`."""
    head = _follow(graph, graph.outputs[name])
    return head if isinstance(head, keras.Operation) else None


def _follow(graph, tensor):
    """Go back from a tensor to such an operation, or to an input."""
    while tensor not in graph.inputs:
        operation = graph.operation(tensor.call)
        sources = graph.tensors_into(tensor.call)
        # A subclassed model has no graph to look into.
        outputs = getattr(operation, "outputs", None)
        if isinstance(operation, keras.Model) and outputs:
            nested = Graph(operation.inputs, {"": outputs[tensor.result]})
            found = _follow(nested, nested.outputs[""])
            if isinstance(found, keras.Operation):
                return found
            # The nested model hands on what it is given.
            tensor = sources[nested.inputs.index(found)]
        elif _is_transparent(operation):
            tensor = sources[0]
        else:
            return operation
    return tensor


def _squashing(operation):
    name = _activation(operation) or _kind(operation)
    squashes = {name, _kind(operation)} & {*_SQUASHING}
    return name if squashes else ""


def _is_transparent(operation):
    if _kind(operation) == "activation":
        return _activation(operation) == "linear"
    return _kind(operation) in _TRANSPARENT


def _activation(operation):
    return getattr(getattr(operation, "activation", None), "__name__", "")


def _kind(operation):
    return type(operation).__name__.lower()
