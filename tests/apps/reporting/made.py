"""Records made by hand, as small as the schema allows."""

import copy
import json

# Everything that means something in HTML, Markdown, LaTeX or a formula.
NASTY = '<script>alert("1")</script> | & _a_ % $x$ {b} #1 ~ ^ `c` [d](e) \\'
EXITS = ("exit_1", "exit_2")


def by_exit(*values):
    return dict(zip(EXITS, values, strict=True))


def attack(name, *top1, **more):
    return {
        "name": name,
        "seconds": 1.5,
        "top1": by_exit(*top1),
        "top1_average": sum(top1) / len(top1),
        **more,
    }


def searched(name, *top1, kind="APGD", **config):
    """An attack that searches, with settings of its own."""
    config = {"epsilon": 0.1, "num_steps": 20, **config}
    return attack(
        name,
        *top1,
        attack={"class_name": kind, "config": config},
        epsilon=config["epsilon"],
        norm=config.get("norm", "l2" if kind == "CW" else "linf"),
        signs=[],
    )


def record(method="neo_kd", epsilon=0.1, attacks=None, **more):
    if attacks is None:
        attacks = [attack("clean", 0.9, 0.95), attack("average", 0.5, 0.25)]
    return copy.deepcopy(
        {
            "schema_version": 1,
            "environment": {"backend": "jax", "keras_neokd": "0.1.0"},
            "config_sha256": "c" * 64,
            "model": "small_cnn",
            "model_sha256": "0123456789abcdef" * 4,
            "method": method,
            "data": {
                "name": "mnist",
                "split": "test",
                "num_examples": 1000,
                "num_classes": 10,
            },
            "settings": {
                "attack": {
                    "epsilon": epsilon,
                    "num_steps": 50,
                    "norm": "linf",
                },
                "seed": 7,
            },
            "exits": [
                {"name": name, "multiply_adds": cost, "parameters": 2000}
                for name, cost in by_exit(1_000_000, 4_000_000).items()
            ],
            "signs": [],
            "attacks": attacks,
            "diagnostics": [],
            **more,
        }
    )


def protocols():
    """Entries of every protocol that has a figure."""
    return [
        {
            "name": "budgeted",
            "settings": {"attack": "average"},
            "seconds": 2.0,
            "measures": {},
            "rows": [
                {
                    "budget": 1.5e6,
                    "multiply-adds": 1.25e6,
                    "accuracy": 0.5,
                    "thresholds": [0.75],
                },
                {
                    "budget": 3e6,
                    "multiply-adds": 3e6,
                    "accuracy": 0.75,
                    "thresholds": [None],
                },
            ],
        },
        {
            "name": "transferability",
            "settings": {},
            "seconds": 2.0,
            "measures": {},
            "rows": [
                {
                    "attack on": "exit_1",
                    "exit_1": 0.9,
                    "exit_2": 0.1,
                    "ensemble": 0.5,
                },
                {
                    "attack on": "exit_2",
                    "exit_1": 0.3,
                    "exit_2": 0.8,
                    "ensemble": 0.6,
                },
            ],
            "num_attacked": 500,
            "off_diagonal_mean": 0.2,
        },
        {
            "name": "sensitivity",
            "settings": {},
            "seconds": 2.0,
            "measures": {},
            "rows": [
                {"changed": name, "value": value, "average": 1 - value / 10}
                for name, values in (
                    ("epsilon", (0.0, 0.1)),
                    ("num_steps", (1, 5)),
                )
                for value in values
            ],
            "signs": [{"code": "rises_with_epsilon", "message": "It rises."}],
        },
    ]


def write(path, given):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(given))
    return path
