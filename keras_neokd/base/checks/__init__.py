"""Checks of arguments and data: what was wrong, expected, received, to do.

Used where objects are built and where arrays enter the library, so that a
mistake surfaces before training and never as a silent wrong result.
"""

from keras_neokd.base.checks.arguments import MOST_EXITS as MOST_EXITS
from keras_neokd.base.checks.arguments import boolean as boolean
from keras_neokd.base.checks.arguments import choice as choice
from keras_neokd.base.checks.arguments import integer as integer
from keras_neokd.base.checks.arguments import number as number
from keras_neokd.base.checks.arguments import pixel_change as pixel_change
from keras_neokd.base.checks.arguments import sequence as sequence
from keras_neokd.base.checks.arguments import shown as shown
from keras_neokd.base.checks.arguments import thresholds as thresholds
from keras_neokd.base.checks.arguments import typed as typed
from keras_neokd.base.checks.data import class_indices as class_indices
from keras_neokd.base.checks.data import class_weights as class_weights
from keras_neokd.base.checks.data import confidences as confidences
from keras_neokd.base.checks.data import example_indices as example_indices
from keras_neokd.base.checks.data import images_and_labels as images_and_labels
from keras_neokd.base.checks.data import real_numbers as real_numbers
from keras_neokd.base.checks.data import remedy_of_pixels as remedy_of_pixels
from keras_neokd.base.checks.data import sample_weights as sample_weights
