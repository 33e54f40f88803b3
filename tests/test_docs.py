"""The Python of the guides runs as it stands there."""

import ast
import re
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd.attacks import BY_NAME as ATTACKS
from keras_neokd.evaluation import protocol
from keras_neokd.methods import BY_NAME as METHODS
from tests import arrays
from tests.apps.tiny import untrained_run
from tests.training import tiny

DOCS = Path(__file__).resolve().parents[1] / "docs"
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
# The same commands on fewer images, with fewer steps.
SHORTER = {
    "images, labels = data.test.arrays()": (
        "images, labels = (each[:80] for each in data.test.arrays())"
    ),
    "num_steps=50": "num_steps=2",
    "attacks.AutoAttack(\n    epsilon=0.15,": (
        "attacks.AutoAttack(\n    epsilon=0.15, num_steps=2, num_queries=5,"
    ),
    "attacks.APGD(0.15), attacks.Square(0.15)": (
        "attacks.APGD(0.15, 2), attacks.Square(0.15, 5)"
    ),
}


@pytest.fixture(autouse=True)
def registered(monkeypatch):
    """Give back what guides register."""
    for registry in (ATTACKS, METHODS):
        monkeypatch.setattr(registry, "_entries", dict(registry._entries))
    monkeypatch.setattr(protocol, "_KNOWN", dict(protocol._KNOWN))


@pytest.mark.slow
def test_the_python_of_the_evaluation_guide_runs(tmp_path, monkeypatch):
    untrained_run(tmp_path / "run").joinpath("model.keras").rename(
        tmp_path / "model.keras"
    )
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "evaluation.md").read_text("utf-8")
    for long, short in SHORTER.items():
        assert long in text, long
        text = text.replace(long, short)
    blocks = BLOCK.findall(text)
    assert len(blocks) >= 7
    names = {}
    for block in blocks:
        exec(compile(block, "docs/evaluation.md", "exec"), names)
    assert (tmp_path / "policy.json").exists()
    assert ATTACKS.made_by("iterative_fgsm") is type(names["mine"])
    assert "fooled" in protocol.known()


def test_the_attack_of_the_evaluation_guide_is_one():
    """Its steps are those of PGD, and its loss and exits can be replaced."""
    text = (DOCS / "evaluation.md").read_text("utf-8")
    (block,) = [each for each in BLOCK.findall(text) if "IterativeFGSM" in each]
    block = block.partition("mine = ")[0]
    names = {"attacks": attacks, "keras": keras}
    exec(compile(block, "docs/evaluation.md", "exec"), names)
    model, (images, labels) = tiny.dense_model(), tiny.data()
    predict = model.exit_logits()
    mine = ATTACKS.build("iterative_fgsm", {"num_steps": 2}, epsilon=0.1)
    pgd = attacks.PGD(0.1, 0.05, 2, random_start=False)
    for change in (
        lambda attack: attack,
        lambda attack: attack.with_objective(attacks.SingleExit(0)),
        lambda attack: attack.with_loss("margin"),
    ):
        found, expected = (
            arrays.array(change(each)(predict, images, labels))
            for each in (mine, pgd)
        )
        assert np.abs(found - images).max() > 0.09
        np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="`num_steps` needs an integer >= 1"):
        ATTACKS.build("iterative_fgsm", {"num_steps": 0}, epsilon=0.1)
    model = tiny.compiled(model, method=methods.TRADES(), attack=mine)
    logs = model.train_on_batch(images, labels, return_dict=True)
    assert np.isfinite(logs["loss"])


def test_the_method_of_the_methods_guide_is_one():
    text = (DOCS / "methods.md").read_text("utf-8")
    (block,) = [each for each in BLOCK.findall(text) if "Penalty" in each]
    exec(compile(block, "docs/methods.md", "exec"), {})
    assert METHODS.settings("penalty") == {"weight": 0.5}
    with pytest.raises(ValueError, match="`weight` needs a finite number >= 0"):
        METHODS.build("penalty", {"weight": -1.0})
    images, labels = tiny.data()
    logits = tiny.dense_model().exit_logits()(images)
    expected = sum(np.mean(np.square(arrays.array(each))) for each in logits)
    logs = {}
    for weight in (0.0, 2.0):
        method = METHODS.build("penalty", {"weight": weight})
        model = tiny.compiled(tiny.dense_model(), method=method)
        logs[weight] = model.train_on_batch(images, labels, return_dict=True)
    added = logs[2.0]["loss"] - logs[0.0]["loss"]
    assert added == pytest.approx(2 * expected, rel=1e-4)


@pytest.mark.slow
def test_the_arithmetic_of_the_distribution_guide_prints_what_it_says(capsys):
    text = (DOCS / "distribution.md").read_text("utf-8")
    (block,) = [each for each in BLOCK.findall(text) if "SUSTAINED" in each]
    said = text.partition(block)[2].split("```")[2].strip("\n")
    exec(compile(block, "docs/distribution.md", "exec"), {})
    assert capsys.readouterr().out.strip("\n") == said


@pytest.mark.slow
def test_the_measurement_of_the_data_guide_runs(capsys):
    text = (DOCS / "data.md").read_text("utf-8")
    (block,) = [
        each for each in BLOCK.findall(text) if "TrainingBatches" in each
    ]
    assert "folder, 1024, size" in block
    block = block.replace("folder, 1024, size", "folder, 16, size")
    exec(compile(block, "docs/data.md", "exec"), {})
    assert capsys.readouterr().out.count("images per second") == 2


def test_the_example_of_foolbox_gives_the_step():
    # Its own, epsilon / 30, is too short for 40 steps.
    text = (DOCS / "adapters.md").read_text("utf-8")
    (call,) = [
        node
        for block in BLOCK.findall(text)
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) == "foolbox.attacks.LinfPGD"
    ]
    given = {each.arg: ast.unparse(each.value) for each in call.keywords}
    assert given == {"rel_stepsize": "1 / 4", "steps": "20"}
