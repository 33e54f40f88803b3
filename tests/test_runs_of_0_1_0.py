"""Run folders of 0.1.0 go on being read: configs, records, half a run.

As tests/test_files_of_0_1_0.py; tests/fixtures/0_1_0/README.md says more.
"""

import json
import lzma
import shutil
from pathlib import Path

import keras
import pytest

from apps import building
from apps import config_files
from apps import evaluating
from apps import run_config
from apps import sweeping
from apps import training
from apps import workdir
from apps.reporting import layout
from apps.reporting import records
from apps.reporting import version_1
from apps.reporting import writing
from apps.workdir import Workdir
from keras_neokd import ExitPolicy

FIXTURES = Path(__file__).parent / "fixtures" / "0_1_0"
CONFIGS = FIXTURES / "configs_of_runs"
RUNS = FIXTURES / "finished"
HALF_DONE = FIXTURES / "half_done"
DESCRIBED = json.loads((CONFIGS / "described.json").read_text())


def copied(source, target):
    """Copy a folder of files, and unpack those that are packed."""
    shutil.copytree(source, target)
    for path in target.rglob("*.xz"):
        path.with_suffix("").write_bytes(lzma.decompress(path.read_bytes()))
        path.unlink()
    return Workdir(target)


# Defaults of `evaluate.search`, which are those of the attacks today.
SEARCH = {
    "evaluate.search.num_steps": 100,
    "evaluate.search.num_restarts": 1,
    "evaluate.search.num_queries": 5000,
    "evaluate.search.num_targets": 9,
    "evaluate.search.targeted_loss": "dlr",
    "evaluate.search.cw_c": 1.0,
    "evaluate.search.cw_num_steps": 50,
}


# Configs.


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_config_is_built_into_what_it_was(name, tmp_path, monkeypatch):
    # One of them names its teacher's file.
    copied(FIXTURES / "models", tmp_path / "models")
    monkeypatch.chdir(tmp_path)
    config = run_config.read(Workdir(CONFIGS / name))
    model = building.build_model(config)
    arguments = building.compile_arguments(config, model.num_exits, 1437)
    assert DESCRIBED[name] == {
        "model": model.name,
        "exits": list(model.exit_names),
        "parameters": model.count_params(),
        "method": repr(arguments["method"]),
        "attack": repr(arguments["attack"]),
        "rates": [building.learning_rate(config, e) for e in (0, 99, 299)],
    }


@pytest.mark.parametrize("name", DESCRIBED)
def test_a_config_keeps_every_value(name):
    run = Workdir(CONFIGS / name)
    recorded = workdir.read_json(run.config)
    old = recorded["model"]
    moved = ("method.", "model.name", "model.constructor", "model.options.")
    moved += ("model.input_shape", "model.num_classes")
    recorded_values = workdir.flatten(recorded)
    before = {
        key: value
        for key, value in recorded_values.items()
        # They have other sections today; the test above builds them.
        if not key.startswith(moved) and key not in SEARCH
    }
    now = workdir.flatten(run_config.read(run))
    assert len(before) > 70
    assert {key: now.get(key) for key in before} == before
    assert {key: recorded_values[key] for key in SEARCH} == SEARCH
    assert {key: now[key] for key in SEARCH} == dict.fromkeys(SEARCH)
    section = f"model.{old['name']}_{old['constructor']}"
    for key, value in old["options"].items():
        if value is not None:
            assert now[f"{section}.{key}"] == value


# Half a run.


@pytest.fixture
def half_done(tmp_path):
    """A run that was killed within its first epoch."""
    return copied(HALF_DONE / "torch", tmp_path / "run")


def told_backend(run):
    """Let a run say that it began under the backend of this process."""
    environment = workdir.read_json(run.environment)
    assert environment["backend"] == "torch"
    environment["backend"] = keras.config.backend()
    workdir.write_json(run.environment, environment)


def test_a_checkpoint_that_says_nothing_of_its_run_is_refused(half_done):
    """Checkpoints of 0.1.0 do not; the sentence says what to do."""
    told_backend(half_done)
    files = sorted(half_done.checkpoints.iterdir())
    assert [file.name[:11] for file in files if file.name[0] == "e"] == [
        "epoch_00000"
    ]
    contents = [file.read_bytes() for file in files]
    with pytest.raises(ValueError) as error:
        training.train(run_config.read(half_done), half_done.path)
    said = str(error.value)
    assert said.startswith(f"The checkpoint {half_done.checkpoints}")
    assert (
        "does not say of which run it is: an earlier version of keras_neokd "
        "wrote it, or another program. Finish the run with that version, or "
        "begin anew in another folder."
    ) in said
    # That version still can.
    assert sorted(half_done.checkpoints.iterdir()) == files
    assert [file.read_bytes() for file in files] == contents


