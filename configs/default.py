"""Every setting of the apps, with its default; the schema of all configs.

    python -m apps.train --config=configs/default.py:neo_kd --workdir=runs/x

The variant after the colon is the training method: `adversarial_training`
("Adv. w/o Distill" in the paper's tables), `neo_kd`, another name of
`keras_neokd.methods.BY_NAME`, or a sum such as `neo_kd+0.5*kdiga`. Any value
can be changed on the command line, for example `--config.train.epochs=3
--config.method.neo_kd.nkd_weight=2`; a key that is not in the schema, or a
number of another type, is refused here, any other value where the object is
built.

`config.method`, `config.attack` and `config.model` have a section for each
name of `BY_NAME` of `keras_neokd.methods`, `.attacks` and `.models`. It holds
the arguments, with their defaults, of what the name stands for, which
documents them. Only the sections of the names in use matter: for attacks,
also those that `config.evaluate` names. In the same way `config.evaluate` has
a section for each protocol and diagnostic of `keras_neokd.evaluation`.
"""

from ml_collections import config_dict

from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd import models
from keras_neokd.base import plain_settings
from keras_neokd.base.configurable import REQUIRED
from keras_neokd.base.configurable import Unset
from keras_neokd.evaluation.protocol import known

# Arguments that only a run knows, and those of every Keras model.
_OF_A_RUN = ("num_epochs", "num_examples", "num_exits", "objective")
_OF_KERAS = ("name", "trainable")


def get_config(variant="neo_kd"):
    """Return the settings: the paper's wherever it has one for all data.

    Args:
        variant: name of a method, or a sum.

    Returns:
        A locked `ConfigDict` of plain values.

    Raises:
        ValueError: if the variant is unknown.
    """
    for _, name in plain_settings.parts(variant):
        methods.BY_NAME[name]
    config = {
        "model": {
            **_model(),
            **_sections(models.BY_NAME, lambda name: _OF_KERAS),
        },
        "data": _data(),
        "method": {
            "name": variant,
            **_sections(methods.BY_NAME, lambda name: _OF_A_RUN),
        },
        "attack": _attack(),
        "optimizer": _optimizer(),
        "train": _train(),
        "distribution": _distribution(),
        "evaluate": _with_protocols(_evaluate()),
    }
    return config_dict.ConfigDict(config).lock()


def derive(variant, changes):
    """Return the default settings with some values replaced.

    Args:
        variant: name of a method, or a sum.
        changes: dict of values by dotted keys, or nested.

    Raises:
        KeyError, TypeError: if `changes` does not fit the schema.
    """
    config = get_config(variant)
    config.update({k: v for k, v in changes.items() if "." not in k})
    config.update_from_flattened_dict(
        {k: v for k, v in changes.items() if "." in k}
    )
    return config


def _sections(registry, without):
    """Return a section for every name that has settings of its own."""
    found = {name: _section(registry, name, without(name)) for name in registry}
    return {name: section for name, section in found.items() if section}


def _section(registry, name, without):
    settings = plain_settings.settings(registry, name).items()
    return {key: _typed(value) for key, value in settings if key not in without}


def _typed(default):
    """Return a default that numbers of its type can replace, or anything.

    A constructor may take words, tuples or `None` instead of each other, and
    says itself what it needs.
    """
    is_unset = isinstance(default, Unset)
    usual = default.usual if is_unset else default
    kind = type(usual) if type(usual) in (bool, int, float) else object
    return config_dict.FieldReference(
        None if is_unset else default, field_type=kind
    )


def _model():
    return {
        # A name of keras_neokd.models.BY_NAME.
        "name": "small_cnn_mnist",
        # None: random weights. A .weights.h5 or .keras file of a model with
        # the same name and settings. A run that goes on takes its own
        # checkpoints, and refuses a file with other content.
        "weights": config_dict.placeholder(str),
        # How that model differs, if it does. Heads start fresh where their
        # shapes differ, and all of them where exits is given.
        "weights_of": {
            "num_classes": config_dict.placeholder(int),
            "exits": config_dict.placeholder(tuple),
        },
    }


