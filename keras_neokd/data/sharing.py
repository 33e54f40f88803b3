"""Share batches among devices and processes, under a `keras.distribution`.

JAX shards a batch over devices only where their number divides it, and every
process gives the rows of its own devices. So the last row of another batch is
repeated, and the step, which is compiled for the global batch, cuts these
padding rows off again: every example counts once, and batch norm, losses and
random numbers are as on one device.
"""

import keras
import numpy as np

from keras_neokd.data.checks import split_labels
from keras_neokd.data.streams import PyDatasetAround


def share(x, batch_size=None, shuffled=False):
    """Return the share of this process in arrays or batches.

    Args:
        x: array of images or a stream of batches, as `fit` takes them.
        batch_size: examples per batch where `x` is an array; `None` is
            Keras' default of 32, `"all"` one batch of all.
        shuffled: whether Keras is to shuffle the batches.

    Returns:
        `x`, or if it is a `keras.utils.PyDataset` and there is a
        distribution, one that yields the share.

    Raises:
        ValueError: for several processes if `x` is something else or is to be
            shuffled; for an array that the devices cannot divide.
    """
    distribution = keras.distribution.distribution()
    if distribution is None or x is None:
        return x
    if shuffled and distribution.num_processes > 1:
        raise ValueError(
            "Each process would draw another order of the batches: give "
            "shuffle=False, and batches that shuffle by themselves, such as "
            "keras_neokd.data.TrainingBatches."
        )
    if isinstance(x, keras.utils.PyDataset):
        return _Share(x, distribution)
    devices = distribution.device_mesh.devices.size
    if distribution.num_processes > 1:
        raise ValueError(
            f"Each of {distribution.num_processes} processes has to feed its "
            "own part of every batch, which needs batches as a "
            "keras.utils.PyDataset, such as keras_neokd.data.TrainingBatches; "
            f"received {type(x).__name__}."
        )
    sizes = _batch_sizes(x, 32 if batch_size is None else batch_size)
    if any(size % devices for size in sizes):
        raise ValueError(
            f"Batches of {' and '.join(map(str, sizes))} examples cannot be "
            f"divided among {devices} devices. Give batches as a "
            "keras.utils.PyDataset, such as keras_neokd.data.TrainingBatches, "
            "which may be of any size."
        )
    return x


def num_filling(labels):
    """Return the number of padding rows of a global batch by its labels."""
    if not isinstance(labels, dict) or "filling" not in labels:
        return 0
    return labels["filling"].shape[1] - 1


def _batch_sizes(x, batch_size):
    if not hasattr(x, "shape"):  # A stream: JAX refuses what is uneven.
        return []
    if batch_size == "all":
        return [len(x)]
    whole, rest = divmod(len(x), batch_size)
    return [batch_size] * bool(whole) + [rest] * bool(rest)


class _Share(PyDatasetAround):
    """Yield the rows of this process, equally many on all devices.

    Labels are `{"label": ..., "filling": ...}`. The second array has one
    column more than there are padding rows: a compiled step knows shapes, and
    no values.
    """

    def __init__(self, batches, distribution):
        super().__init__(batches)
        self._devices = distribution.device_mesh.devices.size
        self._processes = distribution.num_processes
        self._process = distribution.data_shard_id

    def __getitem__(self, index):
        if hasattr(self.dataset, "rows"):
            size = self.dataset.num_rows(index)
            batch = self.dataset.rows(index, self._own)
        else:
            whole = self.dataset[index]
            size = len(keras.tree.flatten(whole)[0])
            chosen = self._own(size)
            batch = keras.tree.map_structure(lambda x: x[chosen], whole)
        images, labels, weights = keras.utils.unpack_x_y_sample_weight(batch)
        labels, example = split_labels(labels)
        filling = self._total(size) - size
        parts = {"label": labels}
        if example is not None:
            parts["index"] = example
        parts["filling"] = np.zeros((len(labels), 1 + filling), "bool")
        return keras.utils.pack_x_y_sample_weight(images, parts, weights)

    def _total(self, size):
        """Return the number of rows with padding."""
        return -(-size // self._devices) * self._devices

    def _own(self, size):
        """Return the rows of this process."""
        own = self._total(size) // self._processes
        first = self._process * own
        return np.minimum(np.arange(first, first + own), size - 1)
