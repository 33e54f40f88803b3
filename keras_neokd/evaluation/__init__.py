"""Evaluation of multi-exit models: accuracy, attacks, diagnostics."""

from keras_neokd.evaluation.anytime import AnytimeResult
from keras_neokd.evaluation.anytime import anytime
from keras_neokd.evaluation.anytime import craft
from keras_neokd.evaluation.gradient_alignment import GradientAlignmentResult
from keras_neokd.evaluation.gradient_alignment import gradient_alignment
from keras_neokd.evaluation.local_linearity import LocalLinearityResult
from keras_neokd.evaluation.local_linearity import local_linearity
from keras_neokd.evaluation.searching import SearchResult
from keras_neokd.evaluation.searching import search
from keras_neokd.evaluation.smoothing import SmoothingResult
from keras_neokd.evaluation.smoothing import certify

__all__ = [
    "AnytimeResult",
    "GradientAlignmentResult",
    "LocalLinearityResult",
    "SearchResult",
    "SmoothingResult",
    "anytime",
    "certify",
    "craft",
    "gradient_alignment",
    "local_linearity",
    "search",
]
