"""The apps as programs, each installed with only the backend in use."""

import json
import shutil

import keras
import pytest

from keras_neokd import ExitPolicy
from tests.isolation import hidden_packages
from tests.isolation import run_app
from tests.isolation import run_apps

TINY = (
    "--config=configs/digits.py:nkd",
    "--config.data.num_train=32",
    "--config.data.num_test=24",
    "--config.attack.name=average",
    "--config.attack.num_steps=1",
    "--config.train.epochs=1",
)
FEW_STEPS = (
    "--config.evaluate.num_steps=1",
    "--config.evaluate.attacks=('average',)",
)
HAS_TENSORFLOW = keras.config.backend() == "tensorflow"


def run(app, *arguments):
    return run_app(app, *arguments, hidden=hidden_packages())


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Folder and messages of a run of apps.train."""
    folder = tmp_path_factory.mktemp("mains") / "run"
    result = run("train", *TINY, f"--workdir={folder}")
    assert result.returncode == 0, result.stderr
    return folder, result.stdout


def test_train_writes_a_model_and_says_what_is_left_out(trained):
    folder, said = trained
    assert (folder / "model.keras").exists()
    assert ("No TensorBoard logs" in said) == (not HAS_TENSORFLOW)
    assert (folder / "tensorboard").exists() == HAS_TENSORFLOW


def test_evaluate_takes_the_config_of_the_run_and_changes_to_it(trained):
    folder, _ = trained
    result = run(
        "evaluate",
        f"--workdir={folder}",
        *FEW_STEPS,
        "--config.evaluate.num_examples=16",
        f"--report={folder / 'report'}",
    )
    assert result.returncode == 0, result.stderr
    assert "nkd on digits" in (folder / "report/report.html").read_text()
    record = json.loads((folder / "results.json").read_text())
    assert record["method"] == "nkd"
    assert record["data"]["num_examples"] == 16
    assert record["settings"]["attack"]["num_steps"] == 1
    assert record["settings"]["attack"]["epsilon"] == 0.15
    assert [each["name"] for each in record["attacks"]] == ["clean", "average"]
    assert (folder / "robustness.png").exists()


def test_a_run_of_an_earlier_version_has_the_newer_settings(trained, tmp_path):
    folder, _ = trained
    config = json.loads((folder / "config.json").read_text())
    for name in ("diagnostics", "diagnostics_examples", "local_linearity"):
        del config["evaluate"][name]
    (tmp_path / "config.json").write_text(json.dumps(config))
    shutil.copy(folder / "model.keras", tmp_path)
    result = run(
        "evaluate",
        f"--workdir={tmp_path}",
        "--config.evaluate.attacks=()",
        "--config.evaluate.diagnostics=('local_linearity',)",
        "--config.evaluate.diagnostics_examples=4",
        "--config.evaluate.local_linearity.num_steps=2",
    )
    assert result.returncode == 0, result.stderr
    assert "deviation from linear" in result.stdout
    record = json.loads((tmp_path / "results.json").read_text())
    assert record["diagnostics"][0]["settings"]["num_steps"] == 2


# What is refused; the others in a folder of another data set.
REFUSED = {
    ("evaluate", "run", "--config=configs/digits.py:neo_kd"): (
        "With --workdir the config is that of the run"
    ),
    ("evaluate", "run", "--config.method.name=neo_kd"): (
        "--config.method.name says how a model is trained"
    ),
    # It would set thresholds by images that the model has learned.
    ("evaluate", "run", "--config.data.validation_size=10"): (
        "--config.data.validation_size says how a model is trained"
    ),
    ("evaluate", "--model=model.keras"): (
        "Give --workdir of a run, or --model, --config"
    ),
    ("export", "--model=model.keras"): (
        "Give --workdir of a run, or --model and --output"
    ),
    ("export", "run", "--form=stages"): (
        "--form is of an artefact: give --format"
    ),
    (
        *("export", "--model=model.keras", "--output=x"),
        *("--format=litert", "--attack=average"),
    ): "need the images of a run: give --workdir",
    # Or thresholds could be set on images that were trained on.
    ("evaluate", "moved", "--config.data.dir=elsewhere"): (
        "trained on other data"
    ),
    (
        *("evaluate", "moved", "--config.data.dir=elsewhere"),
        "--config.data.name=digits",
    ): "trained on other data",
}


@pytest.fixture(scope="module")
def answers(trained, tmp_path_factory):
    """What is said of each of these command lines."""
    moved = tmp_path_factory.mktemp("moved") / "run"
    shutil.copytree(trained[0], moved)
    environment = json.loads((moved / "environment.json").read_text())
    environment["data"]["train labels"] += 1
    (moved / "environment.json").write_text(json.dumps(environment))
    folders = {"run": trained[0], "moved": moved}
    lines = [
        [
            f"--workdir={folders[each]}" if each in folders else each
            for each in (*line, *(FEW_STEPS if "moved" in line else ()))
        ]
        for line in REFUSED
    ]
    return dict(zip(REFUSED, run_apps(lines, hidden_packages()), strict=True))


@pytest.mark.parametrize("line", REFUSED, ids=" ".join)
def test_evaluate_and_export_say_what_is_wrong_or_missing(answers, line):
    assert answers[line].returncode == 1
    assert REFUSED[line] in answers[line].stderr
    if "moved" in line:
        assert "train labels: there" in answers[line].stderr


def test_export_writes_a_saved_model_where_tensorflow_is_installed(trained):
    folder, _ = trained
    result = run("export", f"--workdir={folder}")
    exported = (folder / "saved_model" / "saved_model.pb").exists()
    assert exported == (result.returncode == 0) == HAS_TENSORFLOW
    if not HAS_TENSORFLOW:
        assert "TensorFlow, which is not installed" in result.stderr


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="TensorFlow is hidden here")
def test_export_writes_an_artefact_and_says_how_it_compares(trained, tmp_path):
    pytest.importorskip("ai_edge_litert")
    folder, _ = trained
    ExitPolicy((0.5, 0.5)).save(tmp_path / "policy.json")
    result = run(
        "export",
        f"--workdir={folder}",
        "--format=litert",
        "--form=stages",
        f"--policy={tmp_path / 'policy.json'}",
        "--attack=average",
        "--num_examples=8",
        "--max_robust_drop=0",
    )
    assert result.returncode == 0, result.stderr
    assert "on 8 test images" in result.stdout
    for kind in ("clean", "model attacked", "each attacked"):
        assert f"accuracy of policy, images {kind}: model" in result.stdout
    assert "decisions changed: 0" in result.stdout
    card = json.loads((folder / "litert_stages/card.json").read_text())
    assert card["policy"]["thresholds"] == [0.5, 0.5]
