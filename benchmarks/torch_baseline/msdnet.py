"""MSDNet in PyTorch, with the module names of the public code.

Written from the description of the network (Huang et al., ICLR 2018, and the
options of kalviny/MSDNet-PyTorch). Modules are called and numbered as there,
so that a state dictionary has its names.
"""

import math

import torch
from torch import nn


def units(*sizes):
    """Chain units of convolution, batch norm and ReLU.

    Args:
        *sizes: (input channels, output channels, filter size, stride) each.
    """
    modules = []
    for inputs, outputs, size, stride in sizes:
        modules += [
            nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return nn.Sequential(*modules)


class Net(nn.Module):
    """Units under the name `net`."""

    def __init__(self, *sizes):
        super().__init__()
        self.net = units(*sizes)

    def forward(self, x):
        """Apply the units."""
        return self.net(x)


class Scale(nn.Module):
    """Add channels to one scale, from itself and perhaps a finer one."""

    def forward(self, same, finer):
        """Return the map with the new channels."""
        pieces = [same]
        if hasattr(self, "conv_down"):
            pieces.append(self.conv_down(finer))
        return torch.cat([*pieces, self.conv_normal(same)], dim=1)


class OnScales(nn.Module):
    """Modules for the coarsest scales, under the name `layers` or `m`."""

    def __init__(self, name, modules):
        super().__init__()
        setattr(self, name, nn.ModuleList(modules))

    def parts(self):
        """Return the modules, finest scale first."""
        (modules,) = self.children()
        return modules


class FirstLayer(OnScales):
    """Make the first map of every scale."""

    def forward(self, x):
        """Map images to the maps, finest scale first."""
        maps = []
        for part in self.parts():
            x = part(x)
            maps.append(x)
        return maps


class Layer(OnScales):
    """Add channels to every scale that is kept."""

    def forward(self, maps):
        """Map the maps, finest scale first, to those of the kept scales."""
        count = len(self.parts())
        finer = [None, *maps][-count - 1 : -1]
        return [
            part(same, below)
            for part, same, below in zip(
                self.parts(), maps[-count:], finer, strict=True
            )
        ]


class Transition(OnScales):
    """Thin every scale with a 1 x 1 unit."""

    def forward(self, maps):
        """Map the maps, finest scale first."""
        pairs = zip(self.parts(), maps, strict=True)
        return [part(x) for part, x in pairs]


class Classifier(nn.Module):
    """Two strided units, averaging and a dense layer."""

    def __init__(self, inputs, filters, num_classes):
        super().__init__()
        self.m = nn.Sequential(
            Net((inputs, filters, 3, 2)),
            Net((filters, filters, 3, 2)),
            nn.AvgPool2d(2),
        )
        self.linear = nn.Linear(filters, num_classes)

    def forward(self, maps):
        """Classify the coarsest map."""
        return self.linear(self.m(maps[-1]).flatten(1))


class MSDNet(nn.Module):
    """Classify images at several exits.

    Arguments are called as on the command line of the public code. Weights
    start as PyTorch's layers do, on which the published code in effect relies.
    """

    @classmethod
    def cifar10(cls):
        """Return the network of the paper for CIFAR-10, with 3 exits."""
        return cls("cifar10", 10, 3, 4, 2, 8, 6)

    @classmethod
    def cifar100(cls):
        """Return the network of the paper for CIFAR-100, with 7 exits."""
        return cls("cifar100", 100, 7, 4, 2, 8, 6)

    def __init__(
        self,
        data,
        num_classes,
        nBlocks,
        base,
        step,
        nChannels,
        growthRate,
        stepmode="even",
        grFactor=(1, 2, 4),
        bnFactor=(1, 2, 4),
        prune="max",
        reduction=0.5,
    ):
        super().__init__()
        self.num_exits = nBlocks
        self.gr, self.bn, self.growth = grFactor, bnFactor, growthRate
        sizes = [base] + [
            step * i + 1 if stepmode == "lin_grow" else step
            for i in range(1, nBlocks)
        ]
        total, coarsest = sum(sizes), len(grFactor)
        self.blocks, self.classifier = nn.ModuleList(), nn.ModuleList()
        width, number, kept = nChannels, 0, coarsest
        for size in sizes:
            modules = [] if self.blocks else [self.first(data, nChannels)]
            for _ in range(size):
                number += 1
                before = kept
                if prune == "min":
                    kept = min(coarsest, total - number + 1)
                    thins = number in (total // 3, 2 * total // 3)
                else:
                    # As many equal parts as there are scales.
                    part = (number - 1) // math.ceil(total / coarsest)
                    kept = coarsest - part
                    thins = kept < before
                modules.append(self.layer(width, before, kept))
                width += growthRate
                if thins and reduction > 0:
                    thinned = math.floor(width * reduction)
                    modules.append(self.transition(width, thinned, kept))
                    width = thinned
            self.blocks.append(nn.Sequential(*modules))
            channels = width * grFactor[-1]
            filters = channels if data == "ImageNet" else 128
            head = Classifier(channels, filters, num_classes)
            self.classifier.append(head)

    def first(self, data, width):
        """Make the layer that reads images."""
        widths = [width * factor for factor in self.gr]
        modules = [Net((3, widths[0], 3, 1))]
        if data == "ImageNet":
            modules = [
                nn.Sequential(
                    nn.Conv2d(3, widths[0], 7, 2, 3),
                    nn.BatchNorm2d(widths[0]),
                    nn.ReLU(inplace=True),
                    nn.MaxPool2d(3, 2, 1),
                )
            ]
        for inputs, outputs in zip(widths, widths[1:], strict=False):
            modules.append(Net((inputs, outputs, 3, 2)))
        return FirstLayer("layers", modules)

    def layer(self, width, before, kept):
        """Make a layer that keeps `kept` of `before` scales."""
        modules = []
        for scale in range(len(self.gr) - kept, len(self.gr)):
            new = self.growth * self.gr[scale]
            has_finer = scale > len(self.gr) - before
            module = Scale()
            if has_finer:
                new //= 2
                module.conv_down = self.path(width, new, scale - 1, 2)
            module.conv_normal = self.path(width, new, scale, 1)
            modules.append(module)
        return Layer("layers", modules)

    def path(self, width, new, scale, stride):
        """Make a bottleneck and a 3 x 3 unit."""
        inputs = width * self.gr[scale]
        narrow = min(inputs, self.bn[scale] * new)
        return Net((inputs, narrow, 1, 1), (narrow, new, 3, stride))

    def transition(self, width, thinned, kept):
        """Make a transition of the kept scales."""
        return Transition(
            "m",
            [Net((width * f, thinned * f, 1, 1)) for f in self.gr[-kept:]],
        )

    def forward(self, x):
        """Map images, channels first, to a list of logits per exit."""
        logits = []
        for block, classifier in zip(self.blocks, self.classifier, strict=True):
            x = block(x)
            logits.append(classifier(x))
        return logits
