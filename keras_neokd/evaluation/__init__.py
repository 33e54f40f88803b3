"""Evaluation of multi-exit models: accuracy, attacks, budgets, diagnostics."""

from keras_neokd.evaluation.anytime import AnytimeResult
from keras_neokd.evaluation.anytime import Evaluator
from keras_neokd.evaluation.anytime import adversarial_images
from keras_neokd.evaluation.anytime import anytime
from keras_neokd.evaluation.anytime import craft
from keras_neokd.evaluation.anytime import exit_probabilities
from keras_neokd.evaluation.budgeted import BudgetedResult
from keras_neokd.evaluation.budgeted import budgeted
from keras_neokd.evaluation.early_exit import AttackedPolicyResult
from keras_neokd.evaluation.early_exit import EarlyExitResult
from keras_neokd.evaluation.early_exit import early_exit
from keras_neokd.evaluation.early_exit import early_exit_attacked
from keras_neokd.evaluation.exit_shares import policy_for_cost
from keras_neokd.evaluation.gradient_alignment import GradientAlignmentResult
from keras_neokd.evaluation.gradient_alignment import gradient_alignment
from keras_neokd.evaluation.intervals import mean_cost_interval
from keras_neokd.evaluation.intervals import saving_interval
from keras_neokd.evaluation.intervals import wilson_interval
from keras_neokd.evaluation.latency import exit_latency
from keras_neokd.evaluation.latency import throughput
from keras_neokd.evaluation.local_linearity import LocalLinearityResult
from keras_neokd.evaluation.local_linearity import local_linearity
from keras_neokd.evaluation.operating_point import Drift
from keras_neokd.evaluation.operating_point import exit_drift
from keras_neokd.evaluation.operating_point import fit_temperatures
from keras_neokd.evaluation.operating_point import policy_at
from keras_neokd.evaluation.precision import PrecisionAgreementResult
from keras_neokd.evaluation.precision import precision_agreement
from keras_neokd.evaluation.protocol import Protocol
from keras_neokd.evaluation.protocol import diagnostic
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.searching import SearchResult
from keras_neokd.evaluation.searching import search
from keras_neokd.evaluation.searching import search_together
from keras_neokd.evaluation.sensitivity import SensitivityResult
from keras_neokd.evaluation.sensitivity import sensitivity
from keras_neokd.evaluation.smoothing import SmoothingResult
from keras_neokd.evaluation.smoothing import certify
from keras_neokd.evaluation.transferability import TransferabilityResult
from keras_neokd.evaluation.transferability import transfer_between
from keras_neokd.evaluation.transferability import transferability

__all__ = [
    "AnytimeResult",
    "AttackedPolicyResult",
    "BudgetedResult",
    "Drift",
    "EarlyExitResult",
    "Evaluator",
    "GradientAlignmentResult",
    "LocalLinearityResult",
    "PrecisionAgreementResult",
    "Protocol",
    "Result",
    "SearchResult",
    "SensitivityResult",
    "SmoothingResult",
    "TransferabilityResult",
    "adversarial_images",
    "anytime",
    "budgeted",
    "certify",
    "craft",
    "diagnostic",
    "early_exit",
    "early_exit_attacked",
    "exit_drift",
    "exit_latency",
    "exit_probabilities",
    "fit_temperatures",
    "gradient_alignment",
    "local_linearity",
    "mean_cost_interval",
    "policy_at",
    "policy_for_cost",
    "precision_agreement",
    "saving_interval",
    "search",
    "search_together",
    "sensitivity",
    "throughput",
    "transfer_between",
    "transferability",
    "wilson_interval",
]
