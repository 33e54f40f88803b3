"""Checks of data on the host: whole arrays at once, streams batch by batch.

    x = checked(x, y, image_shape=(28, 28, 1), num_classes=10)

returns what it was given, or the same stream with a check built in.
"""

import copy
import sys

import keras
import numpy as np
from keras import ops

from keras_neokd import checks


def checked(x, y, image_shape, num_classes):
    """Check arrays now, or a stream while it is read.

    Args:
        x: array of images, or a stream of `(x, y)` or `(x, y,
            sample_weight)` batches: `tf.data.Dataset`,
            `keras.utils.PyDataset`, `torch.utils.data.DataLoader`, iterator.
        y: labels if `x` is an array.
        image_shape: expected shape of one image.
        num_classes: number of classes.

    Returns:
        `x`, or a stream of the same kind that checks every batch.

    Raises:
        ValueError: as `checks.images_and_labels`.
    """

    def check(batch):
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(batch)
        checks.images_and_labels(
            _to_numpy(images),
            None if labels is None else _to_numpy(labels),
            image_shape,
            num_classes,
        )
        return batch

    if isinstance(x, keras.utils.PyDataset):
        return _CheckedPyDataset(x, check)
    if _is_instance(x, "tensorflow", "data.Dataset"):
        return _checked_tf_dataset(x, image_shape, num_classes)
    if _is_instance(x, "torch", "utils.data.DataLoader"):
        return _checked_data_loader(x, check)
    if hasattr(x, "__next__"):
        return (check(batch) for batch in x)
    if x is not None:
        check((x, y))
    return x


def _to_numpy(value):
    return np.asarray(ops.convert_to_numpy(value))


def _is_instance(value, module, path):
    # Only a program that has imported the framework can hold its objects.
    found = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found is not None and isinstance(value, found)


class _CheckedPyDataset(keras.utils.PyDataset):
    def __init__(self, dataset, check):
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self._dataset = dataset
        self._check = check

    def __getitem__(self, index):
        return self._check(self._dataset[index])

    @property
    def num_batches(self):
        return self._dataset.num_batches

    def on_epoch_begin(self):
        self._dataset.on_epoch_begin()

    def on_epoch_end(self):
        self._dataset.on_epoch_end()


def _checked_data_loader(loader, check):
    loader = copy.copy(loader)
    collate = loader.collate_fn

    def collate_and_check(examples):
        return check(collate(examples))

    loader.collate_fn = collate_and_check
    return loader


def _checked_tf_dataset(dataset, image_shape, num_classes):
    import tensorflow as tf

    def check(*batch):
        images, labels, _ = keras.utils.unpack_x_y_sample_weight(
            batch if len(batch) > 1 else batch[0]
        )
        try:
            checks.images_and_labels(
                images.numpy(),
                None if labels is None else labels.numpy(),
                image_shape,
                num_classes,
            )
        except ValueError as error:
            return str(error)
        return ""

    def check_batch(*batch):
        message = tf.py_function(check, batch, tf.string)
        tf.debugging.assert_equal(message, "", message)
        with tf.control_dependencies([message]):
            checked_batch = tf.nest.map_structure(tf.identity, batch)
        return checked_batch if len(batch) > 1 else checked_batch[0]

    return dataset.map(check_batch)
