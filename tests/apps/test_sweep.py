"""apps.sweep: a list of runs, done one after the other, in one table."""

import json
import os
from pathlib import Path

import keras
import pytest

from apps import sweeping
from tests.isolation import ROOT
from tests.isolation import run_app

pytestmark = pytest.mark.any_backend

# One step of 32 images, for runs that take seconds.
SWEEP = """
SHARED = [
    "--config.data.num_train=32",
    "--config.data.num_test=16",
    "--config.attack.name=average",
    "--config.attack.num_steps=1",
    "--config.train.epochs=1",
    "--config.evaluate.num_steps=1",
    "--config.evaluate.attacks=('average',)",
]
STUDENT = "--config.method.kdiga.teacher_file={workdir}/teacher/model.keras"


def get_runs():
    return {
        "teacher": ["--config=configs/digits.py:lw", *SHARED],
        "broken": ["--config=configs/digits.py:nkd", "--config.train.epoch=1"],
        "student": ["--config=configs/digits.py:kdiga", *SHARED, STUDENT],
    }
"""


@pytest.fixture(scope="module")
def sweep_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("sweep") / "sweep.py"
    path.write_text(SWEEP)
    return path


@pytest.fixture(autouse=True)
def _as_from_the_command_line(monkeypatch):
    """Runs are programs of the repository, under the backend in use."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("KERAS_BACKEND", keras.config.backend())


@pytest.fixture(scope="module")
def swept(sweep_file, tmp_path_factory):
    """Folder of a sweep with a broken run, and what the app said."""
    folder = tmp_path_factory.mktemp("runs") / "sweep"
    result = run_app(
        "sweep",
        f"--sweep={sweep_file}",
        f"--workdir={folder}",
        timeout=900,  # Six programs in one.
    )
    return folder, result


def times_of(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.keras")}


def test_a_broken_run_does_not_stop_the_others(swept):
    folder, result = swept
    assert result.returncode == 1
    assert "1 of 3 runs failed: broken. What they said" in result.stderr
    assert "--config.train.epoch, there is no" in result.stderr
    assert "Traceback" not in result.stderr
    assert "--- run 3 of 3: student" in result.stdout
    assert not (folder / "broken" / "model.keras").exists()


def test_a_run_can_use_the_model_of_another(swept):
    folder, _ = swept
    config = json.loads((folder / "student" / "config.json").read_text())
    teacher = config["method"]["kdiga"]["teacher_file"]
    assert Path(teacher) == folder / "teacher" / "model.keras"


def test_runs_are_of_the_backend_in_use(swept):
    folder, _ = swept
    record = json.loads((folder / "teacher" / "environment.json").read_text())
    assert record["backend"] == keras.config.backend()


def test_the_summary_says_what_all_finished_runs_came_to(swept):
    folder, result = swept
    rows = json.loads((folder / "summary.json").read_text())
    assert [(row["run"], row["method"]) for row in rows] == [
        ("teacher", "lw"),
        ("student", "kdiga"),
    ]
    for row in rows:
        results = json.loads((folder / row["run"] / "results.json").read_text())
        for attack in results["attacks"]:
            name, rows = attack["name"], attack["rows"]
            values = [each["accuracy"] for each in rows if each["top"] == 1]
            assert row[name] == round(100 * sum(values) / len(values), 2)
            exits = [float(each) for each in row[f"{name} exits"].split("/")]
            assert exits == pytest.approx(
                [100 * value for value in values], abs=0.051
            )
        assert row["images per second"] > 0
        assert row["loss of first epoch"] == row["loss of last epoch"] > 0
        assert row["training seconds"] >= 0
    table = (folder / "summary.md").read_text()
    assert table in result.stdout
    lines = table.splitlines()
    assert lines[0].startswith("| run | method | clean | clean exits | average")
    assert len(lines) == 4


def test_the_same_sweep_again_trains_nothing_and_can_be_a_part(
    swept, sweep_file, capfd
):
    folder, _ = swept
    before = times_of(folder)
    rows = sweeping.sweep(sweep_file, folder, only=["teach"])
    assert times_of(folder) == before
    assert "is finished; nothing to do" in capfd.readouterr().out
    assert [row["run"] for row in rows] == ["teacher", "student"]
    assert json.loads((folder / "summary.json").read_text()) == rows


def test_no_run_of_that_name(sweep_file, tmp_path):
    with pytest.raises(ValueError, match=r"No run of .*\['first'\].*teacher"):
        sweeping.sweep(sweep_file, tmp_path, only=["first"])
    assert not os.listdir(tmp_path)


def test_a_file_that_is_missing_or_no_sweep(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no file .*nowhere\.py"):
        sweeping.read_sweep(tmp_path / "nowhere.py")
    path = tmp_path / "other.py"
    path.write_text("RUNS = {}\n")
    with pytest.raises(ValueError, match=r"other\.py has no function get_runs"):
        sweeping.read_sweep(path)
