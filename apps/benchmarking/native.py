"""A trained SmallCNN as a plain PyTorch network, for tools that know those.

It gives the logits of the last exit and computes nothing else, as our own
attacks do.
"""

import keras
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from apps.torch_baseline import SmallCNN


class LastExit(nn.Module):
    """The path of a `SmallCNN` to its last exit.

    Args:
        network: a `SmallCNN` of `apps.torch_baseline`.
    """

    def __init__(self, network):
        super().__init__()
        self.trunk, self.head = network.trunk, network.exit_3

    def forward(self, x):
        """Return logits `(batch, classes)` of images `(batch, 1, 28, 28)`."""
        x = functional.relu_(self.trunk["conv_1"](x))
        x = functional.max_pool2d(functional.relu_(self.trunk["conv_2"](x)), 2)
        x = functional.relu_(self.trunk["conv_3"](x))
        x = functional.max_pool2d(functional.relu_(self.trunk["conv_4"](x)), 2)
        return self.head(x)


def last_exit(model, images):
    """Return the network of a trained model, in evaluation mode.

    Args:
        model: a `keras_neokd.models.SmallCNN`, of the images of MNIST.
        images: some images to compare both on.

    Raises:
        ValueError: if the model is another one.
    """
    network = LastExit(_copied(model)).eval()
    ours = model.exit_model(-1).predict(images, verbose=0)
    with torch.no_grad():
        theirs = network(channels_first(images)).numpy()
    if not np.allclose(ours, theirs, rtol=1e-4, atol=1e-4):
        raise ValueError(
            "The PyTorch copy of the model gives other logits, up to "
            f"{abs(ours - theirs).max():.2g} apart."
        )
    return network


def channels_first(images):
    """Return images as a tensor `(batch, channels, height, width)`."""
    moved = np.ascontiguousarray(np.moveaxis(np.asarray(images), 3, 1))
    return torch.from_numpy(moved)


def _copied(model):
    weights = {
        variable.path: keras.ops.convert_to_numpy(variable)
        for variable in model.weights
    }
    network, state = SmallCNN(), {}
    for name, value in network.state_dict().items():
        path = _keras_path(name)
        if path not in weights:
            raise ValueError(
                "Tools for PyTorch attack a copy of the model, and only "
                "SmallCNN for MNIST can be copied: expected a weight "
                f"{path!r}, found {', '.join(sorted(weights))}."
            )
        copied = weights[path]
        if copied.ndim == 4:
            copied = copied.transpose(3, 2, 0, 1)
        elif copied.ndim == 2:
            copied = _channels_first_rows(name, copied).T
        state[name] = torch.from_numpy(np.ascontiguousarray(copied))
        if state[name].shape != value.shape:
            raise ValueError(
                f"{path} has the shape {tuple(state[name].shape)} instead of "
                f"{tuple(value.shape)}: the model is no SmallCNN for MNIST."
            )
    network.load_state_dict(state)
    return network


def _keras_path(name):
    """`exit_1.dense_1.weight` is `exit_1_dense_1/kernel`."""
    module, _, kind = name.rpartition(".")
    module = module.replace(".", "_")
    kind = {"weight": "kernel", "bias": "bias"}[kind]
    return f"{module.removesuffix('_logits')}/{kind}"


def _channels_first_rows(name, kernel):
    """Reorder what a dense layer reads of flattened images."""
    channels = {"exit_1": 16, "exit_2": 64, "exit_3": 64}
    exit_, _, rest = name.partition(".")
    if rest != "dense_1.weight":
        return kernel
    side = int((len(kernel) // channels[exit_]) ** 0.5)
    shaped = kernel.reshape(side, side, channels[exit_], -1)
    return shaped.transpose(2, 0, 1, 3).reshape(kernel.shape)
