"""Evaluation of multi-exit models, clean and under attack."""

from keras_neokd.evaluation.anytime import AnytimeResult
from keras_neokd.evaluation.anytime import anytime
from keras_neokd.evaluation.anytime import craft

__all__ = ["AnytimeResult", "anytime", "craft"]
