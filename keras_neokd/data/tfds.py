"""MNIST and CIFAR through tensorflow-datasets."""

import threading

import numpy as np

from keras_neokd.data.splits import Source

_NUM_CLASSES = {"mnist": 10, "cifar10": 10, "cifar100": 100}
_ORIGINALS = {
    "mnist": "the four files train-images-idx3-ubyte.gz, "
    "train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
    "t10k-labels-idx1-ubyte.gz",
    "cifar10": "cifar-10-binary.tar.gz",
    "cifar100": "cifar-100-binary.tar.gz",
}
# Without a network, tensorflow-datasets tries for minutes.
_SECONDS_TO_ANSWER = 10


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
            'Either run: pip install "keras-neokd[data]"; or '
            + _use_local_files(name)
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
            f"installed; or {_use_local_files(name)}"
        ) from error
    return Source(train, test, _NUM_CLASSES[name])


def _use_local_files(name):
    return (
        f"use local files: put {_ORIGINALS[name]} into a folder, and point "
        "`data_dir` (--config.data.dir) or the environment variable "
        "KERAS_NEOKD_DATA to it."
    )


def _fetch(tensorflow_datasets, name):
    """Return the examples of the train and the test part."""
    builder = tensorflow_datasets.builder(name)
    if not builder.is_prepared():
        _check_network(next(iter(builder.url_infos)))
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


def _check_network(url):
    """Raise `ConnectionError` if a server does not answer within seconds."""
    # What tensorflow-datasets downloads with, by the same settings.
    import requests

    failures = [TimeoutError()]

    def ask():
        try:
            requests.head(url, timeout=_SECONDS_TO_ANSWER)
            failures.clear()
        except requests.RequestException as error:
            failures[:] = [error]

    # Looking for a name, or trying many addresses in turn, has no time limit.
    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_SECONDS_TO_ANSWER)
    for error in failures:
        raise ConnectionError(
            f"{url} could not be reached within {_SECONDS_TO_ANSWER} seconds "
            f"({type(error).__name__})."
        ) from error
