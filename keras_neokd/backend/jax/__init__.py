"""JAX: stateless steps, the whole of each compiled by Keras' trainer."""

import functools
import itertools
import operator

import jax
import keras

from keras_neokd import randomness
from keras_neokd.backend import plain
from keras_neokd.backend.jax import cpu_convolution
from keras_neokd.backend.jax import cpu_pooling
from keras_neokd.backend.jax import devices
from keras_neokd.backend.jax.devices import gather_processes as gather_processes
from keras_neokd.backend.plain import convolution as convolution


def value_and_input_gradient(function, x):
    """Return per-example values and the gradient of their sum.

    Args:
        function: maps images `(batch, ...)` to values `(batch,)`.
        x: images.

    Returns:
        Tuple of values `(batch,)` and gradient of the shape of `x`.
    """
    return value_gradient_and_outputs(lambda x: (function(x), ()), x)[:2]


def value_gradient_and_outputs(function, x):
    """Return values, the gradient of their sum, and other outputs.

    Args:
        function: maps images `(batch, ...)` to a tuple: values `(batch,)`,
            and a structure of tensors to hand on.
        x: images.

    Returns:
        Tuple of values `(batch,)`, gradient of the shape of `x`, and the
        structure.
    """

    def total(images):
        values, outputs = function(images)
        return values.sum(), (values, outputs)

    (_, (values, outputs)), gradient = jax.value_and_grad(total, has_aux=True)(
        x
    )
    return values, gradient, outputs


def differentiable_input_gradient(function, x):
    """Return the gradient of per-example values, to be differentiated again.

    Args:
        function: maps images `(batch, ...)` to values `(batch,)`.
        x: images.

    Returns:
        Gradient of the sum of the values, of the shape of `x`. A loss made
        from it has a gradient with respect to the weights.
    """
    return jax.grad(lambda images: function(images).sum())(x)


def call_with_factors(function, x, factors):
    """Call a function whose gradient is computed at another scale.

    Args:
        function: maps `(batch, ...)` to a tuple of tensors `(batch, k)`.
        x: tensor `(batch, ...)`; nothing else gets a gradient.
        factors: function of the gradients of the outputs, a tuple; returns
            `(batch,)`, what to multiply them with on the way back. The
            gradient of `x` is divided by it again.

    Returns:
        The tuple.
    """

    @jax.custom_vjp
    def call(x):
        return function(x)

    def backward(pull_back, gradients):
        factor = factors(gradients)
        (gradient,) = pull_back(
            tuple(each * _as_column(factor, each) for each in gradients)
        )
        return (gradient / _as_column(factor, gradient),)

    call.defvjp(lambda x: jax.vjp(function, x), backward)
    return call(x)


def _as_column(factor, x):
    return factor.reshape((-1,) + (1,) * (x.ndim - 1))


def frozen_state(variables, noise=None):
    """Return a scope that discards every change of variables.

    Args:
        variables: all variables that code in the scope may read.
        noise: integer that numbers what random layers draw, or `None` for
            what they would draw next.
    """
    # Scopes do not inherit: a variable missing here would be read from the
    # storage that `fit` has given to the compiled function and emptied.
    values = [(variable, variable.value) for variable in variables]
    if noise is not None:
        values += randomness.moved_seeds(variables, noise)
    return keras.StatelessScope(values, initialize_variables=False)


def global_batch(local_size):
    """Return the offset of this replica's examples and the global size.

    Args:
        local_size: number of examples of the batch.

    Returns:
        `(0, local_size)`: a compiled step sees the global batch, also when
        a `keras.distribution` shards it over devices.
    """
    return 0, local_size


def gather_replicas(x):
    """Return the rows of all replicas; gradients flow back to each.

    Args:
        x: tensor `(batch, ...)` of this replica.

    Returns:
        `x`: a compiled step sees the global batch.
    """
    return x


def has_accelerator():
    """Whether computation runs on something else than processors."""
    return jax.default_backend() != "cpu"


def compile_function(function, variables):
    """Compile a function of tensors that reads `variables`.

    Args:
        function: function of tensors.
        variables: all variables it reads; it must not change any.
    """
    return _compile(function, variables)


def compile_per_example(function, variables):
    """Compile a function of examples; devices share each batch.

    Args:
        function: function of tensors with one row per example, or scalars;
            returns tensors with one row per example, none of which depends
            on other examples.
        variables: all variables it reads; it must not change any.
    """
    distribution = keras.distribution.distribution()
    if distribution is None:
        return _compile(function, variables)
    sharded, whole = devices.layouts(distribution)
    function = devices.sharing_rows(
        function, distribution.device_mesh.devices.size, sharded
    )
    # Whole results, so that every process can read them.
    return _compile(function, variables, out_shardings=whole)


def _compile(function, variables, **options):
    @functools.partial(jax.jit, **options)
    def stateless(values, *arguments):
        with _scope(variables, values):
            return function(*arguments)

    # Values travel as arguments; as constants of the compiled function they
    # would be those of the day it was compiled.
    return lambda *arguments: stateless(
        [variable.value for variable in variables], *arguments
    )


def _scope(variables, values, **options):
    return keras.StatelessScope(
        list(zip(variables, values, strict=True)),
        initialize_variables=False,
        **options,
    )


