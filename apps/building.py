"""From a config to the objects that it describes.

    model = building.build_model(config)
    model.compile(**building.compile_arguments(config, model.num_exits))

Configs hold plain values; this, `network.py`, `building_methods.py` and
`strong_attacks.py` alone know which class each of them means. The schema is
`configs/default.py`.
"""

from keras_neokd import attacks
from keras_neokd import data
from keras_neokd import optimizers
from keras_neokd.base import checks
from keras_neokd.training import processes

from .building_methods import build_method
from .flag_names import keys_of
from .flag_names import named_by_keys
from .network import build_model as build_model

ATTACKS = ("average", "max_average", "single", "noise")
_VALIDATIONS = ("none", "clean", "attack")


def build_attack(config, name=None, exit=None, **changes):
    """Return an attack with the settings of `config.attack`.

    Args:
        config: a whole config.
        name: one of `ATTACKS`. Defaults to `config.attack.name`.
        exit: index of the exit that `single` attacks. Defaults to
            `config.attack.exit`.
        **changes: arguments of `PGD` to replace.

    Raises:
        ValueError, TypeError: if a setting is not possible.
    """
    section = config.attack
    name = section.name if name is None else name
    checks.choice("attack.name", name, ATTACKS)
    arguments = {
        key: section[key]
        for key in (
            "epsilon",
            "step_size",
            "num_steps",
            "norm",
            "random_start",
            "num_restarts",
        )
    }
    with named_by_keys(keys_of("attack", {*arguments} - {*changes})):
        pgd = attacks.PGD(**{**arguments, **changes})
        if name == "noise":
            return attacks.UniformNoise(pgd.epsilon)
        if name == "max_average":
            return attacks.MaxAverage(pgd)
        if name == "single":
            exit = section.exit if exit is None else exit
            return pgd.with_objective(attacks.SingleExit(exit))
    return pgd


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
    _check_schedule(config)
    accumulated = checks.integer(
        "train.gradient_accumulation_steps",
        config.train.gradient_accumulation_steps,
        1,
    )
    validation = checks.choice(
        "train.validation", config.train.validation, _VALIDATIONS
    )
    return {
        "optimizer": _optimizer(config.optimizer, accumulated),
        "method": build_method(config, num_exits, num_examples),
        "attack": attack,
        "validation_attack": attack if validation == "attack" else None,
        "attack_training_mode": config.attack.training_mode,
        "crafting_batch_size": config.train.crafting_batch_size,
        "seed": config.train.seed,
        "steps_per_execution": checks.integer(
            "train.steps_per_execution", config.train.steps_per_execution, 1
        ),
    }


def _optimizer(section, accumulated):
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
            gradient_accumulation_steps=None
            if accumulated == 1
            else accumulated,
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
    with named_by_keys(keys_of("data", section)):
        dataset = data.load(
            section.name,
            section.dir,
            validation_size=section.validation_size,
            num_train=section.num_train,
            num_test=section.num_test,
            image_size=section.image_size,
            resize=section.resize,
            channels=section.channels,
            title=section.title,
        )
    expected = model.input_shape[1:], model.num_classes
    received = tuple(dataset.image_shape), dataset.num_classes
    if expected != received:
        raise ValueError(
            f"The model takes images {expected[0]} of {expected[1]} classes, "
            f"the data set {section.name!r} has images {received[0]} of "
            f"{received[1]}. Set --config.model.input_shape and "
            "--config.model.num_classes (or --config.data.image_size and "
            "--config.data.channels), or use another model."
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
