"""TensorFlow: GradientTape, compiled as a graph by Keras."""

import contextlib
import contextvars
from typing import Any

import tensorflow as tf

from keras_neokd.backend import plain
from keras_neokd.backend.kernels import tensorflow_convolution
from keras_neokd.backend.plain import as_column
from keras_neokd.backend.plain import compiles_shapes as compiles_shapes
from keras_neokd.backend.plain import convolves_16_bits as convolves_16_bits
from keras_neokd.backend.plain import frozen_state as frozen_state
from keras_neokd.backend.plain import gather_processes as gather_processes
from keras_neokd.backend.plain import pool as pool
from keras_neokd.backend.plain import present
from keras_neokd.base.typing import Mixin


class TrainStep(Mixin):
    def make_train_function(self, force: bool = False) -> Any:
        """Compile the step, see `keras.Model`; the optimizer is built before.

        Keras builds it while the step is traced, and TensorFlow traces again
        what has made variables: that doubled the time of a large step.
        """
        if not self.optimizer.built:
            with self.distribute_strategy.scope():
                self.optimizer.build(self.trainable_variables)
        return super().make_train_function(force)

    def train_step(self, data: Any) -> Any:
        """Train on one batch; called by Keras."""
        with _after(data), fused_batch_norm(not self.jit_compile):
            return self.training_step.run(data)

    def test_step(self, data: Any) -> Any:
        """Evaluate one batch; called by Keras."""
        with _after(data):
            return self.testing_step.run(data)


# Whether batch norm may be one operation.
_FUSED = contextvars.ContextVar("fused", default=False)


@contextlib.contextmanager
def fused_batch_norm(is_fused=True):
    """Let `batch_norm` be one operation.

    XLA makes the variance a difference of two large numbers then, so only who
    knows that it does not compile may ask for it.
    """
    token = _FUSED.set(is_fused)
    try:
        yield
    finally:
        _FUSED.reset(token)


def _after(data):
    """Return a scope whose operations run only if there is a batch.

    Keras finds the end of a stream of unknown length by running a step, in
    which the optimizer's count of steps would otherwise rise by one.
    """
    return tf.control_dependencies(
        [each for each in tf.nest.flatten(data) if each is not None]
    )


def update_weights(model, loss):
    with tf.GradientTape() as tape:
        result = loss()
        scaled = model.optimizer.scale_loss(result.loss)
    gradients = tape.gradient(scaled, model.trainable_weights)
    model.optimizer.apply_gradients(
        zip(gradients, model.trainable_weights, strict=True)
    )
    return result


def value_gradient_and_outputs(function, x):
    def compute(x):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            values, outputs = function(x)
        return values, present(tape.gradient(values, x)), outputs

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
    # No function of its own here: the tape of the weights has to see through.
    with tf.GradientTape(watch_accessed_variables=False) as tape:
        tape.watch(x)
        values = function(x)
    return present(tape.gradient(values, x))


def call_with_factors(function, x, factors):
    @tf.custom_gradient
    def call(x):
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(x)
            outputs = function(x)

        def backward(*gradients, variables=()):
            factor = factors(gradients)
            gradients = [each * as_column(factor, each) for each in gradients]
            gradient = present(tape.gradient(outputs, x, gradients))
            gradient = gradient / as_column(factor, gradient)
            return gradient, [None] * len(variables)

        return outputs, backward

    return call(x)


def global_batch(local_size):
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
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return x
    gathered = context.all_gather(x, axis=0)
    # It forgets the sizes of all axes.
    return tf.ensure_shape(gathered, (None, *x.shape[1:]))


def has_accelerator():
    return len(tf.config.list_logical_devices()) > len(
        tf.config.list_logical_devices("CPU")
    )


def placement():
    return tf.distribute.get_strategy()


def compile_function(function, variables):
    del variables  # A graph reads them when it runs.
    # A second size of batch is the last one that is traced.
    return tf.function(function, autograph=False, reduce_retracing=True)


def call_in_numpy(function, x, shape):
    return tf.ensure_shape(tf.numpy_function(function, [x], tf.float32), shape)


def compile_per_example(function, variables):
    strategy = tf.distribute.get_strategy()
    replicas = strategy.num_replicas_in_sync
    if replicas == 1:
        return compile_function(function, variables)

    def shared(*arguments):
        leaves = tf.nest.flatten(arguments)
        count = tf.reduce_max(
            [tf.shape(each)[0] for each in leaves if each.shape.rank]
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
    if not isinstance(padding, str):
        # The gradient of a convolution that pads by itself is not among the
        # operations that TensorFlow hands to oneDNN.
        images = tf.pad(images, [(0, 0), *padding, (0, 0)])
        padding = "valid"
    if tensorflow_convolution.fits(images, strides, padding, dilation):
        outputs = tensorflow_convolution.convolve(images, kernel)
    else:
        outputs = tf.nn.conv2d(
            images, kernel, strides, padding.upper(), dilations=dilation
        )
    outputs = tf.nn.bias_add(outputs, bias)
    return tf.nn.relu(outputs) if relu else outputs


def convolution(images, kernel, strides, padding, dilation):
    if tensorflow_convolution.fits(images, strides, padding, dilation):
        return tensorflow_convolution.convolve(images, kernel)
    return plain.convolution(images, kernel, strides, padding, dilation)


def batch_norm(images, scale, offset, epsilon):
    if images.dtype != tf.float32 or not _FUSED.get():
        return plain.batch_norm(images, scale, offset, epsilon)
    # Keras' form took two to three times as long on processors.
    outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
        x=images,
        scale=scale,
        offset=offset,
        mean=tf.zeros(0),
        variance=tf.zeros(0),
        epsilon=epsilon,
        is_training=True,
    )
    # It divides by one less than the number of values, if there are two.
    count = tf.cast(tf.size(images) // tf.size(mean), tf.float32)
    variance *= tf.maximum(count - 1, 1) / count
    return outputs, tf.stop_gradient(mean), tf.stop_gradient(variance)
