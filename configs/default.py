"""Every setting of the apps, with its default; the schema of all configs.

    python -m apps.train --config=configs/default.py:neo_kd --workdir=runs/x

The variant after the colon is the training method: `adversarial_training`
("Adv. w/o Distill" in the paper's tables), `neo_kd`, another key of `VARIANTS`
in `configs/methods.py`, or a sum of them such as `neo_kd+kdiga`. Any value can
be changed on the command line, for example `--config.attack.name=average
--config.train.epochs=3`; a key that is not in the schema, or a value of another
type, is refused.
"""

from ml_collections import config_dict

from .methods import VARIANTS
from .methods import method_section


def get_config(variant="neo_kd"):
    """Return the settings: the paper's wherever it has one for all data.

    Args:
        variant: a key of `VARIANTS`, or several with + between them; of a
            setting that several change, the first one counts.

    Returns:
        A locked `ConfigDict` of plain values.

    Raises:
        ValueError: if the variant is unknown.
    """
    variants = variant.split("+")
    for each in variants:
        if each not in VARIANTS:
            raise ValueError(
                f"Unknown variant {each!r} after the colon of --config: "
                f"expected one of {', '.join(VARIANTS)}."
            )
    config = config_dict.ConfigDict(
        {
            "model": _model(),
            "data": _data(),
            "method": method_section(variants),
            "attack": _attack(),
            "optimizer": _optimizer(),
            "train": _train(),
            "distribution": _distribution(),
            "evaluate": _evaluate(),
        }
    )
    return config.lock()


def derive(variant, changes):
    """Return the default settings with some values replaced.

    Args:
        variant: one of `VARIANTS`.
        changes: nested dict of values; under `model.options` new keys are
            allowed, they are the model's own constructor arguments.

    Raises:
        KeyError, TypeError: if `changes` does not fit the schema.
    """
    config = get_config(variant)
    model = dict(changes["model"])
    with config.model.options.unlocked():
        config.model.options.update(model.pop("options", {}))
    config.update({**changes, "model": model})
    return config


def msdnet_options(**chosen):
    """Return `model.options` for `MSDNet`: its constructor's arguments.

    Args:
        **chosen: values that a config decides on; all others stay as the
            named constructor has them, unless set on the command line.
    """
    kinds = {
        "num_blocks": int,
        "base": int,
        "step": int,
        "step_mode": str,
        "initial_channels": int,
        "growth_rate": int,
        "growth_factors": tuple,
        "bottleneck_factors": tuple,
        "prune": str,
        "reduction": float,
        "stem": str,
        "head_channels": int,
        "initialization": str,
        "normalization": tuple,
    }
    return _options(kinds, chosen)


def resnet_options(**chosen):
    """Return `model.options` for `ResNet`: its constructors' arguments.

    Args:
        **chosen: as in `msdnet_options`.
    """
    kinds = {
        "depth": int,
        "stage_blocks": tuple,
        "stage_filters": tuple,
        "block": str,
        "stem": str,
        "exits": tuple,
        "activation": str,
        "normalization": tuple,
    }
    return _options(kinds, chosen)


def vision_transformer_options(**chosen):
    """Return `model.options` for `VisionTransformer`, as `resnet_options`.

    Args:
        **chosen: as in `msdnet_options`.
    """
    kinds = {
        "size": str,
        "patch_size": int,
        "width": int,
        "depth": int,
        "num_heads": int,
        "mlp_width": int,
        "pooling": str,
        "dropout": float,
        "exits": tuple,
        "activation": str,
        "normalization": tuple,
    }
    return _options(kinds, chosen)


def _options(kinds, chosen):
    placeholders = {
        name: config_dict.placeholder(kind) for name, kind in kinds.items()
    }
    return {**placeholders, **chosen}