def test_a_run_without_checkpoints_goes_on(half_done):
    """Its config, environment and data are taken for the same as today's."""
    told_backend(half_done)
    shutil.rmtree(half_done.checkpoints)
    short = workdir.read_json(half_done.config)
    # Quickly compiled, and one epoch of forty.
    short["train"].update({"epochs": 1, "validation": "none"})
    short["attack"].update({"name": "average", "num_steps": 1})
    workdir.write_json(half_done.config, short)
    environment = half_done.environment.read_bytes()
    training.train(run_config.read(half_done), half_done.path)
    assert half_done.is_finished
    assert len(half_done.read_history()) == 1
    assert workdir.read_json(half_done.config) == short
    assert half_done.environment.read_bytes() == environment


def test_a_run_without_checkpoints_is_refused_with_other_data(half_done):
    told_backend(half_done)
    shutil.rmtree(half_done.checkpoints)
    environment = workdir.read_json(half_done.environment)
    assert environment["data"]
    for key in environment["data"]:
        environment["data"][key] = -1
    workdir.write_json(half_done.environment, environment)
    with pytest.raises(ValueError, match="was trained on other data") as error:
        training.train(run_config.read(half_done), half_done.path)
    for key in environment["data"]:
        assert f"  {key}: there -1, now " in str(error.value)


def test_only_the_backend_keeps_a_run_from_going_on(half_done):
    environment = workdir.read_json(half_done.environment)
    environment["backend"] = "another"
    workdir.write_json(half_done.environment, environment)
    with pytest.raises(ValueError) as error:
        half_done.check(run_config.read(half_done))
    _, *differences, _ = str(error.value).splitlines()
    backend = keras.config.backend()
    assert differences == [f'  backend: there "another", now "{backend}"']


def test_other_settings_than_those_of_the_run_are_refused(half_done):
    told_backend(half_done)
    config = run_config.read(half_done)
    config.attack.epsilon = 0.25
    with pytest.raises(ValueError, match="attack.epsilon: there 0.15, now 0.2"):
        training.train(config, half_done.path)


# A finished run.


@pytest.fixture
def finished(tmp_path):
    return copied(RUNS / "tiny", tmp_path / "tiny")


def test_a_finished_run_is_left_alone(finished, capsys):
    told_backend(finished)
    training.train(run_config.read(finished), finished.path)
    assert "is finished; nothing to do" in capsys.readouterr().out


CONFIG_OF_TODAY = """
from configs import default


def get_config(variant):
    return default.derive(
        variant,
        {
            "model": {
                "name": "vision_transformer_cifar10",
                "vision_transformer_cifar10": {
                    "input_shape": (28, 28, 1),
                    "patch_size": 7,
                    "width": 8,
                    "depth": 3,
                    "num_heads": 2,
                    "mlp_width": 8,
                    "exits": (1, 2, 3),
                },
            },
            "data": {
                "name": "digits",
                "batch_size": 16,
                "num_train": 64,
                "num_test": 40,
                "validation_size": 24,
            },
            "attack": {"epsilon": 0.15, "step_size": 0.0375, "num_steps": 2},
            "optimizer": {"learning_rate": 0.01, "milestones": (1,)},
            "train": {"epochs": 2, "validation": "attack"},
        },
    )
"""


def test_the_own_command_of_a_finished_run_says_so(finished, tmp_path, capsys):
    """The config file is the one of then, with the keys of today."""
    told_backend(finished)
    file = tmp_path / "tiny_digits.py"
    file.write_text(CONFIG_OF_TODAY)
    config = config_files.load(f"{file}:neo_kd")
    training.train(config, finished.path)
    assert "is finished; nothing to do" in capsys.readouterr().out
    config.evaluate.search.num_steps = 50
    with pytest.raises(ValueError, match="num_steps: there null, now 50"):
        training.train(config, finished.path)


def test_the_history_of_a_run_is_read(finished):
    rows = finished.read_history()
    assert [row["epoch"] for row in rows] == [0, 1]
    assert all(row["exit_3_adversarial_accuracy"] >= 0 for row in rows)


def test_the_policy_beside_a_record_is_read(finished):
    path = finished.path / "policy_of_results.json"
    policy = ExitPolicy.load(path)
    (entry,) = [
        each
        for each in records.read_file(finished.results)["diagnostics"]
        if each["name"] == "early_exit"
    ]
    assert policy.num_exits == 3
    assert list(policy.thresholds) == [
        row["threshold"] for row in entry["rows"][:-1]
    ]


