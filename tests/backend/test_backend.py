"""What every backend offers: gradients that come with other outputs."""

import ast
import pathlib
import re

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import backend
from tests import arrays

FOLDER = pathlib.Path(backend.__file__).parent


@pytest.mark.parametrize(
    "path", ["tensorflow.py", "jax/__init__.py", "torch.py"]
)
def test_each_backend_offers_all_names_of_the_contract(path):
    source = (FOLDER / "__init__.py").read_text("utf-8")
    names = set(re.findall(r"_own\.(\w+)", source))
    assert {"TrainStep", "update_weights", "pool"} < names
    offered = set()
    for node in ast.parse((FOLDER / path).read_text("utf-8")).body:
        offered.add(getattr(node, "name", None))
        if isinstance(node, ast.ImportFrom):
            offered |= {alias.asname for alias in node.names}
        if isinstance(node, ast.Assign):
            offered |= {target.id for target in node.targets}
    assert not names - offered


def test_gradient_value_and_outputs_of_one_evaluation():
    calls = []

    def function(x):
        calls.append(x.shape)
        outputs = {"double": 2.0 * x, "few": (ops.sum(x, axis=1),)}
        return ops.sum(x**3, axis=1), outputs

    x = ops.convert_to_tensor([[1.0, 2.0], [3.0, -1.0]])
    values, gradient, outputs = backend.value_gradient_and_outputs(function, x)
    assert calls == [(2, 2)]
    for received, expected in (
        (values, [9, 26]),
        (gradient, [[3, 12], [27, 3]]),
        (outputs["double"], [[2, 4], [6, -2]]),
        (outputs["few"][0], [3, 2]),
    ):
        arrays.close(received, expected)


def test_compiled_it_is_the_same():
    def values_of(x):
        return backend.value_gradient_and_outputs(
            lambda x: (ops.sum(x * x, axis=1), x + 1.0), x
        )

    x = np.array([[1.0, -2.0]], "float32")
    received = backend.compile_function(values_of, [])(ops.convert_to_tensor(x))
    for each, expected in zip(received, ([5], 2 * x, x + 1), strict=True):
        arrays.close(each, expected)


def test_outputs_are_ready_for_numpy_where_gradients_are_recorded():
    # PyTorch refuses to convert what still carries a gradient.
    if keras.config.backend() != "torch":
        pytest.skip("only PyTorch's tensors remember their gradients")
    x = ops.convert_to_tensor([[1.0, 2.0]])
    results = backend.value_gradient_and_outputs(
        lambda x: (ops.sum(x * x, axis=1), {"x": 3.0 * x}), x
    )
    for each in keras.tree.flatten(results):
        assert not each.requires_grad


def test_a_function_that_does_not_depend_on_the_images():
    x = ops.convert_to_tensor([[1.0, 2.0]])

    def constant(x):
        return ops.sum(ops.stop_gradient(x), axis=1), ()

    if keras.config.backend() == "jax":
        # JAX calls it zero.
        gradient = backend.value_gradient_and_outputs(constant, x)[1]
        arrays.equal(gradient, [[0, 0]])
    else:
        with pytest.raises(ValueError, match="No gradient reaches the images"):
            backend.value_gradient_and_outputs(constant, x)
