"""The two networks of the baseline, as plain PyTorch modules.

Both have `num_exits`, and `forward(x, last_exit=None)` returns the list of
logits of exits 0 to `last_exit` (default: all), computing nothing deeper.

Modules are named after their place, so that weights can be carried over from
Keras by name: write the path of a module with underscores and leave out a
closing `_logits`, and `block_2.layer_5.scale_2.down.conv` is the Keras layer
`block_2_layer_5_scale_2_down_conv`, `exit_3.logits` the layer `exit_3`.
"""

import math

import torch
from torch import nn
from torch.nn import functional


class SmallCNN(nn.Module):
    """Classify 28 x 28 x 1 images at three exits.

    The MNIST network of triple-wins: convolutions 3 x 3 without padding, no
    batch norm, side heads without any activation function, and a last dense
    layer of the main exit that starts at zero.

    Args:
        num_classes: Number of classes. Defaults to 10.
        dropout: Share of units dropped in each head, in [0, 1).
            Defaults to 0.5.
    """

    num_exits = 3

    def __init__(self, num_classes=10, dropout=0.5):
        super().__init__()
        self.trunk = nn.ModuleDict(
            {
                "conv_1": _kaiming_conv(1, 32),
                "conv_2": _kaiming_conv(32, 32),
                "conv_3": _kaiming_conv(32, 64),
                "conv_4": _kaiming_conv(64, 64),
            }
        )
        self.exit_1 = _DenseHead(576, num_classes, dropout)
        self.exit_1.conv = _kaiming_conv(32, 16, stride=2)
        self.exit_2 = _DenseHead(1600, num_classes, dropout)
        self.exit_3 = _DenseHead(1024, num_classes, dropout, use_relu=True)
        nn.init.zeros_(self.exit_3.logits.weight)
        nn.init.zeros_(self.exit_3.logits.bias)

    def forward(self, x, last_exit=None):
        """Return the logits of exits 0 to `last_exit`, a list.

        Args:
            x: Images, (batch, 1, 28, 28), in [0, 1].
            last_exit: Deepest exit to compute, 0 to 2; `None` for all.
        """
        x = functional.relu_(self.trunk["conv_1"](x))
        branch = functional.max_pool2d(self.exit_1.conv(x), 2)
        logits = [self.exit_1(branch)]
        if last_exit == 0:
            return logits
        x = functional.max_pool2d(functional.relu_(self.trunk["conv_2"](x)), 2)
        x = functional.relu_(self.trunk["conv_3"](x))
        logits.append(self.exit_2(functional.max_pool2d(x, 2)))
        if last_exit == 1:
            return logits
        x = functional.max_pool2d(functional.relu_(self.trunk["conv_4"](x)), 2)
        return [*logits, self.exit_3(x)]


class _DenseHead(nn.Module):
    """Three dense layers with dropout after the first."""

    def __init__(self, num_features, num_classes, dropout, use_relu=False):
        super().__init__()
        # nn.Linear's own initialisation is the one of the published code.
        self.dense_1 = nn.Linear(num_features, 200)
        self.dropout = nn.Dropout(dropout)
        self.dense_2 = nn.Linear(200, 200)
        self.logits = nn.Linear(200, num_classes)
        self.activation = nn.ReLU() if use_relu else nn.Identity()

    def forward(self, x):
        """Flatten, channels first, and classify."""
        x = self.dropout(self.activation(self.dense_1(x.flatten(1))))
        return self.logits(self.activation(self.dense_2(x)))


def _kaiming_conv(in_channels, out_channels, stride=1):
    conv = nn.Conv2d(in_channels, out_channels, 3, stride)
    nn.init.kaiming_normal_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv


class MSDNet(nn.Module):
    """Classify 32 x 32 images with a multi-scale dense network.

    "even" blocks, "max" pruning, CIFAR stem and CIFAR heads; initialised as
    PyTorch does, which the published code in effect relies on.

    Args:
        num_classes: Number of classes. Defaults to 10.
        num_blocks: Number of blocks, each with an exit. Defaults to 3.
        base: Layers in the first block. Defaults to 4.
        step: Layers in each later block. Defaults to 2.
        initial_channels: Channels of the finest scale after the stem.
            Defaults to 8.
        growth_rate: Channels a layer adds to the finest scale. Defaults to 6.
        factors: Width of each scale relative to the finest, for growth and
            for bottlenecks; one value per scale. Defaults to (1, 2, 4).
    """

    def __init__(
        self,
        num_classes=10,
        num_blocks=3,
        base=4,
        step=2,
        initial_channels=8,
        growth_rate=6,
        factors=(1, 2, 4),
    ):
        super().__init__()
        self.num_exits = num_blocks
        num_layers = base + step * (num_blocks - 1)
        width, index = initial_channels, 0
        for block_index in range(num_blocks):
            block = _Block()
            if block_index == 0:
                block.stem = _Stem(initial_channels, factors)
            for _ in range(step if block_index else base):
                index += 1
                scales = _scales(index, num_layers, len(factors))
                layer = _Layer(width, growth_rate, factors, *scales)
                width += growth_rate
                if len(scales[0]) > len(scales[1]):
                    layer.transition = _Transition(width, factors, scales[1])
                    width //= 2
                block.add_module(f"layer_{index}", layer)
            self.add_module(f"block_{block_index + 1}", block)
            self.add_module(
                f"exit_{block_index + 1}",
                _ConvHead(width * factors[-1], num_classes),
            )

    def forward(self, x, last_exit=None):
        """Return the logits of exits 0 to `last_exit`, a list.

        Args:
            x: Images, (batch, 3, 32, 32), in [0, 1].
            last_exit: Deepest exit to compute; `None` for all.
        """
        num_exits = self.num_exits if last_exit is None else last_exit + 1
        logits = []
        for number in range(1, num_exits + 1):
            x = getattr(self, f"block_{number}")(x)
            logits.append(getattr(self, f"exit_{number}")(x[-1]))
        return logits


