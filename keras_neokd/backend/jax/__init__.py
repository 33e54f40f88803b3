"""JAX: stateless steps, the whole of each compiled by Keras' trainer."""

import functools
import itertools
from typing import Any

import jax
import keras
import numpy as np

from keras_neokd.backend import plain
from keras_neokd.backend.jax import devices
from keras_neokd.backend.jax.devices import gather_processes as gather_processes
from keras_neokd.backend.kernels import jax_convolution
from keras_neokd.backend.kernels import jax_pooling
from keras_neokd.backend.plain import as_column
from keras_neokd.backend.plain import batch_norm as batch_norm
from keras_neokd.backend.plain import compiles_shapes as compiles_shapes
from keras_neokd.backend.plain import convolution as convolution
from keras_neokd.backend.plain import gather_replicas as gather_replicas
from keras_neokd.backend.plain import global_batch as global_batch
from keras_neokd.base import randomness
from keras_neokd.base.typing import Mixin


class TrainStep(Mixin):
    train_function: Any
    test_function: Any
    predict_function: Any

    def train_step(self, state: Any, data: Any) -> Any:
        """Train on one batch; called by Keras."""
        step = functools.partial(self.training_step.run, data)
        return _with_values(step, _training_groups(self), state)

    def test_step(self, state: Any, data: Any) -> Any:
        """Evaluate one batch; called by Keras."""
        step = functools.partial(self.testing_step.run, data)
        return _with_values(step, _testing_groups(self), state)

    # Keras makes functions that read a batch and take a step.

    def make_train_function(self, force: bool = False) -> Any:
        """See `keras.Model`; an error leaves the variables their values."""
        super().make_train_function(force)
        self.train_function = _restoring(
            self, self.train_function, _training_groups
        )

    def make_test_function(self, force: bool = False) -> Any:
        """See `make_train_function`."""
        super().make_test_function(force)
        self.test_function = _restoring(
            self, self.test_function, _testing_groups
        )

    def make_predict_function(self, force: bool = False) -> Any:
        """See `make_train_function`."""
        super().make_predict_function(force)
        self.predict_function = _restoring(
            self, self.predict_function, _predicting_groups
        )


# Variables in the order in which Keras hands their values over.


def _training_groups(model):
    *groups, metrics = _testing_groups(model)
    return [*groups, model.optimizer.variables, metrics]


def _testing_groups(model):
    return [*_predicting_groups(model), model.metrics_variables]


def _predicting_groups(model):
    return [model.trainable_variables, model.non_trainable_variables]


def _with_values(step, groups, state):
    """Run a step on values of variables; return its logs and their new ones."""
    scope = _scope(
        itertools.chain(*groups), itertools.chain(*state), collect_losses=True
    )
    with scope:
        logs = step()
    return logs, tuple(_values(group, scope) for group in groups)


def _scope(variables, values, **options):
    return keras.StatelessScope(
        list(zip(variables, values, strict=True)),
        initialize_variables=False,
        **options,
    )


def _values(variables, scope):
    return [scope.get_current_value(each) for each in variables]


def _restoring(model, function, groups_of):
    """Return Keras' function, which gives variables their values back.

    Keras empties the variables while a loop holds their values, and leaves
    them empty when an error, such as a bad batch, ends the loop.
    """
    if getattr(function, "restores", False):
        return function

    def restoring(state, iterator):
        try:
            # Read first: a step that has run has used its state up.
            batches = [*itertools.islice(iterator, model.steps_per_execution)]
            if not batches:
                raise StopIteration
            return function(state, iter(batches))
        except Exception:
            # Keras' own copy may be of an earlier loop; have it written
            # back first, so that it cannot overwrite ours later.
            model.jax_state_sync()
            for variable, value in zip(
                itertools.chain(*groups_of(model)),
                itertools.chain(*state),
                strict=True,
            ):
                if not value.is_deleted():
                    variable.assign(value)
            raise

    restoring.restores = True
    return restoring


