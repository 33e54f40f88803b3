"""TensorFlow: GradientTape, compiled as a graph by Keras."""

import keras
import tensorflow as tf

from keras_neokd import randomness
from keras_neokd.backend.plain import convolution as convolution
from keras_neokd.backend.plain import pool as pool


def value_and_input_gradient(function, x):
    """Return per-example values and the gradient of their sum.

    Args:
        function: maps images `(batch, ...)` to values `(batch,)`.
        x: images.

    Returns:
        Tuple of values `(batch,)` and gradient of the shape of `x`.

    Raises:
        ValueError: if no gradient reaches the images.
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

    Raises:
        ValueError: if no gradient reaches the images.
    """
    values, gradient, outputs = _values_and_gradient(function, x)
    if gradient is None:
        raise ValueError(_NO_GRADIENT)
    return values, gradient, outputs


_NO_GRADIENT = (
    "No gradient reaches the images, so an attack would not move them and "
    "there is nothing to align. Look for rounding, casting to integers or "
    "stop_gradient in the model."
)


def _values_and_gradient(function, x):
    def compute(x):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            values, outputs = function(x)
        return values, tape.gradient(values, x), outputs

    if tf.executing_eagerly():
        return compute(x)
    # As a function of its own, not as part of a loop's body: TensorFlow's
    # oneDNN pass visits the nodes of a loop in an order that differs from run
    # to run, and leaves some gradients of poolings, up to a fifth of a
    # SmallCNN step, to a slow kernel.
    return tf.function(
        compute, autograph=False, experimental_attributes={"_noinline": True}
    )(x)


def differentiable_input_gradient(function, x):
    """Return the gradient of per-example values, to be differentiated again.

    Args:
        function: maps images `(batch, ...)` to values `(batch,)`.
        x: images.

    Returns:
        Gradient of the sum of the values, of the shape of `x`. A loss made
        from it has a gradient with respect to the weights.

    Raises:
        ValueError: if no gradient reaches the images.
    """
    # No function of its own here: the tape of the weights has to see through.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        values = function(x)
    gradient = tape.gradient(values, x)
    if gradient is None:
        raise ValueError(_NO_GRADIENT)
    return gradient


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

    @tf.custom_gradient
    def call(x):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            outputs = function(x)

        def backward(*gradients, variables=()):
            factor = factors(gradients)
            gradient = tape.gradient(
                outputs,
                x,
                [each * _as_column(factor, each) for each in gradients],
            )
            if gradient is None:
                raise ValueError(_NO_GRADIENT)
            gradient = gradient / _as_column(factor, gradient)
            return gradient, [None] * len(variables)

        return outputs, backward

    return call(x)


def _as_column(factor, x):
    return tf.reshape(factor, (-1,) + (1,) * (x.shape.rank - 1))


def frozen_state(variables, noise=None):
    """Return a scope that discards every change of variables.

    Args:
        variables: all variables that code in the scope may read.
        noise: integer that numbers what random layers draw, or `None` for
            what they would draw next.
    """
    # Unlike in JAX, variables that are not listed keep their own values.
    seeds = [] if noise is None else randomness.moved_seeds(variables, noise)
    return keras.StatelessScope(seeds, initialize_variables=False)


