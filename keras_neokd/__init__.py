"""Robust multi-exit image classifiers on Keras 3: NEO-KD and relatives."""

from keras_neokd import attacks
from keras_neokd import data
from keras_neokd import evaluation
from keras_neokd import losses
from keras_neokd import methods
from keras_neokd import models
from keras_neokd import optimizers
from keras_neokd._version import __version__
from keras_neokd.export import export_saved_model
from keras_neokd.multi_exit import MultiExitModel

__all__ = [
    "MultiExitModel",
    "__version__",
    "attacks",
    "data",
    "evaluation",
    "export_saved_model",
    "losses",
    "methods",
    "models",
    "optimizers",
]
