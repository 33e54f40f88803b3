"""MSDNet and triple-wins' MNIST network as plain PyTorch modules."""

import collections
import math

import torch
from torch import nn
from torch.nn.functional import max_pool2d
from torch.nn.functional import relu_


class _MultiExit(nn.Module):
    """Network that `parts` cuts at its exits."""

    def forward(self, x, exit=None):
        """Map images, channels first, to a list of logits per exit.

        With `exit`, an index, only those are computed, and nothing behind.
        """
        logits = []
        for i, (layers, head) in enumerate(self.parts()):
            x = layers(x)
            if exit in (None, i):
                logits.append(head(x))
            if exit == i:
                break
        return logits


class SmallCNN(_MultiExit):
    """Classify 28 x 28 x 1 images at three exits.

    Convolutions 3 x 3 without padding, no batch norm, side heads without any
    activation function, and a last dense layer of the main exit that starts
    at zero. Heads flatten channels last, as `load` needs it.

    Args:
        num_classes: number of classes. Defaults to 10.
        dropout: share of units dropped in each head, in [0, 1).
            Defaults to 0.5.
    """

    num_exits = 3

    @classmethod
    def mnist(cls):
        """Return the network of the paper."""
        return cls()

    def __init__(self, num_classes=10, dropout=0.5):
        super().__init__()
        self.trunk_conv_1 = _kaiming_conv(1, 32)
        self.trunk_conv_2 = _kaiming_conv(32, 32)
        self.trunk_conv_3 = _kaiming_conv(32, 64)
        self.trunk_conv_4 = _kaiming_conv(64, 64)
        self.exit_1 = _DenseHead(576, num_classes, dropout, nn.Identity())
        self.exit_1.conv = _kaiming_conv(32, 16, stride=2)
        self.exit_2 = _DenseHead(1600, num_classes, dropout, nn.Identity())
        self.exit_3 = _DenseHead(1024, num_classes, dropout, nn.ReLU())
        nn.init.zeros_(self.exit_3.logits.weight)
        nn.init.zeros_(self.exit_3.logits.bias)

    def parts(self):
        """Return a pair per exit: the layers since the last, and its head."""
        return (
            (
                lambda x: relu_(self.trunk_conv_1(x)),
                lambda x: self.exit_1(max_pool2d(self.exit_1.conv(x), 2)),
            ),
            (self._second, lambda x: self.exit_2(max_pool2d(x, 2))),
            (self._third, self.exit_3),
        )

    def _second(self, x):
        x = max_pool2d(relu_(self.trunk_conv_2(x)), 2)
        return relu_(self.trunk_conv_3(x))

    def _third(self, x):
        return max_pool2d(relu_(self.trunk_conv_4(x)), 2)


class _DenseHead(nn.Module):
    """Three dense layers with dropout after the first."""

    def __init__(self, num_features, num_classes, dropout, activation):
        super().__init__()
        # nn.Linear's own initialisation is the one of the published code.
        self.dense_1 = nn.Linear(num_features, 200)
        self.dropout = nn.Dropout(dropout)
        self.dense_2 = nn.Linear(200, 200)
        self.logits = nn.Linear(200, num_classes)
        self.activation = activation

    def forward(self, maps):
        x = maps.movedim(1, 3).flatten(1)
        x = self.dropout(self.activation(self.dense_1(x)))
        return self.logits(self.activation(self.dense_2(x)))


def _kaiming_conv(in_channels, out_channels, stride=1):
    conv = nn.Conv2d(in_channels, out_channels, 3, stride)
    nn.init.kaiming_normal_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


