"""MNIST from the four original IDX files (Y. LeCun, C. Cortes, C. Burges).

An IDX file is: two zero bytes, one byte for the type (8: unsigned byte), one
byte for the number of axes, each axis as a big-endian 32-bit integer, data.
"""

import math
import struct

import numpy as np

from keras_neokd.data import files
from keras_neokd.data.splits import Source

_UNSIGNED_BYTE = 8
_NUM_CLASSES = 10
_FILES = [
    (f"{part}-{kind}-ubyte", f"{part}-{kind}-ubyte.gz")
    for part in ("train", "t10k")
    for kind in ("images-idx3", "labels-idx1")
]


def read_mnist(folder):
    """Return MNIST from local files as a `Source`.

    The folder, a `pathlib.Path`, or its subfolder `mnist` holds
    `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
    `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each plain or
    ending in `.gz`.
    """
    found, missing = files.search([folder, folder / "mnist"], _FILES)
    if not found:
        raise files.not_found("mnist", missing)
    return Source(_read_pair(*found[:2]), _read_pair(*found[2:]), _NUM_CLASSES)


def read_idx(path):
    """Return the array in an IDX file of unsigned bytes, `.gz` or not.

    Raises `ValueError` if it is of another type, too short or too long.
    """
    with files.opened(path) as file:
        head = files.read_at_most(file, 4)
        if len(head) < 4:
            raise files.wrong_size(path, 4, len(head))
        zeros, kind, num_axes = struct.unpack(">HBB", head)
        if zeros or kind != _UNSIGNED_BYTE:
            raise ValueError(
                f"{path} is not an IDX file of unsigned bytes: expected it to "
                "begin with the bytes 00 00 08, received "
                f"{head[:3].hex(' ')}."
            )
        start = 4 + 4 * num_axes
        axes = files.read_at_most(file, 4 * num_axes)
        if len(axes) < 4 * num_axes:
            raise files.wrong_size(path, start, 4 + len(axes))
        shape = struct.unpack(f">{num_axes}I", axes)
        content = files.read_exactly(path, file, math.prod(shape), start)
    return np.frombuffer(content, "uint8").reshape(shape)


def _read_pair(images_path, labels_path):
    images, labels = read_idx(images_path), read_idx(labels_path)
    if images.ndim != 3 or images.shape[1:] != (28, 28):
        raise ValueError(
            f"{images_path} does not hold MNIST images: expected the shape "
            f"(n, 28, 28), received {images.shape}."
        )
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"{labels_path} does not match {images_path}: expected "
            f"{len(images)} labels, received the shape {labels.shape}."
        )
    if labels.max(initial=0) >= _NUM_CLASSES:
        raise ValueError(
            f"{labels_path} does not hold MNIST labels: expected 0 to 9, "
            f"received {labels.max()}."
        )
    return images[..., np.newaxis], labels