def _model():
    return {
        # small_cnn (constructor mnist), msdnet (constructors cifar10,
        # cifar100, tiny_imagenet, imagenet), or resnet and vision_transformer
        # (constructors cifar10, cifar100, imagenet; one exit unless
        # options.exits says more).
        "name": "small_cnn",
        "constructor": "mnist",
        # None: as the constructor has it.
        "input_shape": config_dict.placeholder(tuple),
        "num_classes": config_dict.placeholder(int),
        # Other arguments of the constructor; None: as it has them.
        "options": {},
        # None: random weights. A .weights.h5 or .keras file of a model with
        # the same name, constructor and options. A run that goes on takes
        # its own checkpoints, and refuses a file with other content.
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
    return {
        # max_average, average, single, or noise (uniform, no attack).
        "name": "max_average",
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
        # Craft training examples in training mode, as triple-wins does.
        "training_mode": False,
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
        # Seconds between two checkpoints within an epoch; one is written
        # after every epoch besides. The newest are kept, and the best by
        # validation robust accuracy.
        "checkpoint_seconds": 600.0,
        "checkpoints_kept": 3,
    }


def _distribution():
    """Which devices share each batch; see docs/distribution.md."""
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
        # (each exit in turn); apgd_ce, apgd_dlr, apgd_t, fab, fab_t, square,
        # cw, cw_linf, auto_attack, auto_attack_plus, auto_attack_rand, see
        # docs/evaluation.md.
        "attacks": ("average", "max_average", "single"),
        "num_steps": 50,
        "num_restarts": 1,
        # None: that of training.
        "epsilon": config_dict.placeholder(float),
        # The first of the test images; None: all.
        "num_examples": config_dict.placeholder(int),
        "batch_size": 256,
        "seed": 0,
        # Of every attack: seed, seed + 1 and so on; mean and deviation.
        "num_seeds": 1,
        # Of the attacks that search. The defaults are auto-attack's and, for
        # cw, torchattacks'.
        "search": {
            # An image is fooled when all exits are wrong (the paper), when
            # any is, or each exit is attacked alone in turn.
            "success": "all",
            "num_steps": 100,
            "num_restarts": 1,
            "num_queries": 5_000,
            # 0: all wrong classes.
            "num_targets": 9,
            # dlr, or margin for fewer than 4 classes.
            "targeted_loss": "dlr",
            "cw_c": 1.0,
            "cw_num_steps": 50,
        },
        # Of the protocols budgeted, transferability, transfer, sensitivity,
        # early_exit, early_exit_attacked, see docs/evaluation.md.
        "protocols": (),
        "budgeted": {
            # clean, average or max_average.
            "attack": "average",
            # Thresholds from attacked or clean validation images.
            "threshold_data": "attacked",
            "ensemble": True,
            # Mean multiply-adds per image; (): the sweep of 100.
            "budgets": (),
        },
        "transferability": {
            "num_starts": 1,
            # Images to attack; 0: all that every exit classifies correctly.
            "subset": 0,
        },
        # Between models: .keras files of the others.
        "transfer": {
            "model_files": (),
            "attack": "average",
            "num_starts": 1,
        },
        "sensitivity": {
            "attack": "average",
            # Values to try in turn; () leaves that curve out. None: up to
            # one and a half times the epsilon of the attacks.
            "epsilons": config_dict.placeholder(tuple),
            "num_steps": (1, 5, 10, 20, 50),
        },
        "early_exit": {
            # Mean cost per image to aim at, as a share of the last exit's.
            "share_of_cost": 0.5,
            "ensemble": False,
            "num_calls": 100,
            "batch_size": 64,
        },
        # What else to measure: local_linearity, gradient_alignment,
        # smoothing, precision; see docs/diagnostics.md.
        "diagnostics": (),
        # On at most so many of the images: each takes many passes.
        "diagnostics_examples": 500,
        # epsilon None: that of the attacks.
        "local_linearity": {
            "epsilon": config_dict.placeholder(float),
            "step_size": 0.1,
            "num_steps": 50,
        },
        # For gradient_alignment: a .keras file, and which of its outputs, by
        # last, the number of an output from 1, or its name.
        "teacher_file": config_dict.placeholder(str),
        "teacher_exit": "last",
        # Randomised smoothing: noise, draws per image, alpha, and the L2
        # radii to report; all in units of pixels in [0, 1].
        "smoothing": {
            "sigma": 0.25,
            "num_selection": 100,
            "num_estimation": 10_000,
            "failure_probability": 0.001,
            "radii": (0.0, 0.25, 0.5, 0.75),
        },
    }
