"""The network of a config, with random weights or those of a file."""

import contextlib

import keras

from keras_neokd import models
from keras_neokd.base import checks

from . import weights
from .flag_names import built_by_name

_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def build_model(config):
    """Return the model, with the weights of `model.weights` if there are any.

    Its layers compute in `train.precision`, and go on doing so when the model
    is saved and loaded.

    Args:
        config: a whole config.

    Raises:
        ValueError, TypeError: if model or precision is unknown, or a setting
            or the weights do not fit the model.
        FileNotFoundError: if there is no such file of weights.
        ImportError: if the model needs a package that is not installed.
    """
    with _computing_in(config.train.precision):
        return _build(config.model)


@contextlib.contextmanager
def _computing_in(precision):
    """Give layers that are made in a `with` a precision."""
    earlier = keras.config.dtype_policy()
    keras.config.set_dtype_policy(
        checks.choice("train.precision", precision, _PRECISIONS)
    )
    try:
        yield
    finally:
        keras.config.set_dtype_policy(earlier)


def _build(section):
    changes = {
        name: value
        for name, value in section.weights_of.items()
        if value is not None
    }
    if not section.weights:
        if changes:
            raise ValueError(
                "`model.weights_of` says how the model in `model.weights` "
                f"differs, and there are no weights: received {changes}."
            )
        return _untrained_model(section)
    model = _untrained_model(section)
    if not changes:
        weights.load(model, section.weights)
        return model
    fresh = weights.load_from(
        _untrained_model(section, **changes),
        model,
        section.weights,
        keep_heads="exits" not in changes,
    )
    print(f"Weights from {section.weights}; starting fresh: {fresh}.")
    return model


def _untrained_model(section, **changes):
    """Build the model of a config's section, some settings changed."""
    name = section.name
    settings = {**section.get(name, {}), **changes}
    return built_by_name(models.BY_NAME, "model", name, settings)
