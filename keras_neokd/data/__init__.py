"""Data sets, their splits, and batches for training and evaluation.

dataset = data.load("cifar10", data_dir="data", validation_size=5000)
batches = data.TrainingBatches(dataset.train, 128, augment="crop_flip")
validation = data.EvaluationBatches(dataset.validation)
model.fit(batches, validation_data=validation)
"""

from keras_neokd.data.batches import EvaluationBatches
from keras_neokd.data.batches import RemainingBatches
from keras_neokd.data.batches import SetEpoch
from keras_neokd.data.batches import TrainingBatches
from keras_neokd.data.digits import DIGITS_EPSILON
from keras_neokd.data.encoded import EncodedImages
from keras_neokd.data.loading import DATASET_NAMES
from keras_neokd.data.loading import OWN_DATASET_NAMES
from keras_neokd.data.loading import load
from keras_neokd.data.splits import Dataset
from keras_neokd.data.splits import Split

__all__ = [
    "DATASET_NAMES",
    "DIGITS_EPSILON",
    "Dataset",
    "EncodedImages",
    "EvaluationBatches",
    "OWN_DATASET_NAMES",
    "RemainingBatches",
    "SetEpoch",
    "Split",
    "TrainingBatches",
    "load",
]
