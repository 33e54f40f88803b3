"""The section `method` of all configs, and what each variant sets in it."""

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
            "noise": 8 / 255,
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


def method_section(variants):
    """Return the section `method` of a config.

    Args:
        variants: keys of `VARIANTS`; of a setting that several change, the
            first one counts.
    """
    section = config_dict.ConfigDict(_defaults())
    for variant in reversed(variants):
        section.update(VARIANTS[variant])
    section.name = "+".join(
        VARIANTS[variant].get("name", variant) for variant in variants
    )
    return section


def _defaults():
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
        "nkd_teacher": "neighbors",
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
            # Radius of uniform noise to train on instead of attacks.
            "noise": 0.0,
            # average, each, or numbers of exits from 1: "1,3".
            "exits": "average",
        },
    }
