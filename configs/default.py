"""Every setting of the apps, with its default; the schema of all configs.

    python -m apps.train --config=configs/default.py:neo_kd --workdir=runs/x

The variant after the colon is the training method: `adversarial_training`
("Adv. w/o Distill" in the paper's tables), `neo_kd`, another key of `VARIANTS`
below, or a sum of them such as `neo_kd+kdiga`. Any value can be changed on
the command line, for example `--config.attack.name=average
--config.train.epochs=3`; a key that is not in this file, or a value of another
type, is refused.
"""

from ml_collections import config_dict

_AUTHOR_2021 = {
    "alignment_weight": 0.5,
    "norm": "batch",
    "reduction": "mean",
}

# What each variant changes in the section `method`.
VARIANTS = {
    "adversarial_training": {},
    # Both cross-entropies weighed with 0.5, as in triple-wins.
    "triple_wins": {
        "name": "adversarial_training",
        "clean_weight": 0.5,
        "adversarial_weight": 0.5,
    },
    # No attack at all.
    "clean_training": {
        "name": "adversarial_training",
        "adversarial_weight": 0.0,
    },
    "nkd": {},
    "eokd": {},
    "neo_kd": {},
    "skd": {},
    # The code of Phuong and Lampert, with constant and growing temperature.
    "skd_phuong": {},
    "skd_annealing": {"name": "skd_phuong", "skd_phuong": {"annealing": True}},
    "ard": {},
    # The code of Goldblum et al.
    "ard_goldblum": {
        "name": "ard",
        "ard": {"temperature": 30.0, "reduction": "mean"},
    },
    "lw": {},
    "trades": {},
    # PGD-TE and TRADES-TE.
    "teat": {},
    "teat_trades": {"name": "teat", "teat": {"variant": "trades"}},
    "kdiga": {},
    # The same without alignment.
    "kd": {"name": "kdiga", "kdiga": {"alignment_weight": 0.0}},
    # The authors' code; rs trains on noisy images, rd aligns nothing.
    "kdiga_author_2021": {"name": "kdiga", "kdiga": {**_AUTHOR_2021}},
    "kdiga_rs": {
        "name": "kdiga",
        "kdiga": {
            **_AUTHOR_2021,
            "clean_weight": 0.0,
            "adversarial_weight": 0.5,
            "distillation": "adversarial",
            "alignment": "adversarial",
        },
    },
    "kdiga_rd": {
        "name": "kdiga",
        "kdiga": {
            **_AUTHOR_2021,
            "alignment_weight": 0.0,
            "distillation": "adversarial",
        },
    },
    "kdiga_ard": {
        "name": "kdiga",
        "kdiga": {**_AUTHOR_2021, "distillation": "adversarial"},
    },
}


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
            "method": _method(variants),
            "attack": _attack("kdiga_rs" in variants),
            "optimizer": _optimizer(),
            "train": _train(),
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
        # the same name, constructor and options.
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
        # digits, mnist, cifar10, cifar100 or npz.
        "name": "digits",
        # Folder with the files; None: $KERAS_NEOKD_DATA, else a download.
        "dir": config_dict.placeholder(str),
        # Training images set apart for validation.
        "validation_size": 0,
        "batch_size": 128,
        # None, or crop_flip: random crop after padding by 4, and mirroring.
        "augment": config_dict.placeholder(str),
        # None: all images.
        "num_train": config_dict.placeholder(int),
        "num_test": config_dict.placeholder(int),
    }


def _method(variants):
    section = config_dict.ConfigDict(_method_defaults())
    for variant in reversed(variants):
        section.update(VARIANTS[variant])
    section.name = "+".join(
        VARIANTS[variant].get("name", variant) for variant in variants
    )
    return section


def _method_defaults():
    return {
        # Methods of keras_neokd.methods, + between those that add up.
        "name": "",
        # In a sum: weights of all methods but the first. (): all 1.
        "sum_weights": (),
        # adversarial_training: weights of both cross-entropies.
        "clean_weight": 1.0,
        "adversarial_weight": 1.0,
        # alpha, beta and gamma of Eq. 7; gamma None: the paper's values for
        # 3, 5 and 7 exits.
        "nkd_weight": 3.0,
        "eokd_weight": 1.0,
        "exit_weights": config_dict.placeholder(tuple),
        # NKD: neighbors, none or all (Table 7).
        "teacher": "neighbors",
        # NKD's neighbours on each side.
        "radius": 1,
        # EOKD: classes are redrawn every epoch, batch or sample, or fixed.
        "allocation": "epoch",
        # EOKD: drop the classes that are left over, or spread them.
        "left_over": "drop",
        # NKD and EOKD: cross_entropy or kl, equal gradients.
        "divergence": "cross_entropy",
        "temperature": 1.0,
        "skd": {
            "weight": 0.35,
            "temperature": 1.5,
            # last, ensemble, or the number of an exit, from 1 (Table A4).
            "teacher": "last",
        },
        "skd_phuong": {
            "teacher": "last",
            # Let the temperature grow from 1; else it is 4.
            "annealing": False,
        },
        "ard": {
            # Times temperature**2.
            "weight": 1.0,
            "temperature": 1.0,
            "teacher": "last",
            # sum or mean over classes.
            "reduction": "sum",
        },
        # TRADES and TRADES-TE: weight of the divergence.
        "beta": 6.0,
        "lw": {
            "weight": 0.01,
            # norm, squared_norm or hinge.
            "form": "norm",
            # None: 1 for each exit.
            "exit_weights": config_dict.placeholder(tuple),
        },
        "teat": {
            # pgd or trades.
            "variant": "pgd",
            "weight": 300.0,
            "momentum": 0.9,
        },
        # The arguments of keras_neokd.methods.KDIGA.
        "kdiga": {
            # A .keras file; there is no default.
            "teacher_file": config_dict.placeholder(str),
            # last, the number of an exit from 1, or its name.
            "teacher_exit": "last",
            "clean_weight": 0.5,
            "adversarial_weight": 0.0,
            "distillation_weight": 0.5,
            "alignment_weight": 1.0,
            "temperature": 1.0,
            # clean, adversarial or clean_to_adversarial.
            "distillation": "clean",
            # clean or adversarial.
            "alignment": "clean",
            # example or batch.
            "norm": "example",
            # sum or mean over classes.
            "reduction": "sum",
            # none or teacher_correct.
            "mask": "none",
            # average, each, or numbers of exits from 1: "1,3".
            "exits": "average",
        },
    }


def _attack(is_noise):
    return {
        # max_average, average, single, or noise (uniform, no attack).
        "name": "noise" if is_noise else "max_average",
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
        # none, or mirrored: all local devices, TensorFlow only.
        "distribution": "none",
    }


def _evaluate():
    return {
        # Which attacks, besides clean images: average, max_average, single
        # (each exit in turn).
        "attacks": ("average", "max_average", "single"),
        "num_steps": 50,
        "num_restarts": 1,
        # None: that of training.
        "epsilon": config_dict.placeholder(float),
        # The first of the test images; None: all.
        "num_examples": config_dict.placeholder(int),
        "batch_size": 256,
        "seed": 0,
        # What else to measure: local_linearity, gradient_alignment,
        # smoothing; see docs/diagnostics.md.
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
        # name or number, from 1; None: the last.
        "teacher_file": config_dict.placeholder(str),
        "teacher_exit": config_dict.placeholder(str),
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
