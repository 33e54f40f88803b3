"""Load a weights file of the public PyTorch code into an MSDNet.

    model = keras_neokd.models.MSDNet.imagenet(
        normalization=((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    )
    keras_neokd.models.load_msdnet_pytorch(model, "msdnet.pth.tar")

The code is kalviny/MSDNet-PyTorch on GitHub, the only public source of an
MSDNet trained on ImageNet. `torch_names.py` lists the names of its tensors.
Reading needs PyTorch, under every backend.
"""

import pathlib
import pickle
import re
import warnings
import zipfile

import numpy as np

from keras_neokd.base.typing import PathLike
from keras_neokd.data import files
from keras_neokd.models.msdnet.model import MSDNet
from keras_neokd.models.msdnet.plan import Settings
from keras_neokd.models.msdnet.torch_names import units

# DataParallel puts it in front of every name.
_PARALLEL = "module."
# Before it, files could run code in spite of `weights_only=True`
# (CVE-2025-32434).
_OLDEST_TORCH = (2, 6)
# PyTorch counts the batches that a batch norm has seen; Keras does not.
_COUNTER = ".num_batches_tracked"
# What torch.load raises on a file that is damaged or of another kind.
_UNREADABLE = (
    AttributeError,
    EOFError,
    KeyError,
    RuntimeError,
    TypeError,
    ValueError,
    pickle.UnpicklingError,
)


def load_msdnet_pytorch(model: MSDNet, path: PathLike) -> list[str]:
    """Load a weights file of MSDNet-PyTorch into a model.

    All tensors are checked before the first weight changes. The file is read
    with `torch.load(..., weights_only=True)`: no code in it is run.

    Args:
        model: An `MSDNet` with the arguments that the file's network had:
            `nBlocks` is `num_blocks`, `stepmode` is `step_mode`, `nChannels`
            is `initial_channels`, `growthRate` is `growth_rate`, `grFactor`
            is `growth_factors`, `bnFactor` is `bottleneck_factors`; `base`,
            `step`, `prune` and `reduction` are called the same. Published
            networks take normalised pixels: see `normalization`.
        path: File that `torch.save` wrote: a state dictionary, or a
            dictionary that holds it as `"state_dict"`; names may begin with
            `module.`, as DataParallel has them.

    Returns:
        A list with the names of the file's tensors that no exit needs (with
        some numbers of layers that code computes maps for nothing), which
        are not in the model.

    Raises:
        ImportError: If PyTorch is not installed, or older than 2.6.
        FileNotFoundError: If there is no such file.
        TypeError: If the model is no `MSDNet`.
        ValueError: If the file holds more than tensors, is damaged, or is of
            another network; the model is then left as it was.
    """
    if not isinstance(model, MSDNet):
        raise TypeError(
            f"`model` needs a keras_neokd.models.MSDNet, received {model!r}."
        )
    path = pathlib.Path(path).expanduser()
    tensors = _tensors(path, _state_of(path, _read(path)))
    wanted = list(units(Settings(**model.arguments)))
    _check(path, tensors, wanted)
    state = _arrays(path, tensors)
    layers = {layer.name: layer for layer in model.layers}
    unused = []
    for unit in wanted:
        if unit.layer not in layers:
            unused += unit.shapes
            continue
        arrays = [state[name] for name in unit.shapes]
        if arrays[0].ndim > 1:  # A kernel: outputs are last in Keras.
            arrays[0] = np.moveaxis(arrays[0], (0, 1), (-1, -2))
        layers[unit.layer].set_weights(arrays)
    return unused


