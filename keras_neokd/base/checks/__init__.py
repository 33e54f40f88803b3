"""Checks of arguments and data: what was wrong, expected, received, to do.

Used where objects are built and where arrays enter the library, so that a
mistake surfaces before training and never as a silent wrong result.
"""

from keras_neokd.base.checks.arguments import MOST_EXITS
from keras_neokd.base.checks.arguments import boolean
from keras_neokd.base.checks.arguments import choice
from keras_neokd.base.checks.arguments import integer
from keras_neokd.base.checks.arguments import number
from keras_neokd.base.checks.arguments import pixel_change
from keras_neokd.base.checks.arguments import sequence
from keras_neokd.base.checks.arguments import shown
from keras_neokd.base.checks.arguments import thresholds
from keras_neokd.base.checks.arguments import typed
from keras_neokd.base.checks.data import class_indices
from keras_neokd.base.checks.data import class_weights
from keras_neokd.base.checks.data import confidences
from keras_neokd.base.checks.data import example_indices
from keras_neokd.base.checks.data import images_and_labels
from keras_neokd.base.checks.data import real_numbers
from keras_neokd.base.checks.data import remedy_of_pixels
from keras_neokd.base.checks.data import sample_weights

__all__ = [
    "MOST_EXITS",
    "boolean",
    "choice",
    "class_indices",
    "class_weights",
    "confidences",
    "example_indices",
    "images_and_labels",
    "integer",
    "number",
    "pixel_change",
    "real_numbers",
    "remedy_of_pixels",
    "sample_weights",
    "sequence",
    "shown",
    "thresholds",
    "typed",
]