def _data():
    return {
        # digits, mnist, cifar10, cifar100, tiny_imagenet, imagenet2012,
        # image_folder or npz; see docs/data.md.
        "name": "digits",
        # Folder with the files; None: $KERAS_NEOKD_DATA, else a download.
        "dir": config_dict.placeholder(str),
        # What results call the data set; None: its name.
        "title": config_dict.placeholder(str),
        # Height and width of the images of tiny_imagenet (None: 64),
        # imagenet2012 (None: 224) and image_folder; their shorter side before
        # the centre is cut out (None: image_size).
        "image_size": config_dict.placeholder(int),
        "resize": config_dict.placeholder(int),
        # Of the same data sets: 3, colour, or 1, grey. None: 3.
        "channels": config_dict.placeholder(int),
        # Training images set apart for validation.
        "validation_size": 0,
        "batch_size": 128,
        # None, crop_flip (random crop after padding by 4, and mirroring), or
        # random_part_flip (a part of 8 % to 100 % of the area, and mirroring)
        # for tiny_imagenet, imagenet2012 and image_folder.
        "augment": config_dict.placeholder(str),
        # None: all images.
        "num_train": config_dict.placeholder(int),
        "num_test": config_dict.placeholder(int),
    }


def _attack():
    shared = {
        # In units of pixels in [0, 1].
        "epsilon": 8 / 255,
        "step_size": 2 / 255,
        "num_steps": 7,
        # linf or l2.
        "norm": "linf",
        "random_start": True,
        "num_restarts": 1,
        # For single: 0-based index of the attacked exit, -1 is the last.
        "exit": -1,
    }

    def without(name):
        # An attack whose number of steps has a default, or that has none,
        # tunes itself.
        steps = attacks.BY_NAME.settings(name).get("num_steps")
        others = shared if steps is REQUIRED else ("epsilon", "norm")
        return (*others, *_OF_A_RUN)

    return {
        # max_average, average, single, noise (uniform, no attack), or another
        # name of keras_neokd.attacks.BY_NAME. The settings below are for all
        # of them; a section holds what else one has.
        "name": "max_average",
        **shared,
        # Attack training examples in training mode, as triple-wins does.
        "training_mode": False,
        **_sections(attacks.BY_NAME, without),
    }


def _optimizer():
    return {
        "learning_rate": 0.1,
        "momentum": 0.9,
        "nesterov": False,
        # Added to the gradient before the momentum, as in PyTorch.
        "weight_decay": 5e-4,
        # From these epochs on (counted from 0) the rate is multiplied by
        # decay_factor once more.
        "milestones": (),
        "decay_factor": 0.1,
    }


def _train():
    return {
        "epochs": 150,
        "seed": 0,
        # none, clean, or attack (data.validation_size images after every
        # epoch, attacked as in training).
        "validation": "none",
        # Training steps per call of the compiled function.
        "steps_per_execution": 1,
        # float32, mixed_bfloat16 or mixed_float16: what layers compute in.
        # Weights, logits, losses and images stay in float32.
        "precision": "float32",
        # Batches whose gradients are averaged for one update; a batch is then
        # a part of what the paper calls one.
        "gradient_accumulation_steps": 1,
        # Images attacked at once, to save memory; None: the whole batch. Not
        # with distribution.strategy=data_parallel.
        "crafting_batch_size": config_dict.placeholder(int),
        # Of the network that training attacks see: float32, bfloat16, or auto,
        # the one that this device is measured to be faster in; see
        # docs/performance.md. What the run began with stays.
        "crafting_dtype": "float32",
        # Seconds between two checkpoints within an epoch; one is written
        # after every epoch besides. The newest are kept, and the best by
        # validation robust accuracy.
        "checkpoint_seconds": 600.0,
        "checkpoints_kept": 3,
    }


def _distribution():
    """Return which devices share each batch; see docs/distribution.md."""
    return {
        # none; mirrored: all GPUs of this machine, TensorFlow; data_parallel:
        # all devices of all processes, JAX. Batch sizes are global.
        "strategy": "none",
        # For mirrored: batch norm of the global batch instead of each
        # device's part. On JAX it always is.
        "synchronized_batch_norm": False,
        # For data_parallel with several processes: HOST:PORT of process 0,
        # how many there are, and which one this is. None: as the variables
        # KERAS_DISTRIBUTION_JOB_ADDRESSES and so on say; without them, one.
        "job_addresses": config_dict.placeholder(str),
        "num_processes": config_dict.placeholder(int),
        "process_id": config_dict.placeholder(int),
    }


