"""Streams of batches of four images, of kinds that Keras reads."""

import keras
import numpy as np
import pytest


class Batches(keras.utils.PyDataset):
    """Given batches, one after the other."""

    def __init__(self, batches, **arguments):
        super().__init__(**arguments)
        self.batches = batches

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        return self.batches[index]


def joined(batches):
    """Return the images and the labels of all batches."""
    return [np.concatenate(each) for each in zip(*batches, strict=True)]


def tf_dataset(*arrays):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_tensor_slices(arrays).batch(4)


def data_loader(*arrays):
    torch = pytest.importorskip("torch")
    tensors = [torch.as_tensor(each) for each in arrays]
    dataset = torch.utils.data.TensorDataset(*tensors)
    return torch.utils.data.DataLoader(dataset, batch_size=4)
