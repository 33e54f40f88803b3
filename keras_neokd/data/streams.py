"""Build a check into a stream of batches, of each kind that Keras reads."""

import contextlib
import copy
import functools
import sys

import keras
import numpy as np


def with_check(x, check):
    """Return a stream of the same kind that checks every batch.

    Args:
        x: `tf.data.Dataset`, `keras.utils.PyDataset`,
            `torch.utils.data.DataLoader`, `grain.MapDataset`,
            `grain.IterDataset`, `grain.DataLoader`, generator or iterator.
        check: a `data.checks.BatchCheck`.

    Raises:
        TypeError: if it is something else.
        ValueError: if a `tf.data.Dataset` has elements of another structure.
    """
    if isinstance(x, keras.utils.PyDataset):
        return _CheckedPyDataset(x, check)
    if _is_instance(x, "tensorflow", "data.Dataset"):
        return _checked_tf_dataset(x, check)
    if _is_instance(x, "torch", "utils.data.DataLoader"):
        return _checked_data_loader(x, check)
    if any(
        _is_instance(x, "grain", name) for name in ("MapDataset", "IterDataset")
    ):
        return x.map(check)
    if _is_instance(x, "grain", "DataLoader"):
        return _checked_grain_loader(x, check)
    if hasattr(x, "__next__"):
        return (check(batch) for batch in x)
    if _is_instance(x, "tensorflow", "distribute.DistributedDataset"):
        raise TypeError(
            "Batches that are distributed already cannot be checked: give the "
            "tf.data.Dataset itself, Keras distributes it over the replicas. "
            f"Received {type(x).__name__}."
        )
    raise TypeError(
        "Images come as one array or tensor, or with their labels as a "
        "tf.data.Dataset, keras.utils.PyDataset, torch.utils.data.DataLoader, "
        "grain dataset or DataLoader, generator or iterator of batches; "
        f"received {type(x).__name__}. `numpy.stack` makes an array of a list "
        "of images, `iter` an iterator of what has batches, for one epoch, "
        "and torch.utils.data.DataLoader(..., batch_size=None) reads it anew "
        "in every epoch."
    )


@contextlib.contextmanager
def own_errors(*streams):
    """Raise the error of a stream instead of TensorFlow's error about it.

    Each stream is a result of `with_check`, or anything else.
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
    """Set `stream.error` to an error of the `with` block, and raise it."""
    try:
        yield
    except Exception as error:
        stream.error = error
        raise


def _is_instance(value, module, path):
    # Only a program that has imported the framework can hold its objects.
    found = sys.modules.get(module)
    for name in path.split("."):
        found = getattr(found, name, None)
    return found is not None and isinstance(value, found)


class PyDatasetAround(keras.utils.PyDataset):
    """Wrap a `keras.utils.PyDataset`; subclasses add `__getitem__`."""

    def __init__(self, dataset):
        super().__init__(
            workers=dataset.workers,
            use_multiprocessing=dataset.use_multiprocessing,
            max_queue_size=dataset.max_queue_size,
        )
        self.dataset = dataset

    @property
    def num_batches(self):
        """Number of batches of the dataset."""
        return self.dataset.num_batches

    def on_epoch_begin(self):
        """Tell the dataset; called by Keras."""
        self.dataset.on_epoch_begin()

    def on_epoch_end(self):
        """Tell the dataset; called by Keras."""
        self.dataset.on_epoch_end()


class _CheckedPyDataset(PyDatasetAround):
    def __init__(self, dataset, check):
        super().__init__(dataset)
        self._check = check
        self.error = None

    def __getitem__(self, index):
        with remembered_errors(self):
            return self._check(self.dataset[index])


def _collate_and_check(collate, check, examples):
    return check(collate(examples))


def _checked_data_loader(loader, check):
    loader = copy.copy(loader)
    # No closure: workers that are no forks get it pickled.
    loader.collate_fn = functools.partial(
        _collate_and_check, loader.collate_fn, check
    )
    # Persistent workers that run already have the function from before.
    loader._iterator = None
    return loader


def _checked_grain_loader(loader, check):
    import grain

    class Batches(grain.DatasetIterator):
        def __init__(self):
            super().__init__()
            self._batches = iter(loader)

        def __next__(self):
            return check(next(self._batches))

        def get_state(self):
            return self._batches.get_state()

        def set_state(self, state):
            self._batches.set_state(state)

    class Checked(grain.IterDataset):
        def __iter__(self):
            return Batches()

    return Checked()


def _checked_tf_dataset(dataset, check):
    import tensorflow as tf

    # Known shapes are checked now, and not in the first batch.
    spec, *_ = check.parts(dataset.element_spec)
    shape = (None, *check.image_shape)
    if not spec.shape.is_compatible_with(shape):
        sizes = ", ".join(map(str, check.image_shape))
        raise ValueError(
            f"Images need shape (batch, {sizes}), received {spec.shape} from a "
            "tf.data.Dataset. Its `batch` makes batches of single examples."
        )
    weighted = check.class_weights is not None

    def message_and_weights(batch):
        nothing = np.zeros(0, "float32")
        try:
            batch = check(tf.nest.map_structure(lambda x: x.numpy(), batch))
        except (TypeError, ValueError) as error:
            return str(error), nothing
        return "", batch[2] if weighted else nothing

    def check_batch(*batch):
        message, weights = tf.py_function(
            lambda *parts: message_and_weights(
                tf.nest.pack_sequence_as(batch, parts)
            ),
            tf.nest.flatten(batch),
            (tf.string, tf.float32),
        )
        passed = tf.debugging.assert_equal(message, "", message)
        with tf.control_dependencies([passed]):
            images, *others = tf.nest.map_structure(tf.identity, batch)
            # They may come with unknown sizes.
            images = tf.ensure_shape(images, shape)
        if weighted:
            others.append(tf.ensure_shape(weights, [None]))
        return (images, *others) if others else images

    return dataset.map(check_batch)
