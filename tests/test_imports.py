"""Which module may import which, read from the syntax trees.

Every module of keras_neokd falls under the row of `ALLOWED` with the longest
matching name; the row lists the parts of the package that it may import.
A new top-level module needs a row of its own, so that adding one is a decision.
"""

import ast
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "keras_neokd"

# Small helpers at the bottom, which import nothing of the package but each
# other: every module may use them.
BASE = {"checks", "configurable", "randomness", "writing"}

# A row's own folder and `BASE` are always allowed. "*" is the whole package.
ALLOWED = {
    "": {"*"},
    "_version": set(),
    "checks": set(),
    "configurable": set(),
    "writing": set(),
    "randomness": set(),
    "backend": set(),
    "losses": set(),
    "optimizers": set(),
    "attacks": {"backend", "losses", "data.checks"},
    "methods": {
        "backend",
        "losses",
        "attacks.objective",
        "attacks.uniform_noise",
        "precision",
        "teacher",
    },
    "logs": set(),
    "batch": {"methods"},
    "crafting": set(),
    "precision": {"backend"},
    "heads": {"graphs"},
    "method_state": set(),
    "training_checks": {"attacks", "precision"},
    "teacher": {"backend", "losses", "heads"},
    "loops": {"data.checks", "data.sharing", "data.streams"},
    "training": {
        "backend",
        "attacks",
        "methods",
        "batch",
        "crafting",
        "logs",
        "loops",
        "method_state",
        "precision",
        "training_checks",
        "data.checks",
        "data.sharing",
    },
    "multi_exit": {
        "backend",
        "attacks",
        "methods",
        "models.costs",
        "export",
        "heads",
        "training",
        "graphs",
        "model_logits",
    },
    "models": {"backend", "data.files", "graphs", "multi_exit"},
    "data": set(),
    "evaluation": {
        "backend",
        "losses",
        "attacks",
        "data.arrays",
        "exit_policy",
        "inference",
        "multi_exit",
        "teacher",
    },
    "export": {"multi_exit"},
    "exit_policy": set(),
    "graphs": {"backend"},
    "model_logits": {"backend", "attacks.attack", "precision"},
    "inference": {"backend", "exit_policy", "multi_exit", "graphs"},
    "adapters": {"multi_exit"},
    "checkpoints": {"data.arrays"},
}

# What `pip install keras-neokd` brings, and so what may be imported anywhere.
CORE = {"keras", "numpy"}
FRAMEWORKS = {"tensorflow", "jax", "torch"}
# Optional packages and who may import them, inside functions only.
OPTIONAL = {
    "tensorflow": {"data", "export"},
    "tensorflow_datasets": {"data"},
    # A dependency of it.
    "requests": {"data"},
    "grain": {"data.streams"},
    "PIL": {"data"},
    "sklearn": {"data"},
    # To read state files of PyTorch's own.
    "torch": {"models.msdnet.pytorch"},
    "keras_cv": {"models.backbones"},
    "scipy": {"evaluation.smoothing"},
}
NEVER = {"apps", "configs", "tests"}
CONFIG_IMPORTS = {"ml_collections", "configs"}


class Import(NamedTuple):
    """One imported name: dotted path, line, and whether a function holds it."""

    name: str
    line: int
    in_function: bool


def parts_match(name, prefix):
    """Whether the dotted `name` is `prefix` or lies inside it."""
    return name == prefix or name.startswith(f"{prefix}.")