class MSDNet(_MultiExit):
    """Classify images at several exits (Huang et al., ICLR 2018).

    Written from the description of the network and the options of
    kalviny/MSDNet-PyTorch. Arguments are called as on its command line, and
    modules are called and numbered as there, so that a state dictionary has
    its names. Weights start as PyTorch's layers do, on which the published
    code in effect relies.
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
            modules = [] if self.blocks else [self._first(data, nChannels)]
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
                modules.append(self._layer(width, before, kept))
                width += growthRate
                if thins and reduction > 0:
                    thinned = math.floor(width * reduction)
                    units = [
                        _net((width * f, thinned * f, 1, 1))
                        for f in self.gr[-kept:]
                    ]
                    modules.append(_named("m", _Transition(units)))
                    width = thinned
            self.blocks.append(nn.Sequential(*modules))
            channels = width * grFactor[-1]
            filters = channels if data == "ImageNet" else 128
            head = _Classifier(channels, filters, num_classes)
            self.classifier.append(head)

    def parts(self):
        """Return a pair per exit: the layers since the last, and its head."""
        return tuple(zip(self.blocks, self.classifier, strict=True))

    def _first(self, data, width):
        """Make the layer that reads images."""
        widths = [width * factor for factor in self.gr]
        modules = [_net((3, widths[0], 3, 1))]
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
            modules.append(_net((inputs, outputs, 3, 2)))
        return _named("layers", _FirstLayer(modules))

    def _layer(self, width, before, kept):
        """Make a layer that keeps `kept` of `before` scales."""
        modules = []
        for scale in range(len(self.gr) - kept, len(self.gr)):
            new = self.growth * self.gr[scale]
            module = _Scale()
            if scale > len(self.gr) - before:
                new //= 2
                module.conv_down = self._path(width, new, scale - 1, 2)
            module.conv_normal = self._path(width, new, scale, 1)
            modules.append(module)
        return _named("layers", _Layer(modules))

    def _path(self, width, new, scale, stride):
        """Make a bottleneck and a 3 x 3 unit."""
        inputs = width * self.gr[scale]
        narrow = min(inputs, self.bn[scale] * new)
        return _net((inputs, narrow, 1, 1), (narrow, new, 3, stride))


def _net(*units):
    """Return units of convolution, batch norm and ReLU under the name `net`.

    Args:
        *units: (input channels, output channels, filter size, stride) each.
    """
    modules = []
    for inputs, outputs, size, stride in units:
        modules += [
            nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(inplace=True),
        ]
    return _named("net", nn.Sequential(*modules))


def _named(name, module):
    return nn.Sequential(collections.OrderedDict({name: module}))


# Lists of modules for the coarsest scales; maps are in lists, finest first.


class _FirstLayer(nn.ModuleList):
    """Make the first map of every scale."""

    def forward(self, x):
        maps = []
        for part in self:
            x = part(x)
            maps.append(x)
        return maps


class _Layer(nn.ModuleList):
    """Add channels to every scale that is kept."""

    def forward(self, maps):
        finer = [None, *maps][-len(self) - 1 : -1]
        triples = zip(self, maps[-len(self) :], finer, strict=True)
        return [part(same, below) for part, same, below in triples]


class _Scale(nn.Module):
    """Add channels to one scale, from itself and perhaps a finer one."""

    def forward(self, same, finer):
        pieces = [same]
        if hasattr(self, "conv_down"):
            pieces.append(self.conv_down(finer))
        return torch.cat([*pieces, self.conv_normal(same)], dim=1)


class _Transition(nn.ModuleList):
    """Thin every scale with a 1 x 1 unit."""

    def forward(self, maps):
        return [part(x) for part, x in zip(self, maps, strict=True)]


class _Classifier(nn.Module):
    """Classify the coarsest map."""

    def __init__(self, inputs, filters, num_classes):
        super().__init__()
        self.m = nn.Sequential(
            _net((inputs, filters, 3, 2)),
            _net((filters, filters, 3, 2)),
            nn.AvgPool2d(2),
        )
        self.linear = nn.Linear(filters, num_classes)

    def forward(self, maps):
        return self.linear(self.m(maps[-1]).flatten(1))
