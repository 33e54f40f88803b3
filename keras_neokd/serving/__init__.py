"""A trained model at work: early exit, SavedModel, checked loading of files."""

from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.serving.adapters import as_single_output
from keras_neokd.serving.export import export_saved_model
from keras_neokd.serving.model_files import load
from keras_neokd.serving.predictor import EarlyExitPredictor
from keras_neokd.serving.weights import load_matching_weights
from keras_neokd.serving.weights import load_weights

__all__ = [
    "EarlyExitPredictor",
    "ExitPolicy",
    "as_single_output",
    "export_saved_model",
    "load",
    "load_matching_weights",
    "load_weights",
]
