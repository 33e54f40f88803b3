"""MNIST and CIFAR through tensorflow-datasets."""

import numpy as np

from keras_neokd.data.splits import Source

_NUM_CLASSES = {"mnist": 10, "cifar10": 10, "cifar100": 100}
_LOCAL_FILES = (
    "use local files: point `data_dir` (--config.data.dir) or the "
    "environment variable KERAS_NEOKD_DATA to the folder that holds the "
    "original files"
)


def read_tfds(name):
    """Return a data set as a `Source`, downloaded on the first call.

    To download and prepare the data, tensorflow-datasets needs TensorFlow;
    what was prepared here once is read without it.

    Args:
        name: "mnist", "cifar10" or "cifar100" (fine labels).

    Raises:
        ImportError: if tensorflow-datasets is not installed.
        RuntimeError: if it cannot provide the data, for example without a
            network.
    """
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            f"Without local files, the data set {name!r} comes through "
            f"tensorflow-datasets, which cannot be imported ({error}). "
            'Either run: pip install "keras-neokd[data]"; or ' + _LOCAL_FILES
        ) from error
    try:
        train, test = (
            _collect(part) for part in _fetch(tensorflow_datasets, name)
        )
    except Exception as error:
        raise RuntimeError(
            f"Without local files, the data set {name!r} comes through "
            "tensorflow-datasets, which looked in its data folder, tried to "
            "download and prepare what was missing, and failed with "
            f"{type(error).__name__}: {error}\n"
            "Either try again with a network connection and TensorFlow "
            "installed; or " + _LOCAL_FILES + "."
        ) from error
    return Source(train, test, _NUM_CLASSES[name])


def _fetch(tensorflow_datasets, name):
    """Return the examples of the train and the test part."""
    splits = ["train", "test"]
    try:
        # This format can be read without TensorFlow, so that nothing else
        # claims the accelerator when another backend is in use.
        return tensorflow_datasets.data_source(
            name,
            split=splits,
            builder_kwargs={"file_format": "array_record"},
        )
    except ValueError:
        # Prepared earlier, by another program, in TensorFlow's own format.
        parts = tensorflow_datasets.load(name, split=splits)
        return [tensorflow_datasets.as_numpy(part) for part in parts]


def _collect(examples):
    images, labels = [], []
    for example in examples:
        images.append(example["image"])
        labels.append(example["label"])
    return np.stack(images), np.array(labels)
