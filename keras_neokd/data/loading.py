"""Load any data set by its name: `load("digits", validation_size=200)`."""

import functools
import os
import pathlib

from keras_neokd.base import checks
from keras_neokd.base.typing import PathLike
from keras_neokd.data import downloads
from keras_neokd.data import tfds
from keras_neokd.data.cifar import read_cifar
from keras_neokd.data.digits import read_digits
from keras_neokd.data.encoded import View
from keras_neokd.data.image_folder import read_image_folder
from keras_neokd.data.imagenet import read_imagenet
from keras_neokd.data.imagenet import read_tiny_imagenet
from keras_neokd.data.mnist import read_mnist
from keras_neokd.data.npz import read_npz
from keras_neokd.data.splits import Dataset
from keras_neokd.data.splits import divide

# Functions of a folder, and of a `View` where images stay encoded.
_READERS = {
    "mnist": read_mnist,
    "cifar10": functools.partial(read_cifar, "cifar10"),
    "cifar100": functools.partial(read_cifar, "cifar100"),
    "tiny_imagenet": read_tiny_imagenet,
    "imagenet2012": read_imagenet,
    "npz": read_npz,
    "image_folder": read_image_folder,
}
# Sets of encoded images, and the default of `image_size`.
_IMAGE_SIZES = {"tiny_imagenet": 64, "imagenet2012": 224, "image_folder": None}

#: The names that `load` knows.
DATASET_NAMES = ("digits", *_READERS)
#: Those of `DATASET_NAMES` that are the user's own: any images.
OWN_DATASET_NAMES = ("npz", "image_folder")


def load(
    name: str,
    data_dir: PathLike | None = None,
    validation_size: int = 0,
    num_train: int | None = None,
    num_test: int | None = None,
    seed: int = 0,
    image_size: int | None = None,
    resize: int | None = None,
    channels: int | None = None,
    title: str | None = None,
) -> Dataset:
    """Load a `Dataset`, divided into train, validation and test.

    `digits` come with scikit-learn. All others are read from `data_dir` or,
    without it, from the folder that the environment variable KERAS_NEOKD_DATA
    names: the official files, see `read_mnist`, `read_cifar`,
    `read_tiny_imagenet` and `read_imagenet`, or images of your own, see
    `read_image_folder` and `read_npz`. A folder NAME/VERSION that
    tensorflow-datasets prepared comes first, with other splits. Where no folder
    is named, `mnist`, `cifar10` and `cifar100` (fine labels) are downloaded
    once. The test images of `tiny_imagenet` and `imagenet2012` are the official
    validation images: the others have no labels.

    Args:
        name: one of `DATASET_NAMES`.
        data_dir: folder with the files; for `npz` the file or its folder.
        validation_size: number of training images to set apart for
            validation, 0 (default) for none. They are the last of a fixed
            random order, so `num_train` does not change them.
        num_train, num_test: keep only the first images of that order to
            train on, and the first test images; None (default) for all.
        seed: integer, which fixed random order. Keep it, also between runs
            with different training seeds, to compare on the same images.
        image_size: height and width in pixels of the images of
            `tiny_imagenet` (64 by default), `imagenet2012` (224 by default)
            and `image_folder`, which needs it. Other data sets have a size.
        resize: pixels of the shorter side of these images before the centre
            of `image_size` is cut out, at least that; None (default) for
            `image_size`. Of ImageNet, 256 is usual.
        channels: 3 for colour or 1 for grey, for the images of these data
            sets; None (default) for 3. See `View`.
        title: name of the data set in results, a text of one line; None
            (default) for `name`. For other images in the files of a known
            data set, such as Fashion-MNIST in those of MNIST.

    Raises:
        ValueError: for an unknown name, a size that is larger than what is
            there, or a file or folder that is damaged or not as described.
        TypeError: for a size that is no integer, or a title that is no text.
        FileNotFoundError: names every path that was looked for.
        MemoryError: says how much is needed.
        ImportError: names the extra to install.
        RuntimeError: if a download fails.
    """
    checks.choice("name", name, DATASET_NAMES)
    title = _check_title(name if title is None else title)
    view = _view(name, image_size, resize, channels)
    source = _read(name, data_dir or os.environ.get("KERAS_NEOKD_DATA"), view)
    return divide(title, source, validation_size, num_train, num_test, seed)


def _check_title(title):
    if not isinstance(title, str):
        raise TypeError(
            "`title` (--config.data.title) needs a text, received "
            f"{checks.typed(title)}."
        )
    if not title.strip() or not title.isprintable():
        raise ValueError(
            "`title` (--config.data.title) needs a text of one line that is "
            f"not empty, received {title!r}. Leave it out for the name of the "
            "data set."
        )
    return title


def _view(name, image_size, resize, channels):
    if name in _IMAGE_SIZES:
        image_size = _IMAGE_SIZES[name] if image_size is None else image_size
        if image_size is None:
            raise ValueError(
                f"The data set {name!r} needs `image_size` "
                "(--config.data.image_size), the height and width in pixels "
                "that its images are brought to; received None."
            )
        return View(image_size, resize, 3 if channels is None else channels)
    if (image_size, resize, channels) != (None, None, None):
        raise ValueError(
            "`image_size`, `resize` and `channels` are for "
            f"{', '.join(_IMAGE_SIZES)}; the images of {name!r} have a size "
            f"and channels. Received {image_size}, {resize} and {channels}."
        )
    return None


def _read(name, folder, view):
    if name == "digits":
        return read_digits()
    if not folder and name in downloads.NAMES:
        folder = downloads.download(name)
    elif not folder:
        raise ValueError(
            f"The data set {name!r} needs `data_dir` (--config.data.dir), the "
            "folder or file that holds it; received None."
        )
    folder = pathlib.Path(folder).expanduser()
    if name not in OWN_DATASET_NAMES:
        prepared = tfds.find(name, folder)
        if prepared:
            return tfds.read_prepared(prepared, view)
    reader = _READERS[name]
    return reader(folder, view) if view else reader(folder)
