"""`load`: one function for every data set.

    dataset = load("digits", validation_size=200)
    dataset.train.images.shape, dataset.num_classes

What each data set is, and where it is looked for, is told there.
"""

import functools
import os
import pathlib

from keras_neokd.data import prepared
from keras_neokd.data.cifar import read_cifar
from keras_neokd.data.digits import read_digits
from keras_neokd.data.encoded import View
from keras_neokd.data.image_folder import read_image_folder
from keras_neokd.data.mnist import read_mnist
from keras_neokd.data.npz import read_npz
from keras_neokd.data.splits import divide
from keras_neokd.data.tfds import read_tfds

_READERS = {
    "mnist": read_mnist,
    "cifar10": functools.partial(read_cifar, "cifar10"),
    "cifar100": functools.partial(read_cifar, "cifar100"),
}
_IMAGE_SIZES = {"tiny_imagenet": 64, "imagenet2012": 224}
#: Those of `DATASET_NAMES` that are the user's own: any images.
OWN_DATASET_NAMES = ("npz", "image_folder")
# Sets of encoded images.
_ENCODED = (*prepared.ENCODED_NAMES, "image_folder")

#: The names that `load` knows.
DATASET_NAMES = (
    "digits",
    *_READERS,
    *prepared.ENCODED_NAMES,
    *OWN_DATASET_NAMES,
)


def load(
    name,
    data_dir=None,
    validation_size=0,
    num_train=None,
    num_test=None,
    seed=0,
    image_size=None,
    resize=None,
    channels=None,
    title=None,
):
    """Load a data set and divide it into train, validation and test.

    `digits` is always at hand (scikit-learn). All others are read from
    `data_dir` or, without it, from the folder that the environment variable
    KERAS_NEOKD_DATA names:

    - `mnist`, `cifar10` and `cifar100` (its 100 fine labels): the original
      files, or what `prepare` or tensorflow-datasets wrote, which is taken
      first. Without a folder tensorflow-datasets downloads them once. It
      holds the training images in an order of its own: the splits then differ
      from those of the original files.
    - `tiny_imagenet` and `imagenet2012`: what `prepare` or
      tensorflow-datasets wrote. Their official validation images are the
      test images here, since those of the official test are not labelled.
    - `image_folder` and `npz`: images of your own, see `read_image_folder`
      and `read_npz`.

    Args:
        name: one of `DATASET_NAMES`.
        data_dir: folder with the files; for `npz` the file or its folder.
        validation_size: number of training images to set apart for
            validation, 0 (default) for none. They are the last of a fixed
            random order, so `num_train` does not change them.
        num_train: keep only the first images of that order to train on;
            None (default) for all.
        num_test: keep only the first test images; None (default) for all.
        seed: integer, which fixed random order. Keep it, also between runs
            with different training seeds, to compare on the same images.
        image_size: height and width in pixels of the images of
            `tiny_imagenet` (64 by default), `imagenet2012` (224 by default)
            and `image_folder`, which needs it. Other data sets have a size.
        resize: pixels of the shorter side of these images before the centre
            of `image_size` is cut out, at least that; None (default) for
            `image_size`. Of ImageNet, 256 is usual.
        channels: 3 for colour or 1 for grey, what the images of these data
            sets are brought to; None (default) for 3. See `View`.
        title: what the data set is called in results, a text of one line;
            None (default) for `name`. For other images in the files of a
            known data set, such as Fashion-MNIST in those of MNIST.

    Returns:
        `Dataset`.

    Raises:
        ValueError: for an unknown name, a size that is larger than what is
            there, or a damaged file.
        TypeError: for a size that is not an integer or a title that is no
            text.
        FileNotFoundError: names every path that was looked for.
        ImportError: names the extra to install.
        RuntimeError: if tensorflow-datasets cannot provide the data.
    """
    if not isinstance(name, str) or name not in DATASET_NAMES:
        raise ValueError(
            f"`name` needs one of {', '.join(DATASET_NAMES)}; received "
            f"{name!r}."
        )
    title = _check_title(name if title is None else title)
    view = _view(name, image_size, resize, channels)
    source = _read(name, data_dir or os.environ.get("KERAS_NEOKD_DATA"), view)
    return divide(title, source, validation_size, num_train, num_test, seed)


def _check_title(title):
    if not isinstance(title, str):
        raise TypeError(
            "`title` (--config.data.title) needs a text, received "
            f"{title!r} of type {type(title).__name__}."
        )
    if not title.strip() or not title.isprintable():
        raise ValueError(
            "`title` (--config.data.title) needs a text of one line that is "
            f"not empty, received {title!r}. Leave it out for the name of the "
            "data set."
        )
    return title


def _view(name, image_size, resize, channels):
    if name in _ENCODED:
        if image_size is None:
            image_size = _IMAGE_SIZES.get(name)
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
            f"{', '.join(_ENCODED)}; the images of {name!r} have a size and "
            f"channels. Received {image_size}, {resize} and {channels}."
        )
    return None


def _read(name, folder, view):
    if name == "digits":
        return read_digits()
    if not folder:
        if name in _READERS:
            return read_tfds(name)
        raise ValueError(
            f"The data set {name!r} needs `data_dir` (--config.data.dir), the "
            "folder or file that holds it; received None."
        )
    folder = pathlib.Path(folder).expanduser()
    if name == "npz":
        return read_npz(folder)
    if name == "image_folder":
        return read_image_folder(folder, view)
    found = prepared.find(name, folder)
    if found:
        return prepared.read_prepared(found, view)
    if name in _READERS:
        return _READERS[name](folder)
    raise FileNotFoundError(
        f"{folder} holds no prepared {name}: expected {folder / name}"
        "/VERSION/dataset_info.json. Prepare it from the original files with "
        f"{prepared.command(name, folder)}"
    )
