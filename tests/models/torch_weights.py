"""Weights of PyTorch networks as after training."""

import math

import torch
from torch import nn


def randomized(network, seed=0):
    """Give a network statistics and batch norms as after training."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(like, low, high):
        return low + (high - low) * torch.rand(like.shape, generator=generator)

    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                # Wide enough that logits differ from image to image.
                bound = math.sqrt(6 / module.weight[0].numel())
                module.weight.copy_(uniform(module.weight, -bound, bound))
                if module.bias is not None:
                    module.bias.copy_(uniform(module.bias, -1, 1))
            if isinstance(module, nn.BatchNorm2d):
                module.weight.copy_(uniform(module.weight, 0.5, 1.5))
                module.bias.copy_(uniform(module.bias, -0.5, 0.5))
                for name, low, high in (
                    ("running_mean", -0.5, 0.5),
                    ("running_var", 0.3, 2.0),
                ):
                    values = getattr(module, name)
                    values.copy_(uniform(values, low, high))
    return network.eval()
