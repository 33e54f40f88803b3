"""The step of `benchmarks.torch_baseline` in float64, on `tiny.conv_model`.

Imports nothing from keras_neokd.
"""

import torch
from torch import nn

from benchmarks import torch_baseline
from tests.reference import equations


class Network(nn.Module):
    """`tiny.conv_model`, channels first."""

    def __init__(self, num_classes=8):
        super().__init__()
        self.conv_1 = nn.Conv2d(1, 4, 3)
        self.norm_1 = nn.BatchNorm2d(4)
        self.head_1 = nn.Linear(4 * 6 * 6, num_classes)
        self.conv_2 = nn.Conv2d(4, 6, 3, stride=2)
        self.norm_2 = nn.BatchNorm2d(6)
        self.head_2 = nn.Linear(6 * 2 * 2, num_classes)
        self.dense = nn.Linear(6 * 2 * 2, 10)
        self.head_3 = nn.Linear(10, num_classes)
        self.double()

    def forward(self, images):
        """Return the logits of every exit, a list."""
        x = self.norm_1(self.conv_1(images)).relu()
        first = self.head_1(_flatten(x))
        x = _flatten(self.norm_2(self.conv_2(x)).relu())
        second = self.head_2(x)
        third = self.head_3(self.dense(x).relu())
        return [first, second, third]


def _flatten(x):
    return x.permute(0, 2, 3, 1).flatten(1)


def channels_first(images):
    """Return channels-last images as a tensor for `Network`."""
    return torch.as_tensor(images).double().permute(0, 3, 1, 2)


def allowed_classes(labels, num_exits, num_classes, seed, epoch):
    """Return EOKD's classes, boolean `(batch, exits, classes)`."""
    keys = [equations.eokd_key(seed, epoch, int(label)) for label in labels]
    allowed = equations.allowed_classes(labels, keys, num_exits, num_classes)
    return torch.as_tensor(allowed).bool()


class Training:
    """SGD with momentum and weight decay on Eq. 7.

    Args:
        network: a `Network`.
        gamma: weight of the distillation terms per exit.
        seed: seed of EOKD's class draw.
    """

    def __init__(self, network, gamma, seed):
        self.network, self.gamma, self.seed = network, gamma, seed
        self.optimizer = torch.optim.SGD(
            network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4
        )

    def step(self, images, adversarial, labels, epoch):
        """Update the weights once; return the logs of the batch."""
        return torch_baseline.train_step(
            self.network,
            self.optimizer,
            channels_first(images),
            channels_first(adversarial),
            torch.as_tensor(labels).long(),
            allowed_classes(labels, 3, 8, self.seed, epoch),
            self.gamma,
        )


def biased_variance(torch_variance, start, num_updates, count):
    """Turn PyTorch's running variance into one of biased batch variances.

    PyTorch enters the unbiased variance of a batch, `count / (count - 1)`
    times the biased one, into the running average.

    Args:
        torch_variance: running variance after `num_updates` batches.
        start: running variance before.
        num_updates: number of forward passes in training mode.
        count: number of values per channel in each batch.
    """
    kept = 0.9**num_updates * start
    return kept + (torch_variance - kept) * (count - 1) / count
