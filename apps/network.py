"""The network of a config, with random weights or those of a file."""

from apps import weights
from keras_neokd import checks
from keras_neokd import models

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


def build_model(config):
    """Return the model, with the weights of `model.weights` if there are any.

    Args:
        config: a whole config.

    Raises:
        ValueError: if model or constructor is unknown, an option does not
            fit it, or the weights do not.
        FileNotFoundError: if there is no such file of weights.
        ImportError: if the model needs a package that is not installed.
    """
    section = config.model
    changes = _chosen(section.weights_of)
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
    try:
        return getattr(model_class, section.constructor)(**arguments)
    except TypeError as error:
        raise ValueError(
            f"`model.options` {arguments} do not fit the model "
            f"{section.name!r}: {error}"
        ) from error


def _chosen(options):
    """Return the options that are not left to the model."""
    return {name: value for name, value in options.items() if value is not None}