def evaluated(run, attacks):
    """Go on with the record of a run, as `apps.evaluate` does."""
    config = run_config.read(run)
    record = workdir.read_json(run.results)
    section = config.evaluate
    section.update({"num_steps": 2, "batch_size": 12, "num_examples": 24})
    section.attacks = attacks
    section.search.update({"num_steps": 4, "num_queries": 20})
    section.search.update({"num_targets": 2, "cw_num_steps": 4})
    return record, evaluating.evaluate(
        config,
        run.model,
        run.results,
        run.path / "robustness.png",
        check_data=run.check_data,
    )


def without_sections(record):
    return {
        key: record[key]
        for key in record
        if key not in ("attacks", "diagnostics", "environment", "config_sha256")
    }


def test_an_evaluation_goes_on_with_its_record(finished):
    told_backend_of_record(finished)
    before, after = evaluated(finished, ("average", "square"))
    read = version_1.upgraded(before)
    assert after["attacks"] == read["attacks"]
    assert after["diagnostics"] == read["diagnostics"]
    # One that is missing is measured again, and comes to the same.
    (gone,) = [e for e in read["attacks"] if e["name"] == "average"]
    left = [e for e in before["attacks"] if e["name"] != "average"]
    workdir.write_json(finished.results, {**before, "attacks": left})
    _, after = evaluated(finished, ("average",))
    assert after["attacks"][:-1] == [
        each for each in read["attacks"] if each is not gone
    ]
    again = after["attacks"][-1]
    assert top1(again) == pytest.approx(top1(gone), abs=1 / 24 + 1e-6)
    assert without_sections(after) == without_sections(read)


def top1(entry):
    """Return the accuracy of every exit, by its name."""
    return {
        row["exit"]: row["accuracy"] for row in entry["rows"] if row["top"] == 1
    }


def told_backend_of_record(run):
    record = workdir.read_json(run.results)
    assert record["environment"]["backend"] == "torch"
    record["environment"]["backend"] = keras.config.backend()
    workdir.write_json(run.results, record)


# Records.


@pytest.fixture(scope="module")
def titled():
    return records.read([RUNS])


def test_records_are_read(titled):
    assert list(titled) == ["skd", "neo_kd"]
    record = titled["neo_kd"]
    names = [entry["name"] for entry in record["attacks"]]
    assert names[:3] == ["clean", "average", "max_average"]
    assert {"auto_attack_all", "square_all", "single_exit_3"} <= {*names}
    assert {entry["name"] for entry in record["diagnostics"]} == {
        "budgeted",
        "early_exit",
        "early_exit_attacked",
        "gradient_alignment",
        "local_linearity",
        "sensitivity",
        "smoothing",
    }


def test_records_are_compared_in_tables(titled):
    """Both are of the same images, so that the report may compare them."""
    first, second = (record["data"] for record in titled.values())
    assert first == second
    tables = {table.title: table for table in layout.tables(titled)}
    assert len(tables) > 50
    for name in ("clean", "average", "max_average"):
        start = f"Top-1 accuracy (%): {name.replace('_', ' ')}"
        (shared,) = [
            table
            for title, table in tables.items()
            if title.startswith((f"{start},", f"{start};"))
        ]
        for row, record in zip(shared.rows, titled.values(), strict=True):
            (entry,) = [e for e in record["attacks"] if e["name"] == name]
            assert row[0] == record["method"]
            assert row[1:4] == [100 * each for each in top1(entry).values()]
    (worst,) = [tables[title] for title in tables if "withstand all" in title]
    assert [row[0] for row in worst.rows] == list(titled)
    (saved,) = [tables[title] for title in tables if "adds saved" in title]
    assert saved.rows[0][:2] == ["neo_kd", "skd"]
    assert len(tables["budgeted; neo_kd, digits"].rows) == 100


def test_a_report_is_written(tmp_path):
    written = writing.write([RUNS], tmp_path, "Of 0.1.0")
    assert {path.suffix for path in written} == {".html", ".md", ".tex", ".png"}
    for name in ("report.html", "tables.md"):
        text = (tmp_path / name).read_text()
        assert "auto attack all, epsilon 0.15" in text
        assert "Multiply-adds saved" in text


def test_a_sweep_summarises_finished_runs_of_then(finished):
    row = sweeping.summarize(finished, [""])
    assert row["method"] == "neo_kd"
    assert row["clean exits"] == "8.3/12.5/8.3"
    assert row["auto_attack_all"] == 4.17
    assert row["loss of last epoch"] == 41.8265
