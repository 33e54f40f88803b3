"""The MNIST network of triple-wins, as a plain PyTorch module."""

from torch import nn
from torch.nn.functional import max_pool2d
from torch.nn.functional import relu_


class SmallCNN(nn.Module):
    """Classify 28 x 28 x 1 images at three exits.

    Convolutions 3 x 3 without padding, no batch norm, side heads without any
    activation function, and a last dense layer of the main exit that starts
    at zero. Heads flatten channels last, so that `weights` needs no reordering.

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

    def forward(self, x):
        """Map images, (batch, 1, 28, 28), to a list of logits per exit."""
        x = relu_(self.trunk_conv_1(x))
        first = self.exit_1(max_pool2d(self.exit_1.conv(x), 2))
        x = max_pool2d(relu_(self.trunk_conv_2(x)), 2)
        x = relu_(self.trunk_conv_3(x))
        second = self.exit_2(max_pool2d(x, 2))
        return [first, second, self._third(x)]

    def last_exit(self, x):
        """Return the logits of the last exit, computing no other head."""
        x = relu_(self.trunk_conv_1(x))
        x = max_pool2d(relu_(self.trunk_conv_2(x)), 2)
        return self._third(relu_(self.trunk_conv_3(x)))

    def _third(self, x):
        return self.exit_3(max_pool2d(relu_(self.trunk_conv_4(x)), 2))


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
        """Classify feature maps."""
        x = maps.movedim(1, 3).flatten(1)
        x = self.dropout(self.activation(self.dense_1(x)))
        return self.logits(self.activation(self.dense_2(x)))


def _kaiming_conv(in_channels, out_channels, stride=1):
    conv = nn.Conv2d(in_channels, out_channels, 3, stride)
    nn.init.kaiming_normal_(conv.weight)
    nn.init.zeros_(conv.bias)
    return conv
