"""Check which module imports which, read from the syntax trees.

Every module of keras_neokd falls under the row of `ALLOWED` with the longest
matching name; the row lists the parts of the package that it may import.
A new top-level module needs a row of its own, so that adding one is a decision.
"""

import ast
import re
import sys
from typing import NamedTuple

import pytest

from tests.isolation import ROOT

pytestmark = pytest.mark.any_backend

PACKAGE = "keras_neokd"

# The room at the bottom, which every module may use.
BASE = {"base"}

# A row's own folder and `BASE` are always allowed. "*" is the whole package.
ALLOWED = {
    "": {"*"},
    "_version": set(),
    "base": set(),
    "losses": set(),
    "optimizers": set(),
    "backend": set(),
    "data": set(),
    "attacks": {"backend", "losses", "data.checks"},
    "methods": {
        "backend",
        "losses",
        "attacks.attack",
        "attacks.objective",
        "attacks.uniform_noise",
    },
    "methods.teacher": {"backend", "losses", "network.heads"},
    "training": {"backend", "attacks", "methods", "data"},
    "network": {"backend", "attacks", "methods", "training"},
    # The one way up: `MultiExitModel.export`, inside the function.
    "network.multi_exit": {
        "backend",
        "attacks",
        "methods",
        "training",
        "network",
        "serving.export",
    },
    "models": {"backend", "data.files", "network"},
    "serving": {"backend", "network"},
    "deployment": {"backend", "attacks", "network", "serving", "evaluation"},
    "serving.model_files": {"data.files"},
    "evaluation": {
        "backend",
        "losses",
        "attacks",
        "data.arrays",
        "methods.teacher",
        "network",
        "serving.predictor",
    },
}

# Public in spite of their names: methods of named tuples, the one that Keras
# gives subclasses of its optimizers, and the module of the version.
PUBLIC = {"_asdict", "_replace", "_get_variable_index", "_version"}

# What `pip install keras-neokd` brings, and so what may be imported anywhere.
CORE = {"keras", "numpy"}
FRAMEWORKS = {"tensorflow", "jax", "torch"}
# Optional packages and who may import them, inside functions only.
OPTIONAL = {
    "tensorflow": {
        "data",
        "serving.export",
        "deployment.writer",
        "deployment.formats",
    },
    "ai_edge_litert": {"deployment.formats.litert"},
    "onnx": {"deployment.formats.onnx"},
    "onnxruntime": {"deployment.formats.onnx"},
    "openvino": {"deployment.formats.openvino"},
    "tf2onnx": {"deployment.formats.onnx"},
    "tensorflow_datasets": {"data"},
    # A dependency of it.
    "grain": {"data.streams"},
    "PIL": {"data"},
    "sklearn": {"data"},
    # To read weights files of PyTorch's own.
    "torch": {"models.msdnet.pytorch"},
    "keras_cv": {"models.backbones"},
    "scipy": {"evaluation.smoothing", "evaluation.operating_point"},
    # A dependency of Keras.
    "h5py": {"serving.model_files"},
}
NEVER = {"apps", "benchmarks", "configs", "tests"}
CONFIG_IMPORTS = {"ml_collections", "configs", "keras_neokd"}


class Import(NamedTuple):
    """One imported name: dotted path, line, and whether a function holds it."""

    name: str
    line: int
    in_function: bool


def parts_match(name, prefix):
    """Return whether the dotted `name` is `prefix` or lies inside it."""
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
    """Return every `Import` of a text; relative ones start from `package`."""

    def visit(node, in_function):
        for name in import_names(node, package):
            yield Import(name, getattr(node, "lineno", 0), in_function)
        inside = in_function or isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
        )
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inside)

    return list(visit(ast.parse(source), False))


def is_private(name):
    """Return whether a name begins with one underscore, except `PUBLIC`."""
    return name.startswith("_") and name[:2] != "__" and name not in PUBLIC


_NAMED = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def names_made(tree):
    """Return the names that a file defines or assigns, attributes too."""
    made = set()
    for node in ast.walk(tree):
        if isinstance(node, _NAMED):
            made.add(node.name)
        elif isinstance(getattr(node, "ctx", None), ast.Store):
            made.add(getattr(node, "attr", getattr(node, "id", None)))
    return made


