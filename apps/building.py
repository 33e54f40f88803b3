"""Build the model, method, attack, optimizer and data that a config describes.

    model = building.build_model(config)
    model.compile(**building.compile_arguments(config, model.num_exits))

The names of `config.method`, `config.attack` and `config.model` are those of
`BY_NAME` in `keras_neokd.methods`, `.attacks` and `.models`; their sections
are arguments. The schema is `configs/default.py`.
"""

import contextlib
import functools
import inspect
import operator

import keras

from keras_neokd import attacks
from keras_neokd import data
from keras_neokd import methods
from keras_neokd import models
from keras_neokd import optimizers
from keras_neokd.base import checks
from keras_neokd.base import plain_settings
from keras_neokd.serving import weights
from keras_neokd.training import processes

from . import teachers
from .flag_names import built_by_name
from .flag_names import keys_of
from .flag_names import named_by_keys

_REMEDY = (
    "Correct `model.weights`, or leave it out to start from random weights. "
    "model.name and the settings of that name have to be as they were when "
    "the file was written; model.weights_of is for files of which only the "
    "number of classes or the exits differ."
)
_PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")
_VALIDATIONS = ("none", "clean", "attack")


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
    precision = checks.choice(
        "train.precision", config.train.precision, _PRECISIONS
    )
    earlier = keras.config.dtype_policy()
    keras.config.set_dtype_policy(precision)
    try:
        return _model(config.model)
    finally:
        keras.config.set_dtype_policy(earlier)


def _model(section):
    changes = {
        name: value
        for name, value in section.weights_of.items()
        if value is not None
    }
    if changes and not section.weights:
        raise ValueError(
            "`model.weights_of` says how the model in `model.weights` "
            f"differs, and there are no weights: received {changes}."
        )
    model = _untrained_model(section)
    if not section.weights:
        return model
    source = _untrained_model(section, **changes) if changes else None
    with _naming_weights():
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
def _naming_weights():
    """Let errors say which settings a file of weights depends on."""
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(f"`model.weights`: {error} {_REMEDY}") from None
    except ValueError as error:
        raise ValueError(f"`model.weights`: {error} {_REMEDY}") from error


def _untrained_model(section, **changes):
    """Build the model of a config's section, some settings changed."""
    name = section.name
    settings = {**section.get(name, {}), **changes}
    return built_by_name(models.BY_NAME, "model", name, settings)


def build_method(config, num_exits, num_examples=None):
    """Return the training method.

    Args:
        config: a whole config.
        num_exits: number of exits of the model.
        num_examples: size of the training set; only `teat` needs it.

    Raises:
        ValueError, TypeError: if a setting is not possible.
        FileNotFoundError: if the file of a teacher does not exist.
    """
    given = {
        "num_epochs": config.train.epochs,
        "num_examples": num_examples,
        "num_exits": num_exits,
    }
    with named_by_keys({"num_epochs": "train.epochs"}):
        parts = [
            (weight, _method(config, name, given))
            for weight, name in plain_settings.parts(config.method.name)
        ]
        added = [
            part if weight == 1 else weight * part for weight, part in parts
        ]
        return functools.reduce(operator.add, added)


def _method(config, name, given):
    section = config.method.get(name, {})
    if plain_settings.TEACHER_FILE in section:
        key = f"method.{name}.{plain_settings.TEACHER_FILE}"
        file = section[plain_settings.TEACHER_FILE]
        given = {**given, "teacher": teachers.load(key, file)}
    return built_by_name(methods.BY_NAME, "method", name, section, **given)


def searches(name):
    """Return whether a name stands for an attack that searches.

    Args:
        name: any text.
    """
    made = attacks.BY_NAME.made_by(name) if name in attacks.BY_NAME else None
    return inspect.isclass(made) and issubclass(
        made, (attacks.SearchAttack, attacks.WorstCase)
    )


def plain_attacks():
    """Return the names of the attacks that do not search, the user's too."""
    return tuple(name for name in attacks.BY_NAME if not searches(name))


def build_attack(config, name=None, **changes):
    """Return an attack with the settings of `config.attack` and its section.

    Args:
        config: a whole config.
        name: a name of `attacks.BY_NAME`. Defaults to `config.attack.name`.
        **changes: arguments to replace.

    Raises:
        ValueError, TypeError: if a setting is not possible.
    """
    section = config.attack
    name = section.name if name is None else name
    shared = {
        key: section[key]
        for key in section
        if key != "name" and key not in attacks.BY_NAME
    }
    own = {
        key: value
        for key, value in section.get(name, {}).items()
        if key not in changes
    }
    with named_by_keys(keys_of("attack", {*shared} - {*changes})):
        return built_by_name(
            attacks.BY_NAME, "attack", name, own, **{**shared, **changes}
        )


