"""The package needs no framework but the one that Keras runs on.

A fresh interpreter hides the other frameworks, TensorFlow first of all, and
imports every module of the package, the apps, benchmarks and configs.
"""

import pytest

from tests.isolation import hidden_packages
from tests.isolation import run_without

IMPORT_EVERYTHING = """
import importlib
import pkgutil

from absl import flags


# What the benchmarks compare with is plain PyTorch; nothing else needs it.
PLAIN_TORCH = ("benchmarks.torch_baseline", "benchmarks.work.eager_step")
left_out = PLAIN_TORCH if "torch" in HIDDEN else ()


# A framework's own modules are named after it.
other_backends = tuple(
    f"keras_neokd.backend.{room}{name}"
    for name in HIDDEN
    for room in ("", "kernels.")
)


def raise_error(name):
    if not name.startswith((*other_backends, *left_out)):
        raise ImportError(f"could not import {name}")


def modules_of(package_name):
    package = importlib.import_module(package_name)
    yield package_name
    walk = pkgutil.walk_packages(
        package.__path__, f"{package_name}.", onerror=raise_error
    )
    for module in walk:
        yield module.name


for package_name in ("keras_neokd", "apps", "benchmarks", "configs"):
    for name in modules_of(package_name):
        if name.startswith((*other_backends, *left_out)):
            continue
        known = set(flags.FLAGS)
        importlib.import_module(name)
        print("imported", name)
        # Each app is a program of its own: two may define the same flag.
        for flag in set(flags.FLAGS) - known:
            delattr(flags.FLAGS, flag)
loaded = HIDDEN & {name.partition(".")[0] for name in sys.modules}
if loaded:
    raise SystemExit(f"hidden packages were imported: {sorted(loaded)}")
"""


def test_everything_imports_with_only_this_backend_installed():
    result = run_without(hidden_packages(), IMPORT_EVERYTHING)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "imported keras_neokd\n" in result.stdout


@pytest.mark.parametrize("package", hidden_packages())
def test_the_interpreter_really_hides_the_package(package):
    result = run_without([package], f"import {package}")
    assert result.returncode != 0
    assert f"No module named '{package}'" in result.stderr
