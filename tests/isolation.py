"""Run programs in an interpreter that has only the backend in use.

A finder of modules hides the other frameworks, TensorFlow first of all, as if
they were not installed.
"""

import json
import os
import subprocess
import sys
import types
from pathlib import Path

import keras

ROOT = Path(__file__).resolve().parent.parent
FRAMEWORKS = ("tensorflow", "jax", "torch")
# Packages that bring TensorFlow along, so that they go where it goes.
NEEDING_TENSORFLOW = ("tensorflow_datasets", "keras_cv")

PRELUDE = """
import sys
from importlib.machinery import PathFinder

HIDDEN = set(sys.argv[1].split(","))


class HidingFinder(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        if name.partition(".")[0] in HIDDEN:
            return None  # what a finder says of a package not installed
        return super().find_spec(name, path, target)


sys.meta_path = [
    HidingFinder if finder is PathFinder else finder for finder in sys.meta_path
]
"""

RUN_APP = """
import runpy

sys.argv = sys.argv[2:]
runpy.run_module(sys.argv[0], run_name="__main__")
"""
# One after the other. What holds flags is imported anew for each of them.
RUN_APPS = """
import contextlib, io, json, runpy, traceback

WITH_FLAGS = {"absl", "apps", "configs", "ml_collections"}
found = []
for sys.argv in json.loads(sys.argv[2]):
    for name in [*sys.modules]:
        if name.partition(".")[0] in WITH_FLAGS:
            del sys.modules[name]
    status, said, error = 0, io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(error):
        try:
            runpy.run_module(sys.argv[0], run_name="__main__")
        except SystemExit as end:
            status = end.code or 0
        except Exception:
            status = 1
            traceback.print_exc()
    found.append((status, said.getvalue(), error.getvalue()))
print(json.dumps(found))
"""


def python(*arguments, cwd=ROOT, timeout=300, **variables):
    """Run an interpreter with the backend in use and other variables.

    It is given up after `timeout` seconds.
    """
    backend = {"KERAS_BACKEND": keras.config.backend()}
    return subprocess.run(
        [sys.executable, *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **backend, **variables},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def run_without(hidden, program, *arguments, **options):
    """Run `program` in an interpreter that cannot see the `hidden` packages."""
    program = PRELUDE + program
    return python("-c", program, ",".join(hidden), *arguments, **options)


def run_app(app, *arguments, hidden=(), **options):
    """Run an app as a program."""
    return run_without(hidden, RUN_APP, f"apps.{app}", *arguments, **options)


def run_apps(lines, hidden=()):
    """Run apps in one interpreter, which imports Keras only once.

    Args:
        lines: a list of texts for each, the name of the app first.
        hidden: packages that the interpreter cannot see.

    Returns:
        For each what a process of its own would have: status and messages.
    """
    lines = [[f"apps.{app}", *map(str, rest)] for app, *rest in lines]
    result = run_without(hidden, RUN_APPS, json.dumps(lines))
    assert result.returncode == 0, result.stderr
    names = ("returncode", "stdout", "stderr")
    return [
        types.SimpleNamespace(**dict(zip(names, each, strict=True)))
        for each in json.loads(result.stdout.splitlines()[-1])
    ]


def hidden_packages():
    """Return what an environment with only this backend does not have."""
    hidden = [name for name in FRAMEWORKS if name != keras.config.backend()]
    if "tensorflow" in hidden:
        hidden.extend(NEEDING_TENSORFLOW)
    return hidden
