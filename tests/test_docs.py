"""The Python of the guides runs as it stands there."""

import ast
import re
from pathlib import Path

import pytest

from tests.apps.tiny import untrained_run

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
