"""The network of a config, with random weights or those of a file."""

import contextlib

import keras

from keras_neokd import models
from keras_neokd.base import checks
from keras_neokd.serving import weights

from .flag_names import keys_of
from .flag_names import named_by_keys

_MODELS = {
    "small_cnn": (models.SmallCNN, ("mnist",)),
    "msdnet": (
        models.MSDNet,
        ("cifar10", "cifar100", "tiny_imagenet", "imagenet"),
    ),
    "resnet": (models.ResNet, ("cifar10", "cifar100", "imagenet")),
    "vision_transformer": (
        models.VisionTransformer,
        ("cifar10", "cifar100", "imagenet"),
    ),
}
_REMEDY = (
    "Correct `model.weights`, or leave it out to start from random weights. "
    "model.name, model.constructor and model.options have to be as they were "
    "when the file was written; model.weights_of is for files of which only "
    "the number of classes or the exits differ."
)
_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")


def build_model(config):
    """Return the model, with the weights of `model.weights` if there are any.

    Its layers compute in `train.precision`, and go on doing so when the model
    is saved and loaded.

    Args:
        config: a whole config.

    Raises:
        ValueError: if model, constructor or precision is unknown, an option
            does not fit the model, or the weights do not.
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
    changes = _chosen(section.weights_of)
    if not section.weights:
        if changes:
            raise ValueError(
                "`model.weights_of` says how the model in `model.weights` "
                f"differs, and there are no weights: received {changes}."
            )
        return _untrained_model(section)
    model = _untrained_model(section)
    source = _untrained_model(section, **changes) if changes else None
    with _named_by_key():
        if source is None:
            weights.load_weights(model, section.weights)
            return model
        fresh = weights.load_matching_weights(
            source,
            model,
            section.weights,
            keep_heads="exits" not in changes,
        )
    print(f"Weights from {section.weights}; starting fresh: {fresh}.")
    return model


@contextlib.contextmanager
def _named_by_key():
    """Let errors say which settings a file of weights depends on."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"`model.weights`: {error} {_REMEDY}") from None
    except ValueError as error:
        raise ValueError(f"`model.weights`: {error} {_REMEDY}") from error


def _untrained_model(section, **changes):
    """Build the model of a config's section, some arguments changed."""
    checks.choice("model.name", section.name, _MODELS)
    model_class, constructors = _MODELS[section.name]
    checks.choice("model.constructor", section.constructor, constructors)
    shapes = {
        name: section[name]
        for name in ("input_shape", "num_classes")
        if section[name] is not None
    }
    arguments = {**_chosen(section.options), **shapes, **changes}
    keys = keys_of("model.options", section.options) | keys_of("model", shapes)
    try:
        with named_by_keys(keys):
            return getattr(model_class, section.constructor)(**arguments)
    except TypeError as error:
        raise ValueError(
            f"`model.options` {arguments} do not fit the model "
            f"{section.name!r}: {error}"
        ) from error


def _chosen(options):
    """Return the options that are not left to the model."""
    return {name: value for name, value in options.items() if value is not None}
