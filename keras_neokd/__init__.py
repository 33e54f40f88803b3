"""Robust multi-exit image classifiers on Keras 3: NEO-KD and relatives."""

from keras_neokd import attacks
from keras_neokd import data
from keras_neokd import deployment
from keras_neokd import evaluation
from keras_neokd import losses
from keras_neokd import methods
from keras_neokd import models
from keras_neokd import optimizers
from keras_neokd import serving
from keras_neokd import training
from keras_neokd._version import __version__
from keras_neokd.deployment import deploy
from keras_neokd.deployment import load_artefact
from keras_neokd.models import add_exits
from keras_neokd.network.multi_exit import MultiExitModel
from keras_neokd.serving import EarlyExitPredictor
from keras_neokd.serving import ExitPolicy
from keras_neokd.serving import as_single_output
from keras_neokd.serving import export_saved_model
from keras_neokd.serving import load
from keras_neokd.serving import load_weights

__all__ = [
    "EarlyExitPredictor",
    "ExitPolicy",
    "MultiExitModel",
    "__version__",
    "add_exits",
    "as_single_output",
    "attacks",
    "data",
    "deploy",
    "deployment",
    "evaluation",
    "export_saved_model",
    "load",
    "load_artefact",
    "load_weights",
    "losses",
    "methods",
    "models",
    "optimizers",
    "serving",
    "training",
]
