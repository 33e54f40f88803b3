"""Records made by hand, as small as the schema allows."""

import copy
import json

# Everything that means something in HTML, Markdown, LaTeX or a formula.
NASTY = '<script>alert("1")</script> | & _a_ % $x$ {b} #1 ~ ^ `c` [d](e) \\'
EXITS = ("exit_1", "exit_2")
PGD = {"epsilon": 0.1, "num_steps": 50, "norm": "linf"}


def by_exit(*values):
    return dict(zip(EXITS, values, strict=True))


def accuracy_rows(*accuracies, top=1, exits=EXITS, **more):
    """Rows of accuracies; `more` holds a value per exit."""
    return [
        {
            "top": top,
            "exit": exit,
            "accuracy": accuracy,
            **{name: values[index] for name, values in more.items()},
        }
        for index, (exit, accuracy) in enumerate(
            zip(exits, accuracies, strict=True)
        )
    ]


def attack(name, *top1, rows=(), settings=None, **more):
    if settings is None:
        settings = {} if name == "clean" else PGD
    return {
        "name": name,
        "settings": settings,
        "seconds": 1.5,
        "rows": [*accuracy_rows(*top1), *rows],
        "findings": [],
        **more,
    }


def searched(name, *top1, kind="APGD", **settings):
    """An attack that searches, with settings of its own."""
    norm = "l2" if kind == "CW" else "linf"
    settings = {"epsilon": 0.1, "norm": norm, "num_steps": 20, **settings}
    described = {"class_name": kind, "config": settings}
    return attack(
        name,
        *top1,
        settings={**settings, "attack": described},
        search=[{"attack": "clean", "robust": 0.9}],
    )


def record(method="neo_kd", epsilon=0.1, attacks=None, **more):
    settings = {**PGD, "epsilon": epsilon}
    if attacks is None:
        attacks = [
            attack("clean", 0.9, 0.95),
            attack("average", 0.5, 0.25, settings=settings),
        ]
    return copy.deepcopy(
        {
            "schema_version": 2,
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
            "settings": {"attack": settings, "seed": 7, "num_seeds": 1},
            "exits": [
                {"name": name, "multiply_adds": cost, "parameters": 2000}
                for name, cost in by_exit(1_000_000, 4_000_000).items()
            ],
            "findings": [],
            "attacks": attacks,
            "diagnostics": [],
            **more,
        }
    )


def entry(name, rows, settings=None, findings=(), **summary):
    return {
        "name": name,
        "settings": settings or {},
        "seconds": 2.0,
        "rows": rows,
        "summary": summary,
        "findings": list(findings),
    }


def protocols():
    """Entries of every protocol that has a figure."""
    return [
        entry(
            "budgeted",
            [
                {
                    "budget": 1.5e6,
                    "multiply-adds": 1.25e6,
                    "accuracy": 0.5,
                    "threshold at exit_1": 0.75,
                },
                {
                    "budget": 3e6,
                    "multiply-adds": 3e6,
                    "accuracy": 0.75,
                    "threshold at exit_1": None,
                },
            ],
            {"attack": "average"},
        ),
        entry(
            "transferability",
            [
                {
                    "attack on": name,
                    "fooled at exit_1": first,
                    "fooled at exit_2": second,
                    "fooled at ensemble": 0.5,
                }
                for name, first, second in (
                    ("exit_1", 0.9, 0.1),
                    ("exit_2", 0.3, 0.8),
                )
            ],
            num_attacked=500,
            off_diagonal_mean=0.2,
        ),
        entry(
            "sensitivity",
            [
                {
                    "changed": name,
                    "value": value,
                    "exit": exit,
                    "accuracy": 1 - value / 10,
                }
                for name, values in (
                    ("epsilon", (0.0, 0.1)),
                    ("num_steps", (1, 5)),
                )
                for value in values
                for exit in EXITS
            ],
            findings=[{"code": "rises_with_epsilon", "message": "It rises."}],
        ),
    ]


def write(path, given):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(given))
    return path
