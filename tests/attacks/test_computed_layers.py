"""What an attack computes, counted in what the backend is given to run."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import backend

layers = keras.layers
NUM_STEPS = 3
# Convolutions that each exit needs, its own and those before; and all.
NEEDED, ALL = (2, 2, 4), 5


def network():
    """Return a model with convolutions between its exits and in its heads."""
    inputs = keras.Input((16, 16, 4))

    def convolution(x):
        return layers.Conv2D(4, 3, activation="relu")(x)

    def head(x):
        return layers.Dense(4)(layers.GlobalAveragePooling2D()(x))

    x = convolution(inputs)
    first = head(convolution(x))
    x = convolution(x)
    second = head(x)
    third = head(convolution(convolution(x)))
    return MultiExitModel(inputs, [first, second, third])


def count_tensorflow(craft):
    import tensorflow as tf

    graph = tf.function(craft).get_concrete_function().graph.as_graph_def()
    nodes = list(graph.node)
    for function in graph.library.function:
        nodes += function.node_def
    names = [node.op for node in nodes]
    return names.count("Conv2D"), names.count("Conv2DBackpropInput")


def count_jax(craft):
    import jax

    found = []

    def search(value):
        for each in value if isinstance(value, (tuple, list)) else [value]:
            jaxpr = getattr(each, "jaxpr", each)
            for equation in getattr(jaxpr, "eqns", ()):
                if equation.primitive.name == "conv_general_dilated":
                    found.append(equation)
                search(list(equation.params.values()))

    search(jax.make_jaxpr(craft)())
    return len(found)


def count_torch(craft):
    from torch.utils import _python_dispatch

    names = []

    class Recorder(_python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            names.append(function.name())
            return function(*args, **(kwargs or {}))

    with Recorder():
        craft()
    forward = names.count("aten::convolution")
    return forward, names.count("aten::convolution_backward")


def counted(attack):
    """Return numbers of convolutions, forward and backward (JAX: the sum)."""
    model = network()
    generator = np.random.default_rng(0)
    images = generator.random((4, 16, 16, 4), "float32")
    labels, keys = np.arange(4, dtype="int32"), np.arange(4, dtype="int32")

    def craft():
        arrays = map(ops.convert_to_tensor, (images, labels, keys))
        return attack.generate(model.exit_logits(), *arrays)[0]

    count = {
        "tensorflow": count_tensorflow,
        "jax": count_jax,
        "torch": count_torch,
    }
    return count[keras.config.backend()](craft)


def expected(forward, backward, to_choose=0):
    """Return what `counted` returns: a loop's body is compiled once."""
    if keras.config.backend() == "jax":
        return forward + backward + to_choose
    repeated = NUM_STEPS if keras.config.backend() == "torch" else 1
    return repeated * forward + to_choose, repeated * backward


@pytest.mark.parametrize("index", range(3))
def test_an_attack_on_an_exit_computes_its_layers_only(index):
    attack = attacks.PGD(0.1, 0.05, NUM_STEPS)
    attack = attack.with_objective(attacks.SingleExit(index))
    needed = NEEDED[index]
    assert counted(attack) == expected(needed, needed)


@pytest.mark.parametrize("has_accelerator", [False, True])
def test_max_average_computes_the_layers_of_each_exit(
    has_accelerator, monkeypatch
):
    monkeypatch.setattr(backend, "has_accelerator", lambda: has_accelerator)
    attack = attacks.MaxAverage(attacks.PGD(0.1, 0.05, NUM_STEPS))
    # Together, a layer runs once for all candidates that need it.
    needed = ALL if has_accelerator else sum(NEEDED)
    assert counted(attack) == expected(needed, needed, to_choose=ALL)
