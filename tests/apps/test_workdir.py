"""Versions are found whatever the package of a module is called."""

import importlib.metadata
import json
from pathlib import Path

import keras
import numpy as np
import pytest

from apps import workdir
from keras_neokd.base import versions


@pytest.fixture
def no_metadata(monkeypatch):
    """No package has metadata, as TensorFlow where it is tensorflow-cpu."""

    def missing(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", missing)
    monkeypatch.setattr(importlib.metadata, "distribution", missing)


def test_a_run_knows_its_versions_without_metadata(no_metadata):
    backend = keras.config.backend()
    environment = workdir.environment()
    assert environment["keras"] == keras.__version__
    assert environment["numpy"] == np.__version__
    assert environment[backend] == str(
        importlib.import_module(backend).__version__
    )


def test_versions_are_plain_texts():
    found = versions.of_modules(keras.config.backend())
    assert json.loads(json.dumps(found)) == found
    assert {type(each) for each in found.values()} == {str}


def test_nothing_else_asks_for_the_version_of_a_package():
    root = Path(workdir.__file__).parents[1]
    asking = [
        file.relative_to(root)
        for folder in ("apps", "keras_neokd", "configs")
        for file in (root / folder).rglob("*.py")
        if "importlib.metadata" in file.read_text("utf-8")
    ]
    assert not asking, "use base.versions: tensorflow-cpu is TensorFlow, too"