def convolve(images, kernel, bias, strides, padding, dilation, relu=False):
    """Convolve images with weights that need no gradient, and add a bias.

    Args:
        images: `(batch, height, width, channels)`.
        kernel: `(rows, columns, channels / groups, filters)`.
        bias: `(filters,)`.
        strides: pair of integers.
        padding: `"valid"`, `"same"`, or zeros to add as
            `((top, bottom), (left, right))`.
        dilation: pair of integers.
        relu: whether negative results become 0. Defaults to False.

    Returns:
        `(batch, new height, new width, filters)`.
    """
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
        outputs = cpu_convolution.convolve(images, kernel, strides, padding)
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
    """Pool images over windows, without padding.

    Args:
        images: `(batch, height, width, channels)`.
        size: rows and columns of a window.
        strides: pair of integers.
        mode: `"max"` or `"average"`.

    Returns:
        `(batch, new height, new width, channels)`.
    """
    can_be_fast = mode == "max" and tuple(size) == tuple(strides)
    if can_be_fast and not has_accelerator():
        return cpu_pooling.max_pool(images, tuple(size))
    return plain.pool(images, size, strides, mode)


def convolve_image(image, kernel):
    """Convolve one-channel images: stride 1, no padding.

    Args:
        image: `(batch, height, width, 1)`.
        kernel: `(rows, columns, 1, filters)`.

    Returns:
        `(batch, height - rows + 1, width - columns + 1, filters)`.
    """
    return keras.ops.conv(
        image, kernel, padding="valid", data_format="channels_last"
    )


class TrainStep:
    """Mixin: Keras' steps for this backend, from `training.Trainer`'s parts."""

    def train_step(self, state, data):
        """Craft, differentiate, update, log: one batch."""
        trainable, non_trainable, optimizer_state, metrics_state = state
        fixed = [*self.non_trainable_variables, *self.optimizer.variables]

        def scope(trainable, non_trainable):
            return _scope(
                [*self.trainable_variables, *fixed],
                [*trainable, *non_trainable, *optimizer_state],
                collect_losses=True,
            )

        def updated(current):
            return [
                current.get_current_value(variable)
                for variable in self.non_trainable_variables
            ]

        with scope(trainable, non_trainable) as current:
            batch = self._batch(data, self._train_index)
            adversarial, info = self._craft_for_training(batch)
        # The method may have changed its state before the attack.
        before = updated(current)

        def scaled_loss(trainable):
            with scope(trainable, before) as current:
                result = self._objective(batch, adversarial)
                loss = self.optimizer.scale_loss(result.loss)
            return loss, (result, updated(current))

        gradients, (result, non_trainable) = jax.grad(
            scaled_loss, has_aux=True
        )(trainable)
        trainable, optimizer_state = self.optimizer.stateless_apply(
            optimizer_state, gradients, trainable
        )
        logs, metrics_state = self._stateless_log(
            metrics_state, lambda: self._log_training(batch, result, info)
        )
        return logs, (
            trainable,
            non_trainable,
            optimizer_state,
            metrics_state,
        )

    def test_step(self, state, data):
        """Evaluate one batch, clean or under the validation attack."""
        trainable, non_trainable, metrics_state = state
        variables = [
            *self.trainable_variables,
            *self.non_trainable_variables,
            *self.metrics_variables,
        ]
        values = [*trainable, *non_trainable, *metrics_state]
        with _scope(variables, values, collect_losses=True) as current:
            logs = self._evaluate(self._batch(data, self._test_index))
        updated = [current.get_current_value(each) for each in variables]
        first, second = len(trainable), len(trainable) + len(non_trainable)
        return logs, (
            updated[:first],
            updated[first:second],
            updated[second:],
        )

    # Keras empties the variables while a loop holds their values, and leaves
    # them empty when an error, such as a bad batch, ends the loop. The three
    # functions below give them their values back.

    def make_train_function(self, force=False):
        """Make Keras' function that reads a batch and trains on it."""
        super().make_train_function(force)
        self.train_function = self._restoring(
            self.train_function,
            "trainable_variables",
            "non_trainable_variables",
            "optimizer.variables",
            "metrics_variables",
        )

    def make_test_function(self, force=False):
        """Make Keras' function that reads a batch and tests on it."""
        super().make_test_function(force)
        self.test_function = self._restoring(
            self.test_function,
            "trainable_variables",
            "non_trainable_variables",
            "metrics_variables",
        )

    def make_predict_function(self, force=False):
        """Make Keras' function that reads a batch and predicts."""
        super().make_predict_function(force)
        self.predict_function = self._restoring(
            self.predict_function,
            "trainable_variables",
            "non_trainable_variables",
        )

    def _restoring(self, function, *groups):
        if getattr(function, "restores", False):
            return function

        def restoring(state, iterator):
            try:
                # Read first: a step that has run has used its state up.
                batches = list(
                    itertools.islice(iterator, self.steps_per_execution)
                )
                if not batches:
                    raise StopIteration
                return function(state, iter(batches))
            except Exception:
                # Keras' own copy may be of an earlier loop; have it written
                # back first, so that it cannot overwrite ours later.
                self.jax_state_sync()
                for group, values in zip(groups, state, strict=True):
                    variables = operator.attrgetter(group)(self)
                    for variable, value in zip(variables, values, strict=True):
                        if not value.is_deleted():
                            variable.assign(value)
                raise

        restoring.restores = True
        return restoring

    def _stateless_log(self, metrics_state, log):
        with _scope(self.metrics_variables, metrics_state) as current:
            logs = log()
        return logs, [
            current.get_current_value(variable)
            for variable in self.metrics_variables
        ]