def import_names(node, package):
    """Return the dotted names that one syntax node imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            kept = package.split(".")[
                : len(package.split(".")) - node.level + 1
            ]
            base = ".".join([*kept, base] if base else kept)
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Attribute) and ast.unparse(node) == "keras.src":
        return ["keras.src"]
    is_dynamic = isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "importlib.import_module",
        "import_module",
        "__import__",
    )
    if is_dynamic and node.args and isinstance(node.args[0], ast.Constant):
        return [str(node.args[0].value)]
    return []


def find_imports(source, package):
    """Return every `Import` of a module's source text.

    Args:
        source: Python text.
        package: dotted name of the package that relative imports start from.
    """

    def visit(node, in_function):
        for name in import_names(node, package):
            yield Import(name, getattr(node, "lineno", 0), in_function)
        inside = in_function or isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        )
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    return list(visit(ast.parse(source), False))


def row_of(module):
    """Return the key of `ALLOWED` for a module named without the package."""
    rows = [row for row in ALLOWED if row and parts_match(module, row)]
    if rows:
        return max(rows, key=len)
    return "" if module == "" else None


def complaint(module, imported):
    """Return what is wrong with one import, or None.

    Args:
        module: importing module, named without the package; "" is its
            `__init__`.
        imported: an `Import`.
    """
    name = imported.name
    top = name.split(".")[0]
    if parts_match(name, "keras.src"):
        return "keras.src is private: use the public Keras API"
    if top in NEVER:
        return f"the package never imports {top}"
    if top == PACKAGE:
        return internal_complaint(module, name[len(PACKAGE) + 1 :])
    if top in sys.stdlib_module_names or top in CORE:
        return None
    if module.startswith("backend.") and top in FRAMEWORKS:
        own = module.split(".")[1]
        return None if top == own else f"backend.{own} imports {own} only"
    owners = OPTIONAL.get(top, set())
    if not any(parts_match(module, owner) for owner in owners):
        return f"{top} may not be imported here"
    return None if imported.in_function else f"import {top} inside a function"


def internal_complaint(module, target):
    """Return what is wrong with importing `target` of the package, or None."""
    row = row_of(module)
    if row is None:
        return "no row in ALLOWED: say there what this module may import"
    allowed = ALLOWED[row] | BASE
    own_folder = row and parts_match(target, row)
    if "*" in allowed or own_folder or target.startswith("_version"):
        return None
    if any(parts_match(target, name) for name in allowed):
        return None
    return f"{row} may import {sorted(allowed)}"


def module_files():
    """Return (module name without the package, its package, path) per file."""
    found = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        package = ".".join(parts[:-1])
        name = ".".join(part for part in parts[1:] if part != "__init__")
        found.append((name, package, path))
    return found


def test_every_module_keeps_to_its_row():
    problems = []
    for module, package, path in module_files():
        for imported in find_imports(path.read_text("utf-8"), package):
            reason = complaint(module, imported)
            if reason:
                place = f"{path.relative_to(ROOT)}:{imported.line}"
                problems.append(f"{place} imports {imported.name}: {reason}")
    assert not problems, "\n" + "\n".join(problems)


def test_every_module_has_a_row():
    without = [
        module for module, _, _ in module_files() if row_of(module) is None
    ]
    assert not without, f"add rows to ALLOWED for {without}"


def test_configs_import_only_ml_collections():
    problems = [
        f"{path.name}:{imported.line} imports {imported.name}"
        for path in sorted((ROOT / "configs").rglob("*.py"))
        for imported in find_imports(path.read_text("utf-8"), "configs")
        if imported.name.split(".")[0]
        not in CONFIG_IMPORTS | sys.stdlib_module_names
    ]
    assert not problems, "\n" + "\n".join(problems)


def test_nothing_private_of_keras_in_apps_and_tests():
    problems = [
        f"{path.relative_to(ROOT)}:{imported.line}"
        for folder in ("apps", "configs", "tests")
        for path in sorted((ROOT / folder).rglob("*.py"))
        for imported in find_imports(path.read_text("utf-8"), folder)
        if parts_match(imported.name, "keras.src")
    ]
    assert not problems, f"keras.src is private: {problems}"


@pytest.mark.parametrize(
    ("module", "source", "reason"),
    [
        ("losses", "import tensorflow as tf", "may not be imported here"),
        ("losses", "from keras_neokd.attacks.pgd import PGD", "losses may"),
        ("losses", "from .attacks import PGD", "losses may"),
        ("losses", "from . import backend", "losses may"),
        ("attacks.pgd", "from keras.src import ops", "private"),
        ("attacks.pgd", "import keras\nx = keras.src.ops", "private"),
        ("attacks.pgd", "def f():\n    import torch", "may not be"),
        ("attacks.pgd", "from tests import helpers", "never imports tests"),
        ("export", "import tensorflow as tf", "inside a function"),
        ("backend.jax", "import torch", "imports jax only"),
        (
            "multi_exit",
            "from keras_neokd.models import msdnet",
            "multi_exit may",
        ),
        (
            "models.msdnet",
            "import importlib\nimportlib.import_module('apps.train')",
            "never imports apps",
        ),
        ("novel", "from keras_neokd import losses", "no row"),
    ],
)
def test_a_forbidden_import_is_found(module, source, reason):
    reasons = [complaint(module, i) for i in find_imports(source, PACKAGE)]
    assert [found for found in reasons if found and reason in found]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("", "from keras_neokd import attacks"),
        ("losses", "import math\nimport keras\nfrom keras import ops"),
        ("attacks.pgd", "from keras_neokd import backend"),
        ("attacks.pgd", "from keras_neokd.attacks.attack import Attack"),
        ("backend.torch", "import torch\nfrom torch import nn"),
        ("data.cifar", "def load():\n    import tensorflow_datasets as tfds"),
        ("multi_exit", "from keras_neokd.models import costs"),
    ],
)
def test_an_allowed_import_passes(module, source):
    imports = find_imports(source, PACKAGE)
    assert imports
    assert [complaint(module, imported) for imported in imports] == [
        None for _ in imports
    ]
