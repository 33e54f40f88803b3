"""Each version of Python has an environment of its own."""

import os
import shutil
import subprocess
import sys

import pytest

from tests.isolation import ROOT

pytestmark = [
    pytest.mark.any_backend,
    pytest.mark.skipif(shutil.which("make") is None, reason="needs make"),
]


@pytest.fixture
def folder(tmp_path):
    """A folder to run make in, and pythons that only know their version."""
    for name, version in (("python3", "3.98"), ("python3.99", "3.99")):
        file = tmp_path / "bin" / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(f"#!/bin/sh\necho {version}\n")
        file.chmod(0o755)
    for name in ("setup.py", "keras_neokd/_version.py", "Makefile"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def make(folder, *arguments):
    """Return what make prints."""
    environment = {
        name: value
        for name, value in os.environ.items()
        # Of a make that runs these tests.
        if name not in ("PYTHON", "MAKEFLAGS", "MFLAGS", "MAKELEVEL")
    }
    environment["PATH"] = os.pathsep.join(
        [str(folder / "bin"), os.environ["PATH"]]
    )
    return subprocess.run(
        ["make", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def commands(folder, *arguments):
    """Return the commands that make would run."""
    return make(folder, "--dry-run", "test", *arguments)


def installed(folder, environment, version):
    """Put what make leaves there once an environment is made."""
    (folder / environment).mkdir()
    for name in (f"created-by-{version}", "test-installed"):
        (folder / environment / name).touch()


def test_python_3_makes_the_usual_environment(folder):
    planned = commands(folder)
    assert "python3 -m venv --clear .venv\n" in planned
    assert " .venv/bin/python -m pytest" in planned


def test_an_environment_is_made_once(folder):
    installed(folder, ".venv", "3.98")
    planned = commands(folder)
    assert "-m venv" not in planned
    assert "pip install" not in planned


def test_a_python_that_is_named_does_not_use_the_environment_of_another(folder):
    installed(folder, ".venv", "3.98")
    planned = commands(folder, "PYTHON=python3.99")
    assert "python3.99 -m venv --clear .venv-3.99\n" in planned
    assert " .venv-3.99/bin/python -m pytest" in planned
    assert ".venv/" not in planned


def test_an_environment_of_an_older_python_3_is_made_anew(folder):
    installed(folder, ".venv", "3.97")
    planned = commands(folder)
    assert "python3 -m venv --clear .venv\n" in planned
    assert "pip install" in planned


@pytest.mark.parametrize(
    ("target", "of_the_others"), [("test", 0), ("test-all", 1)]
)
def test_what_hardly_depends_on_the_backend_runs_under_one(
    folder, target, of_the_others
):
    installed(folder, ".venv", "3.98")
    (folder / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.any_backend\n"
        "def test_anywhere(): print('anywhere')\n"
        "def test_everywhere(): print('everywhere')\n"
    )
    shutil.copy(ROOT / "pytest.ini", folder)
    python = folder / ".venv/bin/python"
    python.parent.mkdir()
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    said = make(folder, target, "WORKERS=0", "PYTEST_ARGS=-s test_it.py")
    assert said.count("everywhere") == 3
    assert said.count("anywhere") == 1 + 2 * of_the_others
