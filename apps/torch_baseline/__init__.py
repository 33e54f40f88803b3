"""NEO-KD training step in plain eager PyTorch, in the style of triple-wins.

The baseline of `apps.benchmark`, and the independent implementation that the
tests compare the library's training step with. For both reasons nothing here
imports keras_neokd or Keras.

    model = MSDNet(num_blocks=3).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4
    )
    supports = orthogonal_supports(y, 3, 10, generator)
    logs = train_step(
        model, optimizer, x, y, supports, attack="max_average",
        attack_arguments={
            "epsilon": 8 / 255, "step_size": 2 / 255, "num_steps": 7
        },
        generator=generator, memory_format=torch.channels_last,
    )

Images are (batch, channels, height, width) in [0, 1]; exits count from 0 in
arguments and from 1 in names.
"""

from apps.torch_baseline.attacks import max_average
from apps.torch_baseline.attacks import pgd
from apps.torch_baseline.attacks import random_start
from apps.torch_baseline.models import MSDNet
from apps.torch_baseline.models import SmallCNN
from apps.torch_baseline.step import neo_kd_loss
from apps.torch_baseline.step import orthogonal_supports
from apps.torch_baseline.step import train_step

__all__ = [
    "MSDNet",
    "SmallCNN",
    "max_average",
    "neo_kd_loss",
    "orthogonal_supports",
    "pgd",
    "random_start",
    "train_step",
]
