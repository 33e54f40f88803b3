"""The batch norm of the library's models."""

import keras
from keras import ops

from keras_neokd import backend


@keras.saving.register_keras_serializable("keras_neokd")
class BatchNormalization(keras.layers.BatchNormalization):
    """Normalize channels-last images in the form that trains fast.

    Weights, configuration and results are those of
    `keras.layers.BatchNormalization`, which normalizes in a dozen operations
    where TensorFlow and PyTorch have one. The name is Keras', too, because
    files find weights by it.

    Args:
        **kwargs: as in `keras.layers.BatchNormalization`, but for `axis`,
            which is always -1.
    """

    # Attacks may compute it as they compute Keras' layer.
    is_plain_batch_norm = True

    def __init__(self, **kwargs):
        kwargs["axis"] = -1
        super().__init__(**kwargs)

    def call(self, inputs, training=None, mask=None):
        """Normalize; in training by the batch, which moves the averages."""
        is_moved = training and self.trainable
        if not (is_moved and self._is_plain(inputs, mask)):
            return super().call(inputs, training=training, mask=mask)
        # Batches of 16 bits lose too much in sums.
        dtype = keras.backend.result_type(inputs.dtype, "float32")
        outputs, mean, variance = backend.batch_norm(
            ops.cast(inputs, dtype),
            ops.cast(self.gamma, dtype),
            ops.cast(self.beta, dtype),
            self.epsilon,
        )
        self._move(self.moving_mean, mean)
        self._move(self.moving_variance, variance)
        return ops.cast(outputs, self.compute_dtype)

    def _move(self, average, value):
        old = ops.cast(average, value.dtype)
        average.assign(old * self.momentum + value * (1 - self.momentum))

    def _is_plain(self, inputs, mask):
        return (
            mask is None
            and len(inputs.shape) == 4
            and self.scale
            and self.center
            and not self.synchronized
            and not getattr(self, "renorm", False)
        )
