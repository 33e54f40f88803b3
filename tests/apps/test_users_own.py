"""A user's own method, attack and model are used without a line of ours."""

import json
import sys

import pytest

from apps import config_files
from tests.isolation import ROOT
from tests.isolation import python

pytestmark = pytest.mark.any_backend
MODULE = """
import keras

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd import models


@methods.register("penalty", strong_penalty={"weight": 5.0})
@keras.saving.register_keras_serializable("mine")
class Penalty(methods.Method):
    exit_arguments = ("exit",)

    def __init__(self, num_examples, weight=0.5, exit=0, scale=None):
        self.num_images = num_examples
        self.weight, self.exit, self.scale = weight, exit, scale
        print(f"Penalty {num_examples}, {weight!r}, {exit!r}, {scale!r}")

    def extra_term_names(self):
        return ("penalty",)

    def extra_terms(self, context):
        values = keras.ops.mean(keras.ops.square(context.clean), axis=-1)
        return [methods.Term("penalty", values, (self.weight,) * 2)]


@attacks.register("shift")
@keras.saving.register_keras_serializable("mine")
class Shift(attacks.Attack):
    def __init__(self, epsilon, share=1.0):
        super().__init__(epsilon)
        self.share = share
        print(f"Shift {epsilon!r}, {share!r}")

    def perturb(self, predict, images, labels, keys):
        return images + self.share * self.epsilon, {}


@models.register("two_exits")
def two_exits(input_shape=(28, 28, 1), num_classes=10, width=4):
    print(f"two_exits {width!r}")
    inputs = keras.Input(input_shape)
    hidden = keras.layers.Dense(width)(keras.layers.Flatten()(inputs))
    outputs = {
        f"exit_{i}": keras.layers.Dense(num_classes, name=f"exit_{i}")(hidden)
        for i in (1, 2)
    }
    return MultiExitModel(inputs, outputs, name="two_exits")
"""


def run(app, *arguments, cwd):
    return python(
        "-m", f"apps.{app}", *arguments, cwd=cwd, PYTHONPATH=str(ROOT)
    )


def test_a_run_is_trained_and_evaluated_with_things_of_the_user(tmp_path):
    """Their module is imported by its name first, and then by its path."""
    (tmp_path / "my_module.py").write_text(MODULE)
    trained = run(
        "train",
        "--config=digits:nkd",
        "--import=my_module",
        "--config.method.name=neo_kd+0.5*penalty",
        "--config.method.neo_kd.exit_weights=(1,1)",
        "--config.method.penalty.weight=2",
        "--config.method.penalty.exit=last",
        "--config.method.penalty.scale=1/4",
        "--config.attack.name=shift",
        "--config.attack.shift.share=1/2",
        "--config.model.name=two_exits",
        "--config.model.two_exits.width=3",
        "--config.data.num_train=64",
        "--config.train.epochs=1",
        "--workdir=run",
        cwd=tmp_path,
    )
    assert trained.returncode == 0, trained.stderr
    assert "Penalty 64, 2.0, -1, 0.25" in trained.stdout
    assert "Shift 0.15, 0.5" in trained.stdout
    assert "two_exits 3" in trained.stdout
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    # The sections of the names in use, and no others.
    assert {*config["method"]} == {"name", "neo_kd", "penalty"}
    assert config["method"]["penalty"] == {
        "weight": 2.0,
        "exit": "last",
        "scale": 0.25,
    }
    assert config["model"]["two_exits"]["width"] == 3
    assert "msdnet" not in config["model"]
    assert config["attack"]["shift"] == {"share": 0.5}
    evaluated = run(
        "evaluate",
        "--workdir=run",
        "--import=my_module.py",
        "--config.evaluate.attacks=('average','shift')",
        "--config.evaluate.num_steps=1",
        "--config.evaluate.num_examples=16",
        cwd=tmp_path,
    )
    assert evaluated.returncode == 0, evaluated.stderr
    record = json.loads((tmp_path / "run" / "results.json").read_text())
    names = [each["name"] for each in record["attacks"]]
    assert names == ["clean", "average", "shift"]
    shift = record["attacks"][-1]["settings"]
    assert shift["attack"]["config"] == {"epsilon": 0.15, "share": 0.5}
    assert "num_steps" not in shift


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("nowhere", "--import=nowhere ended in ModuleNotFoundError"),
        ("nowhere.py", "--import=nowhere.py ended in FileNotFoundError"),
        (
            "a.py,b/c.py",
            "--import=a.py,b/c.py needs one module. Give the flag once for "
            "each: --import=a.py --import=b/c.py",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_named(
    place, message, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    with pytest.raises(ValueError, match=message):
        config_files.import_module(place)
