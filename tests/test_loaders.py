"""No module of the project loads without care what others may have written.

Read from the syntax trees; `test_safe_loading.py` tries the loaders themselves.
"""

import ast

import pytest

from tests.isolation import ROOT
from tests.test_imports import find_imports

pytestmark = pytest.mark.any_backend

# Calls that load what may be of others, and the argument that makes them safe.
# What takes no memory before it judges sizes is `data/arrays.py` alone: of the
# rest, tensorflow_process.py reads what it has written itself a moment ago.
NEEDING = {
    "np.load": "allow_pickle=False",
    "np.lib.format.read_array": "allow_pickle=False",
    "torch.load": "weights_only=True",
}
# Other calls, by their last name, and the modules that may make them.
ALLOWED = {
    # tensorflow_process.py loads what it has written itself a moment ago.
    "load_model": {
        "keras_neokd/serving/model_files.py",
        "keras_neokd/serving/tensorflow_process.py",
    },
    "load_weights": {"keras_neokd/serving/weights.py", "weights"},
    "loads": {"json"},
    "enable_unsafe_deserialization": set(),
    "extract": set(),
    "extractall": set(),
    "unpack_archive": set(),
}


# Modules whose files are programs, and who may import them: msdnet/pytorch.py
# names an exception of torch.load.
PICKLES = {"cPickle", "cloudpickle", "dill", "joblib", "marshal", "pickle"}
PICKLES |= {"pickletools", "shelve", "_pickle"}
IMPORTS_PICKLE = {"keras_neokd/models/msdnet/pytorch.py"}


def is_safe(call, module):
    """Return whether a call in a module loads with care."""
    *owner, name = ast.unparse(call.func).split(".")
    wanted = NEEDING.get(".".join([*owner, name]))
    if wanted:
        return wanted in [ast.unparse(each) for each in call.keywords]
    if owner == ["pickle"]:
        return False
    return not owner or name not in ALLOWED or {module, *owner} & ALLOWED[name]


def unsafe_calls(source, module=""):
    """Return the calls in a module's text that load without care."""
    return [
        ast.unparse(node)
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and not is_safe(node, module)
    ]


def pickles_in(source):
    """Return which of `PICKLES` a module's text imports."""
    return {
        each.name.split(".")[0] for each in find_imports(source, "keras_neokd")
    } & PICKLES


@pytest.mark.parametrize("folder", ["keras_neokd", "apps", "configs"])
def test_nothing_is_unpickled(folder):
    found = {
        name: pickles_in(path.read_text("utf-8"))
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in [str(path.relative_to(ROOT))]
        if name not in IMPORTS_PICKLE
    }
    assert len(found) > 3
    assert {name: names for name, names in found.items() if names} == {}


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "import pickle as data",
        "from pickle import Unpickler",
        "def f():\n    import dill.session",
        "importlib.import_module('cloudpickle')",
    ],
)
def test_an_import_of_pickle_is_found(source):
    assert pickles_in(source)


@pytest.mark.parametrize("folder", ["keras_neokd", "apps", "configs"])
def test_every_loader_is_a_safe_one(folder):
    problems = {
        name: unsafe_calls(path.read_text("utf-8"), name)
        for path in sorted((ROOT / folder).rglob("*.py"))
        for name in [str(path.relative_to(ROOT))]
    }
    assert {name: found for name, found in problems.items() if found} == {}


@pytest.mark.parametrize(
    "source",
    [
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.lib.format.read_array(file)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "pickle.loads(content)",
        "keras.saving.load_model(path)",
        "archive.extractall(folder)",
        "shutil.unpack_archive(path)",
        "keras.config.enable_unsafe_deserialization()",
        "keras.Sequential().load_weights(path)",
    ],
)
def test_a_careless_loader_is_found(source):
    assert unsafe_calls(source)
