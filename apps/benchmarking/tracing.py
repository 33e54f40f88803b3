"""How many operations a backend traces for one training step.

If the number does not depend on the length of the attack, neither does the
time to trace and compile it.
"""

import sys


def count_operations(backend, model, x, y):
    """Count the operations that a backend traces for a training step.

    Under TensorFlow and JAX the step is traced but neither compiled nor
    taken, and the model is of no use afterwards.

    Args:
        backend: `"tensorflow"`, `"jax"` or `"torch"`, Keras' backend.
        model: compiled model.
        x: batch of images.
        y: labels.

    Returns:
        Number of graph nodes (TensorFlow), equations (JAX) or operations
        captured by torch.compile (PyTorch; 0 if it runs eagerly).
    """
    counters = {
        "tensorflow": _count_tensorflow_nodes,
        "jax": _count_jax_equations,
        "torch": _count_torch_operations,
    }
    return counters[backend](model, x, y)


class _Traced(Exception):
    """Ends a step that was to be traced only; `args[0]` is the count."""


def _trace(model, x, y, train_step):
    model.train_step = train_step
    try:
        model.train_on_batch(x, y)
    except _Traced as traced:
        return traced.args[0]
    raise RuntimeError("Keras did not trace the training step.")


def _count_tensorflow_nodes(model, x, y):
    """Count the nodes of the step's graph and of all functions in it."""
    import tensorflow as tf

    original = model.train_step

    def train_step(data):
        original(data)
        graph = tf.compat.v1.get_default_graph().as_graph_def()
        functions = graph.library.function
        raise _Traced(
            len(graph.node)
            + sum(len(function.node_def) for function in functions)
        )

    return _trace(model, x, y, train_step)


def _count_jax_equations(model, x, y):
    """Count the equations of the step's jaxpr, inner ones included."""
    import jax

    original = model.train_step

    def count(value):
        if isinstance(value, (tuple, list)):
            return sum(count(each) for each in value)
        value = getattr(value, "jaxpr", value)
        return sum(
            1 + count(list(equation.params.values()))
            for equation in getattr(value, "eqns", ())
        )

    def train_step(state, data):
        raise _Traced(count(jax.make_jaxpr(original)(state, data)))

    return _trace(model, x, y, train_step)


def _count_torch_operations(model, x, y):
    """Count the operations that torch.compile captured in a step."""
    model.train_on_batch(x, y)
    # Loaded only where something was compiled.
    dynamo = sys.modules.get("torch._dynamo.utils")
    if dynamo is None:
        return 0
    return dynamo.counters["stats"]["calls_captured"]
