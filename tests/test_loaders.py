"""No module of the project loads without care what others may have written.

Read from the syntax trees; `test_safe_loading.py` tries the loaders themselves.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Calls that load what may be of others, and the argument that makes them safe.
NEEDING = {"np.load": "allow_pickle=False", "torch.load": "weights_only=True"}
# Other calls, by their last name, and the modules that may make them.
ALLOWED = {
    # export.py loads what it has written itself a moment ago.
    "load_model": {"apps/model_files.py", "keras_neokd/export.py"},
    "load_weights": {"apps/weights.py"},
    "loads": {"json"},
    "enable_unsafe_deserialization": set(),
    "extract": set(),
    "extractall": set(),
    "unpack_archive": set(),
}


def is_safe(call, module):
    """Return whether a call in a module loads with care."""
    *owner, name = ast.unparse(call.func).split(".")
    if ".".join([*owner, name]) in NEEDING:
        wanted = NEEDING[f"{owner[0]}.{name}"]
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
