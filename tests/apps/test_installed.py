"""The built wheel: one package, and commands that run anywhere."""

import zipfile

import pytest

from tests.isolation import ROOT
from tests.isolation import python

pytestmark = pytest.mark.any_backend


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build from a copy, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in ("keras_neokd", "apps", "configs", "setup.py", "README.md"):
        (source / name).symlink_to(ROOT / name)
    build = "from setuptools import build_meta; build_meta.build_wheel('..')"
    built = python("-c", build, cwd=source)
    assert built.returncode == 0, built.stderr
    return next(folder.glob("*.whl"))


def test_nothing_but_the_package_is_installed(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names}
    assert {each for each in tops if "dist-info" not in each} == {"keras_neokd"}
    assert {
        "keras_neokd/apps/train.py",
        "keras_neokd/configs/mnist.py",
        "keras_neokd/configs/sweeps/mnist_methods.py",
        "keras_neokd/py.typed",
    } <= {*names}


def test_the_command_runs_beside_folders_of_the_same_names(wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    for name in ("apps", "configs"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("raise ImportError")

    def neokd(*arguments):
        code = (
            f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); "
            "from keras_neokd.apps import neokd; neokd.main()"
        )
        return python("-c", code, *arguments, cwd=tmp_path)

    listed = neokd()
    assert listed.returncode == 0
    assert "  train " in listed.stdout and "  evaluate " in listed.stdout
    few = "--config.data.num_train=32", "--config.attack.num_steps=1"
    trained = neokd(
        *("train", "--config=digits:nkd", "--config.train.epochs=1", *few),
        f"--workdir={tmp_path / 'run'}",
    )
    assert trained.returncode == 0, trained.stderr
    assert (tmp_path / "run" / "model.keras").exists()
    unknown = neokd("trian")
    assert unknown.returncode == 1
    assert "There is no app 'trian'" in unknown.stderr
