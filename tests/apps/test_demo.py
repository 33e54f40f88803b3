"""Train, evaluate, export and compare: all apps, end to end."""

import importlib.util
import json
import zlib

import keras
import pytest

from apps import building
from apps import demo
from apps import evaluating
from apps import workdir
from tests.apps.tiny import tiny_config

METHODS = ("nkd", "clean_training")


def demo_configs():
    configs = {method: tiny_config(method) for method in METHODS}
    for config in configs.values():
        config.train.epochs = 1
        config.evaluate.attacks = ("average", "max_average", "single")
    return configs


@pytest.fixture(scope="module")
def demonstrated(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    demo.demonstrate(demo_configs(), folder)
    return folder


@pytest.fixture
def run(demonstrated):
    return workdir.Workdir(demonstrated / "nkd")


def evaluate(config, run, results=None):
    results = results or run.results
    return evaluating.evaluate(
        config, run.model, results, results.with_name("plot.png")
    )


def test_the_demo_leaves_plots_and_a_saved_model(demonstrated, run):
    for name in ("learning_curves.png", "robustness.png"):
        assert (demonstrated / name).read_bytes().startswith(b"\x89PNG")
    assert run.robustness.read_bytes().startswith(b"\x89PNG")
    if importlib.util.find_spec("tensorflow"):
        assert (run.saved_model / "saved_model.pb").exists()


def test_the_demo_can_be_run_again(demonstrated, capsys):
    demo.demonstrate(demo_configs(), demonstrated)
    printed = capsys.readouterr().out
    assert printed.count("is finished") == 2
    assert "Evaluating" not in printed
    assert "epsilon 0.15" in printed
    assert "chance 10" in printed
    for method in METHODS:
        for attack in ("clean", "average", "max_average", "single_exit_1"):
            assert f"{attack}, {method}" in printed


def test_the_record_says_what_was_measured(run):
    record = json.loads(run.results.read_text())
    config, model = demo_configs()["nkd"], keras.saving.load_model(run.model)
    images, labels = building.load_data(config, model).test.arrays()
    assert record["schema_version"] == evaluating.SCHEMA_VERSION
    assert record["layer_dtypes"] == ["float32"]
    assert record["data"] == {
        "name": "digits",
        "split": "test",
        "num_examples": 24,
        "num_classes": 10,
        "checksum": zlib.crc32(images.tobytes() + labels.tobytes()),
    }
    assert record["settings"]["attack"]["epsilon"] == 0.15
    assert record["settings"]["seed"] == 0
    assert record["environment"]["backend"] == keras.config.backend()
    assert [each["multiply_adds"] for each in record["exits"]] == sorted(
        each["multiply_adds"] for each in record["exits"]
    )
    assert [each["name"] for each in record["attacks"]] == [
        *("clean", "average", "max_average"),
        *("single_exit_1", "single_exit_2", "single_exit_3"),
    ]
    for each in record["attacks"]:
        first, second = each["rows"][:3], each["rows"][3:]
        for rows, top in ((first, 1), (second, 5)):
            assert [row["top"] for row in rows] == [top] * 3
            exits = [row["exit"] for row in rows]
            assert exits == ["exit_1", "exit_2", "exit_3"]
        for row, wider in zip(first, second, strict=True):
            assert row["low"] <= row["accuracy"] <= wider["accuracy"]
        assert each["seconds"] >= 0
    shares = [row["selected_share"] for row in record["attacks"][2]["rows"][:3]]
    assert sum(shares) == pytest.approx(1)


def test_results_of_other_settings_are_not_mixed(run):
    config = run.read_config()
    with config.unlocked():
        config.evaluate.num_steps = 2
    with pytest.raises(
        ValueError, match=r"settings\.attack\.num_steps: there 1, now 2"
    ):
        evaluate(config, run)


def test_a_missing_model_is_named(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="no model at .*nowhere"):
        evaluating.evaluate(
            run.read_config(),
            tmp_path / "nowhere.keras",
            tmp_path / "results.json",
            tmp_path / "plot.png",
        )


def test_epsilon_may_be_zero_in_evaluation(run, tmp_path):
    config = tiny_config()
    config.evaluate.update({"epsilon": 0.0, "attacks": ("average",)})
    record = evaluate(config, run, tmp_path / "results.json")
    clean, attacked = record["attacks"]
    for one, other in zip(attacked["rows"], clean["rows"], strict=True):
        assert one["accuracy"] == other["accuracy"]
    assert record["settings"]["attack"]["epsilon"] == 0.0
