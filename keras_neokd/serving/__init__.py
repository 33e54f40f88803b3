"""A trained model at work: early exit, one exit alone, SavedModel."""

from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.serving.adapters import as_single_output
from keras_neokd.serving.export import export_saved_model
from keras_neokd.serving.predictor import EarlyExitPredictor

__all__ = [
    "EarlyExitPredictor",
    "ExitPolicy",
    "as_single_output",
    "export_saved_model",
]