def _read(path):
    """Return the content of a file, tensors on the CPU."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "A weights file of MSDNet-PyTorch is read with PyTorch, which is "
            'not installed: pip install "keras-neokd[torch]". The imported '
            "weights need it no more."
        ) from error
    if tuple(map(int, torch.__version__.split(".")[:2])) < _OLDEST_TORCH:
        raise ImportError(
            "A weights file is read with PyTorch 2.6 or newer, found "
            f"{torch.__version__}: a file could make older ones run its "
            'code. pip install --upgrade "keras-neokd[torch]"'
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no weights file {str(path)!r}.")
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            files.check_uncompressed(path, archive)
    try:
        with warnings.catch_warnings():
            # Old pickles: what it cannot read, it refuses.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except _UNREADABLE as error:
        raise _refusal(path, error) from error


def _refusal(path, error):
    """Return the error for a file that torch.load refuses."""
    asked = re.search(r"GLOBAL ([\w.]+)", str(error))
    if asked is None:
        return ValueError(
            f"{path} is not a file that torch.save wrote, or it is damaged "
            f"({_reason(error)}). Get it again."
        )
    return ValueError(
        f"{path} was not loaded: it asks for {asked[1]}, and a weights file "
        "holds nothing but tensors, numbers and texts. Loading it could run "
        "any code. If you trust who wrote it, load it with the code it comes "
        "from and save its weights alone: torch.save(model.state_dict(), FILE)."
    )


def _reason(error):
    if isinstance(error, pickle.UnpicklingError):
        return "a pickle that is not PyTorch's"  # Its text advises risks.
    return f"{type(error).__name__}: {error}".splitlines()[0].strip()


def _state_of(path, content):
    """Return the dictionary from name to tensor in a file's content."""
    if isinstance(content, dict):
        content = content.get("state_dict", content)
    if not isinstance(content, dict) or not content:
        raise ValueError(
            f"{path} holds {_kind(content)}, expected a dictionary of "
            'tensors by name, or one that holds it as "state_dict".'
        )
    return content


def _tensors(path, state):
    """Return the tensors of a state, without prefix and counters."""
    names = [str(name) for name in state]
    if all(name.startswith(_PARALLEL) for name in names):
        names = [name.removeprefix(_PARALLEL) for name in names]
    tensors = {}
    for name, value in zip(names, state.values(), strict=True):
        if name.endswith(_COUNTER):
            continue
        if not hasattr(value, "detach"):
            raise ValueError(
                f"{path} holds {_kind(value)} under {name!r}, expected a "
                "tensor. It is no state dictionary."
            )
        tensors[name] = value
    return tensors


def _arrays(path, tensors):
    """Return tensors as float32 arrays, once their shapes have been checked."""
    # A tensor may claim any shape, whatever its file holds.
    arrays = {}
    for name, tensor in tensors.items():
        arrays[name] = tensor.detach().float().numpy()
        if not np.isfinite(arrays[name]).all():
            raise ValueError(
                f"{path}: {name} has values that are not finite. The network "
                "diverged, or the file is damaged."
            )
    return arrays


def _check(path, tensors, wanted):
    """Raise `ValueError` unless names and shapes are exactly the wanted."""
    expected = {
        name: shape for unit in wanted for name, shape in unit.shapes.items()
    }
    found = {
        "missing": sorted(expected.keys() - tensors.keys()),
        "not known": sorted(tensors.keys() - expected.keys()),
        "shapes": [
            f"{name} has {tuple(tensors[name].shape)}, expected {shape}"
            for name, shape in expected.items()
            if name in tensors and tuple(tensors[name].shape) != shape
        ],
    }
    problems = [
        f"{kind}: {_listed(found[kind])}" for kind in found if found[kind]
    ]
    if problems:
        raise ValueError(
            f"{path} is not of an MSDNet with the arguments of the model, as "
            f"MSDNet-PyTorch builds it; {'; '.join(problems)}. Give the model "
            "the arguments that the network was trained with."
        )


def _listed(texts):
    rest = f" and {len(texts) - 4} more" if len(texts) > 4 else ""
    return ", ".join(texts[:4]) + rest


def _kind(value):
    if isinstance(value, dict):
        return "an empty dictionary"
    return f"an object of type {type(value).__name__}"
