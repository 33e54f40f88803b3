"""Multi-exit models for tools that know classifiers with one output.

Foolbox and ART take them on the TensorFlow backend, torchattacks and
auto-attack on the PyTorch backend with `channels_first=True`; see
docs/adapters.md.
"""

import math

import keras
from keras import ops

from keras_neokd.base import checks
from keras_neokd.network.multi_exit import MultiExitModel


def as_single_output(
    model: MultiExitModel,
    exit: int | str = -1,
    ensemble: bool = False,
    channels_first: bool = False,
) -> keras.Model:
    """Return an ordinary classifier that shares the model's weights.

    It computes no further than the exit, runs in inference mode unless it is
    called with `training=True`, and returns logits.

    Args:
        model: a `MultiExitModel`.
        exit: name or 0-based index of the exit; -1 (default) is the last.
        ensemble: predict by the mean softmax of this exit and all before it,
            given as its logarithm. Defaults to False.
        channels_first: take images `(channels, height, width)`, as tools for
            PyTorch do. Defaults to False.

    Returns:
        A functional `keras.Model` from images in [0, 1] to logits `(batch,
        classes)`; on the PyTorch backend it is also a `torch.nn.Module`.

    Raises:
        TypeError: if the model is something else.
        ValueError: if it has no such exit.
    """
    if not isinstance(model, MultiExitModel):
        raise TypeError(
            "`as_single_output` needs a MultiExitModel, received "
            f"{model!r}; other models have a single output already."
        )
    checks.boolean("ensemble", ensemble)
    checks.boolean("channels_first", channels_first)
    last = model.exit_index(exit)
    shape = model.input_shape[1:]
    if channels_first:
        images = keras.Input((shape[2], shape[0], shape[1]))
        pixels = keras.layers.Permute((2, 3, 1))(images)
    else:
        images = pixels = keras.Input(shape)
    if ensemble:
        exits = [model.exit_model(each).output for each in range(last + 1)]
        # One graph, which computes what exits share once.
        logits = keras.Model(model.input, exits)(pixels, training=False)
        output = _log_mean_softmax(keras.tree.flatten(logits))
    else:
        output = model.exit_model(last)(pixels, training=False)
    name = f"{model.name}_{model.exit_names[last]}"
    return keras.Model(images, output, name=name)


def _log_mean_softmax(logits):
    stacked = ops.stack([ops.log_softmax(each) for each in logits], axis=1)
    return ops.logsumexp(stacked, axis=1) - math.log(len(logits))