def update_weights(model, loss):
    weights, others = model.trainable_variables, model.non_trainable_variables
    optimizer = model.optimizer
    # Within Keras' step, these are values of that step.
    weight_values, other_values, optimizer_values = (
        [each.value for each in variables]
        for variables in (weights, others, optimizer.variables)
    )

    def scaled_loss(weight_values):
        scope = _scope(
            [*weights, *others, *optimizer.variables],
            [*weight_values, *other_values, *optimizer_values],
            collect_losses=True,
        )
        with scope:
            result = loss()
            scaled = optimizer.scale_loss(result.loss)
        return scaled, (result, _values(others, scope))

    gradients, (result, other_values) = jax.grad(scaled_loss, has_aux=True)(
        weight_values
    )
    weight_values, optimizer_values = optimizer.stateless_apply(
        optimizer_values, gradients, weight_values
    )
    for variable, value in zip(
        [*weights, *others, *optimizer.variables],
        [*weight_values, *other_values, *optimizer_values],
        strict=True,
    ):
        variable.assign(value)
    return result


def value_gradient_and_outputs(function, x):
    def total(images):
        values, outputs = function(images)
        return values.sum(), (values, outputs)

    (_, (values, outputs)), gradient = jax.value_and_grad(total, has_aux=True)(
        x
    )
    return values, gradient, outputs


def differentiable_input_gradient(function, x):
    return jax.grad(lambda images: function(images).sum())(x)


def call_with_factors(function, x, factors):
    @jax.custom_vjp
    def call(x):
        return function(x)

    def backward(pull_back, gradients):
        factor = factors(gradients)
        (gradient,) = pull_back(
            tuple(each * as_column(factor, each) for each in gradients)
        )
        return (gradient / as_column(factor, gradient),)

    call.defvjp(lambda x: jax.vjp(function, x), backward)
    return call(x)


def frozen_state(variables, noise=None):
    # Scopes do not inherit: a variable missing here would be read from the
    # storage that `fit` has given to the compiled function and emptied.
    values = [(variable, variable.value) for variable in variables]
    if noise is not None:
        values += randomness.moved_seeds(variables, noise)
    return keras.StatelessScope(values, initialize_variables=False)


def has_accelerator():
    return jax.default_backend() != "cpu"


def convolves_16_bits():
    # XLA's for processors take five times as long as those in float32.
    return has_accelerator()


def placement():
    return keras.distribution.distribution()


def compile_function(function, variables, **options):
    @functools.partial(jax.jit, **options)
    def stateless(values, *arguments):
        with _scope(variables, values):
            return function(*arguments)

    # Values travel as arguments; as constants of the compiled function they
    # would be those of the day it was compiled.
    return lambda *arguments: stateless(
        [variable.value for variable in variables], *arguments
    )


def call_in_numpy(function, x, shape):
    def call(x):
        return function(np.asarray(x))

    return jax.pure_callback(call, jax.ShapeDtypeStruct(shape, "float32"), x)


def compile_per_example(function, variables):
    distribution = keras.distribution.distribution()
    if distribution is None:
        return compile_function(function, variables)
    sharded, whole = devices.layouts(distribution)
    function = devices.sharing_rows(
        function, distribution.device_mesh.devices.size, sharded
    )
    # Whole results, so that every process can read them.
    return compile_function(function, variables, out_shardings=whole)


def convolve(images, kernel, bias, strides, padding, dilation, relu=False):
    if isinstance(padding, str):
        padding = jax.lax.padtype_to_pads(
            images.shape[1:3],
            _dilated(kernel.shape[:2], dilation),
            strides,
            padding.upper(),
        )
    groups = images.shape[-1] // kernel.shape[2]
    if not has_accelerator() and groups == 1 and dilation == (1, 1):
        padding = tuple(tuple(each) for each in padding)
        outputs = jax_convolution.convolve(images, kernel, strides, padding)
    else:
        outputs = jax.lax.conv_general_dilated(
            images,
            kernel,
            strides,
            padding,
            rhs_dilation=dilation,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=groups,
        )
    outputs = outputs + bias
    return jax.nn.relu(outputs) if relu else outputs


def _dilated(taps, dilation):
    return [(n - 1) * d + 1 for n, d in zip(taps, dilation, strict=True)]


def pool(images, size, strides, mode):
    can_be_fast = mode == "max" and tuple(size) == tuple(strides)
    if can_be_fast and not has_accelerator():
        return jax_pooling.max_pool(images, tuple(size))
    return plain.pool(images, size, strides, mode)
