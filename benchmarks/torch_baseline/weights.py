"""Weights of plain networks under the names and in the layout of Keras.

A module's path with underscores is the layer's name, without a closing
`_logits`: `exit_1.dense_1.weight` is `exit_1_dense_1/kernel`. Dense layers
that follow images must flatten them channels last.
"""

import torch
from torch import nn

_NAMES = {"weight": "kernel", "bias": "bias"}
_NORM_NAMES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def load(network, weights):
    """Copy weights into a network.

    Args:
        network: module whose layers are named as above.
        weights: dict from Keras' paths of weights to arrays.

    Raises:
        ValueError: if a weight is missing or has another shape.
    """
    with torch.no_grad():
        for path, tensor in _weights(network):
            value = weights.get(path)
            shape = tuple(_keras_layout(tensor).shape)
            if value is None or tuple(value.shape) != shape:
                found = "no such weight" if value is None else value.shape
                raise ValueError(
                    f"The network needs a weight {path!r} of shape {shape}, "
                    f"found {found}."
                )
            _keras_layout(tensor).copy_(torch.as_tensor(value))


def dump(network):
    """Return the weights as a dict from Keras' paths to arrays."""
    return {
        path: _keras_layout(tensor).detach().clone().numpy()
        for path, tensor in _weights(network)
    }


def _weights(network):
    for path, layer in network.named_modules():
        is_norm = isinstance(layer, nn.BatchNorm2d)
        layer_name = path.replace(".", "_").removesuffix("_logits")
        for name, keras_name in (_NORM_NAMES if is_norm else _NAMES).items():
            tensor = getattr(layer, name, None)
            if isinstance(tensor, torch.Tensor):
                yield f"{layer_name}/{keras_name}", tensor


def _keras_layout(tensor):
    """Return a view with the axes in the order of Keras."""
    if tensor.ndim == 4:
        return tensor.permute(2, 3, 1, 0)
    return tensor.T if tensor.ndim == 2 else tensor
