"""Run programs in an interpreter that has only the backend in use.

A finder of modules hides the other frameworks, TensorFlow first of all, as if
they were not installed.
"""

import os
import subprocess
import sys
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


def run_without(hidden, program, *arguments, timeout=300):
    """Run `program` in an interpreter that cannot see the `hidden` packages.

    It is given up after `timeout` seconds.
    """
    command = [sys.executable, "-c", PRELUDE + program, ",".join(hidden)]
    return subprocess.run(
        [*command, *arguments],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": keras.config.backend()},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def hidden_packages():
    """Return what an environment with only this backend does not have."""
    hidden = [name for name in FRAMEWORKS if name != keras.config.backend()]
    if "tensorflow" in hidden:
        hidden.extend(NEEDING_TENSORFLOW)
    return hidden
