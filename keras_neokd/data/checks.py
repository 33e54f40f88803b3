"""Checks of data on the host: whole arrays at once, streams batch by batch.

    x, y = checked(x, y, image_shape=(28, 28, 1), num_classes=10)

returns what it was given, or the same stream with a check built in.
"""

import contextlib
import copy
import functools
import sys

import keras
import numpy as np
from keras import ops

from keras_neokd import checks


def split_labels(y):
    """Return labels and positions in the data set.

    Args:
        y: labels, or `{"label": labels, "index": positions}`; "filling" is
            what `data.sharing` adds.

    Returns:
        Tuple of labels and positions, `None` where there are none.

    Raises:
        ValueError: if a dict has other keys.
    """
    if not isinstance(y, dict):
        return y, None
    if "label" not in y or {*y} - {"label", "index", "filling"}:
        raise ValueError(
            'Labels given as a dict need the keys "label" and "index" (the '
            f"position of the example in the data set), received {sorted(y)}."
        )
    return y["label"], y.get("index")


def checked(
    x,
    y,
    sample_weight=None,
    *,
    image_shape,
    num_classes,
    labelled=True,
    num_examples=None,
):
    """Check arrays now, or a stream while it is read.

    Args:
        x: array of images, or a stream of `(x, y)` or `(x, y,
            sample_weight)` batches: `tf.data.Dataset`,
            `keras.utils.PyDataset`, `torch.utils.data.DataLoader`, iterator.
        y: labels if `x` is an array, as in `split_labels`.
        sample_weight: weights `(batch,)` if `x` is an array, or `None`.
        image_shape: expected shape of one image.
        num_classes: number of classes.
        labelled: whether labels are needed. Defaults to True.
        num_examples: size of the data set if positions in it are needed,
            else `None` (default).

    Returns:
        `x`, or a stream of the same kind that checks every batch; and `y`,
        with class indices `(batch,)` if `x` is an array.

    Raises:
        ValueError: as `checks.images_and_labels`.
    """

    check = functools.partial(
        _check_batch,
        image_shape=image_shape,
        num_classes=num_classes,
        labelled=labelled,
        num_examples=num_examples,
    )
    if isinstance(x, keras.utils.PyDataset):
        return _CheckedPyDataset(x, check), y
    if _is_instance(x, "tensorflow", "data.Dataset"):
        return _checked_tf_dataset(x, check), y
    if _is_instance(x, "torch", "utils.data.DataLoader"):
        return _checked_data_loader(x, check), y
    if hasattr(x, "__next__"):
        return (check(batch) for batch in x), y
    if x is None:
        return x, y
    if tuple(np.shape(x))[:1] == (0,):
        raise ValueError(
            "At least one image is needed, received none. "
            "`keras_neokd.data.load` sets validation images apart only where "
            "`validation_size` asks for them."
        )
    check((x, y, sample_weight))
    return x, _class_indices(y)


@contextlib.contextmanager
def own_errors(*streams):
    """Raise what a stream raised, and not what TensorFlow makes of it.

    Args:
        *streams: what `checked` returned, or anything else.
    """
    streams = [stream for stream in streams if hasattr(stream, "error")]
    for stream in streams:
        stream.error = None  # Of an earlier call.
    try:
        yield
    except Exception as error:
        # An error of anyone else comes first: a stream is read ahead.
        if type(error).__module__.startswith("tensorflow"):
            for stream in streams:
                if stream.error is not None:
                    raise stream.error from None
        raise


@contextlib.contextmanager
def remembered_errors(stream):
    """Set the attribute `error` of a stream to what is raised within.

    Args:
        stream: any object.
    """
    try:
        yield
    except Exception as error:
        stream.error = error
        raise


def _check_batch(batch, *, image_shape, num_classes, labelled, num_examples):
    """Raise `ValueError` if a batch is not possible, else return it."""
    images, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
    labels, index = split_labels(labels)
    images, labels, weights, index = (
        None if each is None else _to_numpy(each)
        for each in (images, labels, weights, index)
    )
    if labels is None and labelled:
        raise ValueError(
            "Labels are needed, received images alone. Give (images, "
            "labels), or batches of them."
        )
    checks.images_and_labels(images, labels, image_shape, num_classes)
    if weights is not None:
        checks.sample_weights(weights, len(images))
    if num_examples is not None:
        checks.example_indices(index, len(images), num_examples)
    return batch


def _class_indices(y):
    """Return labels in one form: a compiled step would have to cope with each.

    Args:
        y: labels that were checked, as in `split_labels`, or `None`.
    """
    labels, index = split_labels(y)
    if labels is not None:
        labels = _to_numpy(checks.class_indices(ops.convert_to_tensor(labels)))
    if index is None:
        return labels
    return {"label": labels, "index": _to_numpy(index).astype("int32")}


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
        self.error = None

    def __getitem__(self, index):
        with remembered_errors(self):
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


def _checked_tf_dataset(dataset, check):
    import tensorflow as tf

    def check_batch(*batch):
        def message_about(*parts):
            values = [part.numpy() for part in parts]
            try:
                check(tf.nest.pack_sequence_as(batch, values))
            except (TypeError, ValueError) as error:
                return str(error)
            return ""

        message = tf.py_function(
            message_about, tf.nest.flatten(batch), tf.string
        )
        tf.debugging.assert_equal(message, "", message)
        with tf.control_dependencies([message]):
            checked_batch = tf.nest.map_structure(tf.identity, batch)
        return checked_batch if len(batch) > 1 else checked_batch[0]

    return dataset.map(check_batch)
