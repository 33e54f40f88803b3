"""Data sets, their splits, and batches for training and evaluation.

dataset = keras_neokd.data.load("cifar10", data_dir="data",
                                validation_size=5000)
batches = keras_neokd.data.TrainingBatches(
    dataset.train, batch_size=128, seed=0, augment="crop_flip"
)
model.fit(batches, validation_data=dataset.validation.arrays())
"""

from keras_neokd.data.batches import EvaluationBatches
from keras_neokd.data.batches import SetEpoch
from keras_neokd.data.batches import TrainingBatches
from keras_neokd.data.digits import DIGITS_EPSILON
from keras_neokd.data.loading import DATASET_NAMES
from keras_neokd.data.loading import load
from keras_neokd.data.splits import Dataset
from keras_neokd.data.splits import Split

__all__ = [
    "DATASET_NAMES",
    "DIGITS_EPSILON",
    "Dataset",
    "EvaluationBatches",
    "SetEpoch",
    "Split",
    "TrainingBatches",
    "load",
]