def global_batch(local_size):
    """Return the offset of this replica's examples and the global size.

    Args:
        local_size: number of examples on this replica.

    Returns:
        Tuple of integers or scalar tensors `(offset, global_size)`.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return 0, local_size
    tf.debugging.assert_positive(
        local_size,
        "The last batch is smaller than the number of replicas, which leaves "
        "a replica without images and its batch statistics NaN. Choose "
        "another batch size, or drop the remainder.",
    )
    replica = context.replica_id_in_sync_group
    own = tf.one_hot(replica, context.num_replicas_in_sync, dtype="int32")
    sizes = context.all_reduce(tf.distribute.ReduceOp.SUM, own * local_size)
    return tf.reduce_sum(sizes[:replica]), tf.reduce_sum(sizes)


def gather_replicas(x):
    """Return the rows of all replicas; gradients flow back to each.

    Args:
        x: tensor `(batch, ...)` of this replica.

    Returns:
        `(global batch, ...)`.
    """
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return x
    gathered = context.all_gather(x, axis=0)
    # It forgets the sizes of all axes.
    return tf.ensure_shape(gathered, (None, *x.shape[1:]))


def gather_processes(values):
    """Return what every process gives.

    Args:
        values: int32 array `(n,)` of this process.

    Returns:
        Array `(1, n)`: this backend trains in one process.
    """
    return values[None]


def has_accelerator():
    """Whether computation runs on something else than processors."""
    return len(tf.config.list_logical_devices()) > len(
        tf.config.list_logical_devices("CPU")
    )


def compile_function(function, variables):
    """Compile a function of tensors that reads `variables`.

    Args:
        function: function of tensors.
        variables: all variables it reads; it must not change any.
    """
    del variables  # A graph reads them when it runs.
    # A second size of batch is the last one that is traced.
    return tf.function(function, autograph=False, reduce_retracing=True)


def compile_per_example(function, variables):
    """Compile a function of examples; replicas share each batch.

    Args:
        function: function of tensors with one row per example, or scalars;
            returns tensors with one row per example, none of which depends
            on other examples.
        variables: all variables it reads; it must not change any.
    """
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return compile_function(function, variables)

    def shared(*arguments):
        count = tf.reduce_max(
            [
                tf.shape(each)[0]
                for each in tf.nest.flatten(arguments)
                if each.shape.rank
            ]
        )
        size = -(-count // replicas)

        def own(x):
            if not x.shape.rank:
                return x
            replica = tf.distribute.get_replica_context()
            first = size * replica.replica_id_in_sync_group
            # The last row fills up.
            return tf.gather(x, tf.minimum(first + tf.range(size), count - 1))

        outputs = strategy.run(
            lambda: function(*tf.nest.map_structure(own, arguments))
        )

        def whole(parts):
            parts = strategy.experimental_local_results(parts)
            return tf.concat(parts, axis=0)[:count]

        return tf.nest.map_structure(whole, outputs)

    return compile_function(shared, variables)


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
    if not isinstance(padding, str):
        # The gradient of a convolution that pads by itself is not among the
        # operations that TensorFlow hands to oneDNN.
        images = tf.pad(images, [(0, 0), *padding, (0, 0)])
        padding = "valid"
    is_image = images.shape[-1] == 1 and padding == "valid"
    if is_image and (*strides, *dilation) == (1, 1, 1, 1):
        outputs = convolve_image(images, kernel)
    else:
        outputs = tf.nn.conv2d(
            images, kernel, strides, padding.upper(), dilations=dilation
        )
    outputs = tf.nn.bias_add(outputs, bias)
    return tf.nn.relu(outputs) if relu else outputs


def convolve_image(image, kernel):
    """Convolve one-channel images: stride 1, no padding.

    TensorFlow's own input gradient of such a convolution runs on one core
    and took a sixth of a training step of SmallCNN. Here it is a matrix
    product, one row per tap of the kernel, and a sum of shifted rows.

    Args:
        image: `(batch, height, width, 1)`.
        kernel: `(rows, columns, 1, filters)`.

    Returns:
        `(batch, height - rows + 1, width - columns + 1, filters)`.
    """
    # A custom gradient takes tensors; a variable would be one input too many.
    return _convolve_image(tf.convert_to_tensor(image), tf.identity(kernel))


@tf.custom_gradient
def _convolve_image(image, kernel):
    rows, columns, _, filters = kernel.shape

    def gradient(upstream):
        shape = tf.shape(upstream)
        taps = tf.matmul(
            tf.reshape(kernel, (rows * columns, filters)),
            tf.reshape(upstream, (-1, filters)),
            transpose_b=True,
        )
        taps = tf.reshape(taps, (rows * columns, *tf.unstack(shape[:3])))
        shifted = [
            tf.pad(
                taps[row * columns + column],
                ((0, 0), (row, rows - 1 - row), (column, columns - 1 - column)),
            )
            for row in range(rows)
            for column in range(columns)
        ]
        kernel_gradient = tf.raw_ops.Conv2DBackpropFilter(
            input=image,
            filter_sizes=kernel.shape,
            out_backprop=upstream,
            strides=(1, 1, 1, 1),
            padding="VALID",
        )
        return tf.expand_dims(tf.add_n(shifted), -1), kernel_gradient

    return tf.nn.conv2d(image, kernel, strides=1, padding="VALID"), gradient


class TrainStep:
    """Mixin: Keras' steps for this backend, from `training.Trainer`'s parts."""

    def make_train_function(self, force=False):
        """Compile the step, see `keras.Model`; the optimizer is built before.

        Keras builds it while the step is traced, and TensorFlow traces again
        what has made variables: that doubled the time of a large step.
        """
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def train_step(self, data):
        """Craft, differentiate, update, log: one batch."""
        with _after(data):
            batch = self._batch(data, self._train_index)
            adversarial, info = self._craft_for_training(batch)
            with tf.GradientTape() as tape:
                result = self._objective(batch, adversarial)
                loss = self.optimizer.scale_loss(result.loss)
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(
                zip(gradients, self.trainable_weights, strict=True)
            )
            return self._log_training(batch, result, info)

    def test_step(self, data):
        """Evaluate one batch, clean or under the validation attack."""
        with _after(data):
            return self._evaluate(self._batch(data, self._test_index))


def _after(data):
    """Return a scope whose operations run only if there is a batch.

    Keras finds the end of a stream of unknown length by running a step, in
    which the optimizer's count of steps would otherwise rise by one.
    """
    return tf.control_dependencies(
        [each for each in tf.nest.flatten(data) if each is not None]
    )
