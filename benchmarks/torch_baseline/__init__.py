"""NEO-KD training step in plain eager PyTorch, in the style of triple-wins.

The baseline of `benchmarks.run models`, and the independent implementation
that the tests compare the library with. For both reasons nothing here imports
keras_neokd or Keras.

    model = MSDNet.cifar10().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4
    )
    supports = orthogonal_supports(y, 3, 10, generator)
    x_adv, _ = attacked(model, x, y, 8 / 255, 2 / 255, 7, generator)
    logs = train_step(model, optimizer, x, x_adv, y, supports)

A model maps images (batch, channels, height, width) in [0, 1] to a list of
logits. Exits count from 0 in arguments and from 1 in names.
"""

from benchmarks.torch_baseline.attacks import attacked
from benchmarks.torch_baseline.attacks import max_average
from benchmarks.torch_baseline.attacks import pgd
from benchmarks.torch_baseline.attacks import random_start
from benchmarks.torch_baseline.msdnet import MSDNet
from benchmarks.torch_baseline.small_cnn import SmallCNN
from benchmarks.torch_baseline.step import neo_kd_loss
from benchmarks.torch_baseline.step import orthogonal_supports
from benchmarks.torch_baseline.step import train_step
from benchmarks.torch_baseline.weights import dump
from benchmarks.torch_baseline.weights import load

__all__ = [
    "MSDNet",
    "SmallCNN",
    "attacked",
    "dump",
    "load",
    "max_average",
    "neo_kd_loss",
    "orthogonal_supports",
    "pgd",
    "random_start",
    "train_step",
]
