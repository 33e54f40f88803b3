"""`load`: one function for every data set.

    dataset = load("digits", validation_size=200)
    dataset.train.images.shape, dataset.num_classes

What each data set is, and where it is looked for, is told there.
"""

import functools
import os
import pathlib

from keras_neokd.data.cifar import read_cifar
from keras_neokd.data.digits import read_digits
from keras_neokd.data.mnist import read_mnist
from keras_neokd.data.npz import read_npz
from keras_neokd.data.splits import divide
from keras_neokd.data.tfds import read_tfds

_READERS = {
    "mnist": read_mnist,
    "cifar10": functools.partial(read_cifar, "cifar10"),
    "cifar100": functools.partial(read_cifar, "cifar100"),
}

#: The names that `load` knows.
DATASET_NAMES = ("digits", *_READERS, "npz")


def load(
    name,
    data_dir=None,
    validation_size=0,
    num_train=None,
    num_test=None,
    seed=0,
):
    """Load a data set and divide it into train, validation and test.

    `digits` is always at hand (scikit-learn). `mnist`, `cifar10` and
    `cifar100` (its 100 fine labels) are read from `data_dir` or, without it,
    from the folder that the environment variable KERAS_NEOKD_DATA names, or,
    without that, through tensorflow-datasets, which downloads them once and
    holds the training images in an order of its own: the splits then differ
    from those of local files. `npz` is a file of your own.

    Args:
        name: one of `DATASET_NAMES`.
        data_dir: folder with the original files, see `read_mnist` and
            `read_cifar`; for `npz` the file or its folder, see `read_npz`.
        validation_size: number of training images to set apart for
            validation, 0 (default) for none. They are the last of a fixed
            random order, so `num_train` does not change them.
        num_train: keep only the first images of that order to train on;
            None (default) for all.
        num_test: keep only the first test images; None (default) for all.
        seed: integer, which fixed random order. Keep it, also between runs
            with different training seeds, to compare on the same images.

    Returns:
        `Dataset`.

    Raises:
        ValueError: for an unknown name, a size that is larger than what is
            there, or a damaged file.
        TypeError: for a size that is not an integer.
        FileNotFoundError: names every path that was looked for.
        ImportError: names the extra to install.
        RuntimeError: if tensorflow-datasets cannot provide the data.
    """
    if name not in DATASET_NAMES:
        raise ValueError(
            f"`name` needs one of {', '.join(DATASET_NAMES)}; received "
            f"{name!r}."
        )
    source = _read(name, data_dir or os.environ.get("KERAS_NEOKD_DATA"))
    return divide(name, source, validation_size, num_train, num_test, seed)


def _read(name, folder):
    if name == "digits":
        return read_digits()
    if name == "npz":
        if not folder:
            raise ValueError(
                "The data set 'npz' needs `data_dir` (--config.data.dir), "
                "the .npz file or the folder that holds it; received None."
            )
        return read_npz(pathlib.Path(folder).expanduser())
    if folder:
        return _READERS[name](pathlib.Path(folder).expanduser())
    return read_tfds(name)
