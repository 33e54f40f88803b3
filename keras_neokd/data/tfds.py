"""Read the folders of tensorflow-datasets, without TensorFlow.

tensorflow-datasets has written NAME/VERSION/ with dataset_info.json,
features.json and the examples in ArrayRecord files.
"""

import contextlib
import math
import pathlib

import numpy as np

from keras_neokd.base import writing
from keras_neokd.data.arrays import read_arrays
from keras_neokd.data.encoded import EncodedImages
from keras_neokd.data.encoded import in_order
from keras_neokd.data.files import memory_for
from keras_neokd.data.image_files import decode
from keras_neokd.data.splits import Source

_INFO = "dataset_info.json"
_LABELS = "labels_of_keras_neokd.npz"
# The first of these that has labels is the part for tests.
_TEST_PARTS = ("test", "validation")
_REMEDY = (
    "Delete the folder, and let tensorflow-datasets prepare it again or use "
    "the official files of the data set."
)


def tensorflow_datasets(name):
    """Return the module that a data set needs, or raise `ImportError`."""
    try:
        import tensorflow_datasets
    except ImportError as error:
        raise ImportError(
            f"The data set {name!r} needs tensorflow-datasets, which cannot "
            f'be imported ({error}). Run: pip install "keras-neokd[data]"'
        ) from error
    return tensorflow_datasets


def find(name, folder):
    """Return the newest version of a data set in a folder, or None.

    Raises `ValueError` if its preparation was interrupted.
    """
    found = [path.parent for path in (folder / name).glob(f"*/{_INFO}")]
    found = [path for path in found if not path.name.startswith("incomplete.")]
    if found:
        return max(found, key=lambda path: _version(path.name))
    unfinished = sorted((folder / name).glob("incomplete.*"))
    if unfinished:
        raise ValueError(
            f"{folder} holds a half-prepared {name}: {unfinished[0]}. If no "
            f"preparation is running: {_REMEDY}"
        )
    return None


def open_folder(folder):
    """Return the builder of a prepared data set that can be read."""
    tfds = tensorflow_datasets(folder.parent.name)
    try:
        builder = tfds.builder_from_directory(str(folder))
    # A damaged file can raise anything.
    except Exception as error:
        raise ValueError(
            f"{folder} holds no data set that tensorflow-datasets can open "
            f"({type(error).__name__}: {error}). {_REMEDY}"
        ) from error
    formats = {each.value for each in builder.info.available_file_formats()}
    if "array_record" not in formats:
        raise ValueError(
            f"{folder} holds files of the format {', '.join(sorted(formats))}"
            ", which are only read from start to end. Add ArrayRecord files "
            f"with: tfds convert_format --root_data_dir={folder} "
            "--out_file_format=array_record"
        )
    builder.as_data_source()  # The names of files are those of ArrayRecord.
    missing = [
        path
        for split in builder.info.splits.values()
        for path in split.filepaths
        if not path.exists()
    ]
    if missing:
        raise ValueError(
            f"{folder} is not complete: {len(missing)} files are missing, "
            f"{missing[0].name} for one. {_REMEDY}"
        )
    return builder


def read_prepared(folder, view=None):
    """Return a prepared data set as a `Source`.

    Args:
        folder: result of `find`.
        view: `View` of the images, which are then decoded when they are
            used; None (default) for images of one size, in memory.
    """
    builder = open_folder(folder)
    labels = read_labels(builder)
    test = next((part for part in _TEST_PARTS if part in labels), None)
    if "train" not in labels or test is None:
        raise ValueError(
            f"{folder} needs the parts train and {' or '.join(_TEST_PARTS)} "
            f"with labels, received {', '.join(labels) or 'none'}."
        )
    parts = []
    for part in ("train", test):
        records = Records(builder, part)
        if view:
            images = EncodedImages(records, view)
        else:
            images = _in_memory(builder, records)
        parts.append((images, labels[part]))
    return Source(*parts, builder.info.features["label"].num_classes)


def read_labels(builder):
    """Return the labels, int64 `(n,)`, of each part that has some.

    Every example is read for them. They are then kept in a file in the
    folder of the data set, if that can be written.
    """
    path = pathlib.Path(builder.data_dir) / _LABELS
    sizes = {
        part: split.num_examples for part, split in builder.info.splits.items()
    }
    try:
        labels = read_arrays(path)
        is_kept = {part: each.shape for part, each in labels.items()} == {
            part: (size,) for part, size in sizes.items()
        }
    except (OSError, ValueError):
        is_kept = False
    if not is_kept:
        labels = {}
        for part, size in sizes.items():
            records = Records(builder, part)
            labels[part] = np.array(
                [records.example(number)["label"] for number in range(size)]
            )
        # A folder that cannot be written is read every time.
        with (
            contextlib.suppress(OSError),
            writing.replacing(path) as unfinished,
        ):
            np.savez(unfinished, **labels)
    # The test images of ImageNet are labelled -1.
    return {part: each for part, each in labels.items() if (each >= 0).all()}


class Records:
    """The encoded images of a part of a prepared data set, by number."""

    def __init__(self, builder, part):
        tfds = tensorflow_datasets(builder.name)
        self._source = builder.as_data_source(
            part, decoders={"image": tfds.decode.SkipDecoding()}
        )
        self.folder, self._part = builder.data_dir, part

    def __len__(self):
        return len(self._source)

    def __getitem__(self, position):
        return self.example(position)["image"]

    def example(self, position):
        """Return all features of an example, its image encoded."""
        try:
            return self._source[int(position)]
        # Errors of the C++ reader are of several types.
        except Exception as error:
            raise ValueError(
                f"{self.name(position)} cannot be read ({error}). {_REMEDY}"
            ) from error

    def name(self, position):
        """Return the name of an image in errors."""
        return f"Example {position} of the part {self._part} in {self.folder}"


def _in_memory(builder, records):
    shape = builder.info.features["image"].shape
    if None in shape:
        raise ValueError(
            f"{builder.data_dir} needs images of one size, and its "
            f"features.json gives the shape {shape}. {_REMEDY}"
        )
    height, width, channels = shape
    mode = "L" if channels == 1 else "RGB"

    def pixels(position):
        name = records.name(position)
        image = decode(records[position], name, mode)
        if (image.height, image.width) != (height, width):
            raise ValueError(
                f"{name} is damaged: expected {height} x {width} pixels, "
                f"received {image.height} x {image.width}. {_REMEDY}"
            )
        return np.asarray(image).reshape(shape)

    with memory_for(records.folder, len(records) * math.prod(shape)):
        return np.stack(list(in_order(pixels, range(len(records)))))


def _version(text):
    return [int(part) if part.isdigit() else -1 for part in text.split(".")]
