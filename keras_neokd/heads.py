"""What an exit ends in: logits, or a softmax that must not be there."""

import warnings

import keras

_SQUASHING = ("softmax", "log_softmax", "logsoftmax", "sigmoid")
# They hand on what they are given.
_TRANSPARENT = ("identity", "flatten", "reshape", "cast", "squeeze")


def check_logits(name, model):
    """See that an exit does not end in a softmax or the like.

    Args:
        name: name of the exit.
        model: functional model of this exit alone.

    Raises:
        ValueError: if it does.

    Warns:
        UserWarning: if it ends in a model of which some outputs do.
    """
    heads = _heads(model)
    squashing = [head for head in heads if _squashes(head)]
    if not squashing:
        return
    head = squashing[0]
    message = (
        f"Exit {name!r} ends in {_activation(head) or _kind(head)}, and exits "
        "need logits: losses and attacks apply the softmax themselves, and "
        f"through a second one gradients vanish. Build {head.name!r} without "
        "the activation."
    )
    if len(squashing) == len(heads):
        raise ValueError(message)
    warnings.warn(
        f"{message} (It belongs to an output of a nested model, and may be "
        "another one than the exit's.)",
        stacklevel=4,
    )


def squashing(model):
    """Return what squashes a model's output: a name such as softmax, or "".

    Args:
        model: functional model of one output.
    """
    for head in _heads(model):
        if _squashes(head):
            return _activation(head) or _kind(head)
    return ""


def last_dense(name, model):
    """Return the dense layer that makes the logits of an exit.

    Args:
        name: name of the exit.
        model: functional model of this exit alone.

    Raises:
        ValueError: if the exit does not end in one.
    """
    heads = _heads(model)
    if len(heads) != 1 or not isinstance(heads[0], keras.layers.Dense):
        raise ValueError(
            f"Exit {name!r} does not end in a keras.layers.Dense: its last "
            f"operations are {[head.name for head in heads]}."
        )
    return heads[0]


def _heads(model):
    """Return the operations that decide what the outputs may mean."""
    is_sequential = isinstance(model, keras.Sequential)
    # A subclassed model has no graph to look into.
    names = "layers" if is_sequential else "operations"
    for operation in reversed(getattr(model, names, ())):
        if isinstance(operation, keras.Model):
            return _heads_of_nested(operation)
        if not _is_transparent(operation):
            return [operation]
    return []


def _heads_of_nested(model):
    outputs = keras.tree.flatten(getattr(model, "outputs", None) or ())
    if len(outputs) < 2:
        return _heads(model)
    return [
        head
        for output in outputs
        for head in _heads(keras.Model(model.inputs, output))
    ]


def _squashes(operation):
    return bool({_activation(operation), _kind(operation)} & {*_SQUASHING})


def _is_transparent(operation):
    if _kind(operation) == "activation":
        return _activation(operation) == "linear"
    return _kind(operation) in _TRANSPARENT


def _activation(operation):
    return getattr(getattr(operation, "activation", None), "__name__", "")


def _kind(operation):
    return type(operation).__name__.lower()