def _scales(layer, num_layers, num_scales):
    """Return the scales (1 is the finest) that a layer reads and writes."""
    interval = math.ceil(num_layers / num_scales)
    num_dropped_before = max(0, layer - 2) // interval
    num_dropped = (layer - 1) // interval
    return (
        tuple(range(num_dropped_before + 1, num_scales + 1)),
        tuple(range(num_dropped + 1, num_scales + 1)),
    )


class _Unit(nn.Module):
    """Convolution without bias, batch norm and ReLU."""

    def __init__(self, in_channels, out_channels, size=3, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            size,
            stride,
            padding=size // 2,
            bias=False,
        )
        self.batch_norm = nn.BatchNorm2d(out_channels)

    def forward(self, x):
        """Apply the three in this order."""
        return functional.relu_(self.batch_norm(self.conv(x)))


class _Path(_Unit):
    """A 1 x 1 bottleneck unit before a 3 x 3 unit."""

    def __init__(self, in_channels, out_channels, factor, stride):
        bottleneck = min(in_channels, factor * out_channels)
        super().__init__(bottleneck, out_channels, 3, stride)
        self.bottleneck = _Unit(in_channels, bottleneck, size=1)

    def forward(self, x):
        """Apply bottleneck and unit."""
        return super().forward(self.bottleneck(x))


class _Block(nn.Module):
    """Stem (first block) and dense layers, one after the other."""

    def forward(self, x):
        """Map the images or the list of feature maps, finest scale first."""
        for module in self.children():
            x = module(x)
        return x


class _Stem(nn.Module):
    """Make the first feature map of every scale."""

    def __init__(self, initial_channels, factors):
        super().__init__()
        channels = 3
        for scale, factor in enumerate(factors, start=1):
            width = initial_channels * factor
            unit = _Unit(channels, width, stride=1 if scale == 1 else 2)
            self.add_module(f"scale_{scale}", unit)
            channels = width

    def forward(self, x):
        """Return the maps, finest scale first."""
        maps = []
        for unit in self.children():
            x = unit(x)
            maps.append(x)
        return maps


class _Layer(nn.Module):
    """Add channels to every surviving scale, then perhaps thin them all.

    A scale gets half of its new channels from the next finer scale, if the
    layer reads that one. `transition` is set on layers that drop a scale.
    """

    def __init__(self, width, growth_rate, factors, in_scales, out_scales):
        super().__init__()
        self.transition = nn.Identity()
        self._in_scales = in_scales
        self._out_scales = out_scales
        for scale in out_scales:
            factor = factors[scale - 1]
            new = growth_rate * factor
            paths = {}
            if scale - 1 in in_scales:
                new //= 2
                finer = factors[scale - 2]
                paths["down"] = _Path(width * finer, new, finer, stride=2)
            paths["normal"] = _Path(width * factor, new, factor, stride=1)
            self.add_module(f"scale_{scale}", nn.ModuleDict(paths))

    def forward(self, maps):
        """Map the list of feature maps, finest scale first."""
        maps = dict(zip(self._in_scales, maps, strict=True))
        new_maps = []
        for scale in self._out_scales:
            paths = getattr(self, f"scale_{scale}")
            pieces = [maps[scale]]
            if "down" in paths:
                pieces.append(paths["down"](maps[scale - 1]))
            pieces.append(paths["normal"](maps[scale]))
            new_maps.append(torch.cat(pieces, dim=1))
        return self.transition(new_maps)


class _Transition(nn.Module):
    """Halve the channels of every scale with a 1 x 1 unit."""

    def __init__(self, width, factors, scales):
        super().__init__()
        for scale in scales:
            factor = factors[scale - 1]
            unit = _Unit(width * factor, width // 2 * factor, size=1)
            self.add_module(f"scale_{scale}", unit)

    def forward(self, maps):
        """Map the list of feature maps, finest scale first."""
        units = self.children()
        return [unit(x) for unit, x in zip(units, maps, strict=True)]


class _ConvHead(nn.Module):
    """Two strided units of 128 channels, averaging and a dense layer."""

    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.unit_1 = _Unit(in_channels, 128, stride=2)
        self.unit_2 = _Unit(128, 128, stride=2)
        self.logits = nn.Linear(128, num_classes)

    def forward(self, x):
        """Classify the coarsest feature map."""
        return self.logits(self.unit_2(self.unit_1(x)).mean(dim=(2, 3)))
