"""Detect that a data set has changed, from numbers and labels alone."""

import zlib

import numpy as np

from keras_neokd import data

_PARTS = ("train", "validation")


def data_facts(dataset):
    """Return numbers of images, and digests of their labels in order.

    Another order of the training images, which files of the same data set in
    another form may have, makes another validation split. Images that changed
    under the same labels are not noticed: that would take reading all of
    them, before every start.
    """
    facts = {}
    for part in _PARTS:
        labels = getattr(dataset, part).labels
        facts[f"number of {part} images"] = len(labels)
        facts[f"{part} labels"] = digest([labels])
    return facts


def place_matters(name):
    """Return whether images in another folder are taken to be other images.

    Two folders of a user's own images may have equally many images and equal
    labels. A known data set is the same in every folder.
    """
    return name in data.OWN_DATASET_NAMES


def digest(arrays):
    """Return a checksum of a list of NumPy arrays."""
    value = 0
    for array in arrays:
        value = zlib.crc32(np.ascontiguousarray(array), value)
    return value