def _evaluate():
    return {
        # Which attacks, besides clean images: average, max_average, single
        # (each exit in turn), apgd_ce, auto_attack, or another name of
        # keras_neokd.attacks.BY_NAME, see docs/evaluation.md.
        "attacks": ("average", "max_average", "single"),
        # These two, and epsilon unless it is None, replace those of attack.
        "num_steps": 50,
        "num_restarts": 1,
        "epsilon": config_dict.placeholder(float),
        # The first of the test images; None: all.
        "num_examples": config_dict.placeholder(int),
        "batch_size": 256,
        "seed": 0,
        # Of every attack: seed, seed + 1 and so on; mean and deviation.
        "num_seeds": 1,
        # Of the attacks that search.
        "search": {
            # An image is fooled when all exits are wrong (the paper), when
            # any is, or each exit is attacked alone in turn.
            "success": "all",
            # For all that have such a setting. None: as their sections of
            # attack say; the defaults there are auto-attack's and, for cw,
            # torchattacks'.
            "num_steps": config_dict.placeholder(int),
            "num_restarts": config_dict.placeholder(int),
            "num_queries": config_dict.placeholder(int),
            # 0: all wrong classes.
            "num_targets": config_dict.placeholder(int),
            # dlr, or margin for fewer than 4 classes.
            "targeted_loss": config_dict.placeholder(str),
            "cw_c": config_dict.placeholder(float),
            "cw_num_steps": config_dict.placeholder(int),
        },
        # Of the protocols budgeted, transferability, transfer, sensitivity,
        # early_exit, early_exit_attacked, see docs/evaluation.md.
        "protocols": (),
        # What else to measure: local_linearity, gradient_alignment,
        # smoothing, precision; see docs/diagnostics.md.
        "diagnostics": (),
        # On at most so many of the images: each takes many passes.
        "diagnostics_examples": 500,
        # For gradient_alignment: a .keras file, and which of its outputs, by
        # last, the number of an output from 1, or its name.
        "teacher_file": config_dict.placeholder(str),
        "teacher_exit": "last",
    }


def _with_protocols(settings):
    """Add sections of protocols and diagnostics, none in a setting's place."""
    found = {}
    for protocol in known().values():
        if protocol.section in settings:
            raise ValueError(
                f"{protocol.title} cannot have a section {protocol.section!r}: "
                f"--config.evaluate.{protocol.section} is another setting. "
                "Give the protocol another name."
            )
        section = found.setdefault(protocol.section, {})
        for key, default in protocol.settings.items():
            section[key] = _or_none(default)
    for name, others in _unlike_functions().items():
        found[name] |= others
    sections = {name: section for name, section in found.items() if section}
    return {**settings, **sections}


def _unlike_functions():
    """Return settings that configs have besides, or with other defaults."""
    return {
        # clean, average or max_average. (): the sweep of 100 budgets.
        "budgeted": {"attack": "average", "budgets": ()},
        # Images to attack; 0: all that every exit classifies correctly.
        "transferability": {"subset": 0},
        # Between models: .keras files of the others.
        "transfer": {"model_files": (), "attack": "average"},
        # Values to try in turn; () leaves that curve out. None: up to one and
        # a half times the epsilon of the attacks.
        "sensitivity": {
            "attack": "average",
            "epsilons": config_dict.placeholder(tuple),
        },
        # Of the images that are timed in batches.
        "early_exit": {"batch_size": 64},
        # None: that of the attacks.
        "local_linearity": {"epsilon": config_dict.placeholder(float)},
        # In units of pixels in [0, 1].
        "smoothing": {"sigma": 0.25, "radii": (0.0, 0.25, 0.5, 0.75)},
    }


def _or_none(default):
    return config_dict.placeholder(object) if default is None else default