def compile_arguments(config, num_exits, num_examples=None):
    """Return the arguments of `model.compile`.

    Args:
        config: a whole config.
        num_exits: number of exits of the model.
        num_examples: size of the training set; only `teat` needs it.

    Raises:
        ValueError, TypeError: if a setting is not possible.
    """
    attack = build_attack(config)
    # Not all attacks take it.
    checks.integer("attack.exit", config.attack.exit, -checks.MOST_EXITS)
    _check_schedule(config)
    validation = checks.choice(
        "train.validation", config.train.validation, _VALIDATIONS
    )
    return {
        "optimizer": _optimizer(config),
        "method": build_method(config, num_exits, num_examples),
        "attack": attack,
        "validation_attack": attack if validation == "attack" else None,
        "attack_training_mode": config.attack.training_mode,
        "crafting_batch_size": config.train.crafting_batch_size,
        "crafting_dtype": config.train.crafting_dtype,
        "seed": config.train.seed,
        "steps_per_execution": checks.integer(
            "train.steps_per_execution", config.train.steps_per_execution, 1
        ),
    }


def _optimizer(config):
    section = config.optimizer
    accumulated = checks.integer(
        "train.gradient_accumulation_steps",
        config.train.gradient_accumulation_steps,
        1,
    )
    keys = keys_of(
        "optimizer",
        ("momentum", "nesterov"),
        coupled_weight_decay="optimizer.weight_decay",
    )
    with named_by_keys(keys):
        return optimizers.TorchSGD(
            section.learning_rate,
            momentum=section.momentum,
            nesterov=section.nesterov,
            coupled_weight_decay=section.weight_decay,
            # Keras refuses 1, and writes it None.
            gradient_accumulation_steps=accumulated
            if accumulated > 1
            else None,
        )


def _check_schedule(config):
    """See that every epoch can have its learning rate."""
    checks.integer("train.epochs", config.train.epochs, 1)
    section = config.optimizer
    for name in ("learning_rate", "decay_factor"):
        checks.number(f"optimizer.{name}", section[name], above=0)
    for milestone in section.milestones:
        checks.integer("optimizer.milestones", milestone, 0)


def learning_rate(config, epoch):
    """Return the learning rate of an epoch, counted from 0.

    Args:
        config: a whole config.
        epoch: integer.
    """
    section = config.optimizer
    drops = sum(epoch >= milestone for milestone in section.milestones)
    return section.learning_rate * section.decay_factor**drops


def load_data(config, model):
    """Load the data set, and see that the model takes it.

    Args:
        config: a whole config.
        model: the model that is to see the data.

    Returns:
        A `keras_neokd.data.Dataset`.

    Raises:
        ValueError: if the data set is unknown or not complete, or does not
            fit model or settings.
        FileNotFoundError: if its files are not there.
    """
    section = config.data
    # A config may have settings of a later version.
    known = inspect.signature(data.load).parameters.keys() - {"name"}
    others = {key: section[key] for key in section if key in known}
    with named_by_keys(keys_of("data", section)):
        dataset = data.load(section.name, section.dir, **others)
    expected = model.input_shape[1:], model.num_classes
    received = tuple(dataset.image_shape), dataset.num_classes
    if expected != received:
        raise ValueError(
            f"The model takes images {expected[0]} of {expected[1]} classes, "
            f"the data set {section.name!r} has images {received[0]} of "
            f"{received[1]}. Set input_shape and num_classes of "
            f"--config.model.{config.model.name} (or --config.data.image_size "
            "and --config.data.channels), or use another model."
        )
    if config.train.validation != "none" and not len(dataset.validation):
        raise ValueError(
            f"train.validation is {config.train.validation!r} and there are "
            "no images to validate on: set --config.data.validation_size."
        )
    return dataset


def check_held_out(config, dataset):
    """Decode the images that nothing reads before training ends.

    A damaged image file is found now.

    Args:
        config: a whole config.
        dataset: what `load_data` returned.

    Raises:
        ValueError: names the image.
    """
    if not isinstance(dataset.test.images, data.EncodedImages):
        return
    evaluated = slice(config.evaluate.num_examples)
    parts = dataset.validation.images, dataset.test.images.subset(evaluated)
    if processes.is_first():
        print(
            f"Decoding the {sum(map(len, parts)):,} images of validation and "
            "evaluation once, to find damaged ones.",
            flush=True,
        )
    for images in parts:
        images.check()