def names_imported(tree):
    """Return the names that the imports of a file bind."""
    return {
        (alias.asname or alias.name).split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }


def foreign_private_names(source):
    """Return `line: name` for each private name of another file."""
    tree = ast.parse(source)
    made, imported = names_made(tree), names_imported(tree)
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found += [(node, alias.name) for alias in node.names]
        elif isinstance(node, ast.Attribute):
            of_module = ast.unparse(node.value).split(".")[0] in imported
            if of_module or node.attr not in made:
                found.append((node, node.attr))
    return [
        f"{node.lineno}: {name}" for node, name in found if is_private(name)
    ]


def row_of(module):
    """Return the key of `ALLOWED` for a module named without the package."""
    rows = [row for row in ALLOWED if row and parts_match(module, row)]
    if rows:
        return max(rows, key=len)
    return "" if module == "" else None


def complaint(module, imported):
    """Return what is wrong with one `Import` of a module, or None."""
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
        own = module.removeprefix("backend.kernels.").removeprefix("backend.")
        own = re.split("[._]", own)[0]
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


@pytest.mark.parametrize("folder", [PACKAGE, "apps", "benchmarks", "configs"])
def test_no_private_name_of_another_file(folder):
    problems = [
        f"{path.relative_to(ROOT)}:{name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in foreign_private_names(path.read_text("utf-8"))
    ]
    assert not problems, "\n" + "\n".join(problems)


@pytest.mark.parametrize(
    "source",
    [
        "from keras_neokd.data.batches import _order",
        "from keras_neokd import losses\n_x = 1\nlosses._x",
        "import a.b\n_x = 1\na.b._x()",
        "def f(model):\n    return model._setup.method",
        "class Step:\n    def f(self):\n        return self._batch()",
    ],
)
def test_a_private_name_of_another_file_is_found(source):
    assert foreign_private_names(source)


def test_private_names_of_the_same_file_are_free():
    source = """
from keras_neokd import _version
class Row(tuple):
    def __init__(self):
        self._left = 1
    def __lt__(self, other):
        return self._left < other._left and _less(self._replace(a=1))
def _less(row):
    return super().__init__
"""
    assert not foreign_private_names(source)


def test_every_module_has_a_row():
    without = [
        module for module, _, _ in module_files() if row_of(module) is None
    ]
    assert not without, f"add rows to ALLOWED for {without}"


def top_of(name):
    return name.split(".")[0]


@pytest.mark.parametrize(
    ("folders", "is_wrong"),
    [
        (
            ["configs"],
            lambda name: (
                top_of(name) not in CONFIG_IMPORTS | sys.stdlib_module_names
            ),
        ),
        # What is installed imports nothing that is not.
        (
            ["apps", "configs"],
            lambda name: top_of(name) in ("benchmarks", "tests"),
        ),
        (
            ["apps", "benchmarks", "configs", "tests"],
            lambda name: parts_match(name, "keras.src"),
        ),
    ],
    ids=["configs", "installed", "keras"],
)
def test_nothing_outside_of_the_package_imports_what_it_must_not(
    folders, is_wrong
):
    problems = [
        f"{path.relative_to(ROOT)}:{imported.line} imports {imported.name}"
        for folder in folders
        for path in sorted((ROOT / folder).rglob("*.py"))
        for imported in find_imports(path.read_text("utf-8"), folder)
        if is_wrong(imported.name)
    ]
    assert not problems, "\n" + "\n".join(problems)


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
        ("serving.export", "import tensorflow as tf", "inside a function"),
        ("backend.jax", "import torch", "imports jax only"),
        ("backend.kernels.jax_pooling", "import torch", "imports jax only"),
        (
            "network.multi_exit",
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
        ("backend.kernels.jax_pooling", "import jax"),
        ("data.cifar", "def load():\n    import tensorflow_datasets as tfds"),
        ("network.multi_exit", "from keras_neokd.network import costs"),
    ],
)
def test_an_allowed_import_passes(module, source):
    imports = find_imports(source, PACKAGE)
    assert imports
    assert [complaint(module, imported) for imported in imports] == [
        None for _ in imports
    ]
