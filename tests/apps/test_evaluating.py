"""apps.evaluate with attacks that search: entries, findings, going on."""

import dataclasses
import json
import types

import keras
import numpy as np
import pytest

from apps import attacking
from apps import building
from apps import evaluating
from apps.reporting import records
from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import evaluation
from keras_neokd import models
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.evaluation import search_state
from keras_neokd.evaluation import searching
from keras_neokd.evaluation import soundness
from tests.apps.tiny import Killed
from tests.apps.tiny import kill
from tests.apps.tiny import leaning_model
from tests.apps.tiny import tiny_config

EXITS = ["exit_1", "exit_2", "exit_3"]
SEARCHES = ("apgd_ce", "square")


@pytest.fixture(scope="module")
def model_file(tmp_path_factory):
    file = tmp_path_factory.mktemp("evaluating") / "model.keras"
    # It likes the class of the first image, or few would be right.
    images = building.load_data(tiny_config(), models.SmallCNN()).test
    leaning_model(images.arrays()[1][0]).save(file)
    return file


@pytest.fixture
def config():
    config = tiny_config()
    config.evaluate.update({"attacks": SEARCHES, "num_examples": 8})
    config.evaluate.search.update(
        {"success": "any", "num_steps": 20, "num_queries": 200}
    )
    return config


@pytest.fixture(autouse=True)
def planted(monkeypatch):
    """Findings that every model gives; the checks have tests of their own."""
    findings = []
    monkeypatch.setattr(soundness, "check_model", lambda *_: list(findings))
    return findings


# Everything.


def validation():
    config = tiny_config()
    config.data.validation_size = 16
    return building.load_data(config, models.SmallCNN()).validation


def test_everything_is_what_knows_the_norm_and_has_its_data(config, model_file):
    config.evaluate.transfer.model_files = (str(model_file),)
    model = building.build_model(config)
    full, left_out = evaluating.with_everything(config, model, validation())
    assert left_out == []
    assert full.evaluate.attacks == (
        *("average", "max_average", "single", "apgd_ce", "apgd_dlr", "apgd_t"),
        *("fab", "fab_t", "square", "cw", "cw_linf", "auto_attack"),
    )
    assert set(full.evaluate.protocols) == {
        *("budgeted", "transferability", "transfer", "sensitivity"),
        *("early_exit", "early_exit_attacked"),
    }
    # What it was made of stays.
    assert config.evaluate.attacks == SEARCHES


def test_what_everything_leaves_out_is_said(config):
    config.attack.norm = "l2"
    full, left_out = evaluating.with_everything(config, models.SmallCNN(), None)
    assert "cw_linf" not in full.evaluate.attacks
    assert "cw" in full.evaluate.attacks
    assert set(full.evaluate.protocols) == {"transferability", "sensitivity"}
    assert left_out[0].startswith("Left out: cw_linf. ")
    said = {each.split(".")[0]: each for each in left_out[1:]}
    for name in ("budgeted", "early_exit", "early_exit_attacked"):
        why = said.pop(f"Left out: {name}")
        assert "sets thresholds on validation images, and this run has" in why
    assert "name the .keras files" in said.pop("Left out: transfer")
    assert not said


def test_of_few_classes_and_one_exit_everything_is_less(config):
    full, left_out = evaluating.with_everything(
        config, tiny_classifier(), validation()
    )
    assert full.evaluate.attacks == (
        *("average", "max_average", "single", "apgd_ce"),
        *("fab", "fab_t", "square", "cw", "cw_linf"),
    )
    assert full.evaluate.protocols == ("sensitivity",)
    said = "'early_exit' needs at least 2 exits, and the model has 1"
    assert any(said in each for each in left_out)
    assert any("apgd_t" in each and "classes" in each for each in left_out)


def tiny_classifier():
    inputs = keras.Input((4, 4, 1))
    logits = keras.layers.Dense(2)(keras.layers.Flatten()(inputs))
    return MultiExitModel(inputs, [logits])


def test_the_thresholds_of_an_early_exit_are_a_file(
    config, model_file, tmp_path
):
    config.data.validation_size = 16
    config.evaluate.update({"attacks": (), "protocols": ("early_exit",)})
    config.evaluate.early_exit.update({"num_calls": 1, "batch_size": 8})
    record = evaluate(config, model_file, tmp_path)
    (entry,) = record["diagnostics"]
    policy = ExitPolicy.load(tmp_path / "policy_of_results.json")
    expected = [
        np.inf if row["threshold"] is None else row["threshold"]
        for row in entry["rows"][:-1]
    ]
    assert list(policy.thresholds) == expected
    assert policy.ensemble is False


# Settings of entries.


@pytest.mark.parametrize(
    ("name", "entry", "changes", "own"),
    [
        ("average", "average", {}, None),
        ("max_average", "max_average", {}, None),
        ("single", "single_exit_2", {}, None),
        (
            "max_average",
            "max_average",
            {"attack.max_average.exits": (1, 2)},
            {"class_name": "MaxAverage", "num_steps": 5},
        ),
        ("fgsm", "fgsm", {}, {"class_name": "PGD", "num_steps": 1}),
        ("noise", "noise", {}, {"class_name": "UniformNoise"}),
        ("cw_linf", "cw_linf_any", {}, {"class_name": "WorstCase"}),
    ],
)
def test_an_entry_states_the_settings_that_it_has(
    config, name, entry, changes, own
):
    config.evaluate.update({"attacks": (name,), "num_steps": 5})
    config.update_from_flattened_dict(changes)
    model = types.SimpleNamespace(exit_names=EXITS, num_exits=3, num_classes=10)
    attack = attacking.plan(config, model)[entry]
    of_pgd = attacking.pgd_settings(config)
    header = {
        "settings": {"attack": of_pgd},
        "exits": [{"name": each} for each in EXITS],
    }
    settings = evaluating._settings(entry, attack, header)
    if own is None:
        assert settings == of_pgd
        return
    assert settings["attack"]["class_name"] == own["class_name"]
    assert (settings["epsilon"], settings["norm"]) == (0.15, "linf")
    if "num_steps" in own or name == "noise":
        assert settings.get("num_steps") == own.get("num_steps")


def test_another_setting_of_an_attack_that_does_not_search_is_refused(
    config, model_file, tmp_path
):
    config.evaluate.attacks = ("fgsm",)
    evaluate(config, model_file, tmp_path)
    evaluate(config, model_file, tmp_path)
    config.attack.fgsm.step_size = 0.05
    with pytest.raises(
        ValueError,
        match=r"fgsm of other settings:\n  attack.config.step_size: there",
    ):
        evaluate(config, model_file, tmp_path)


# Seeds.


def test_several_seeds_give_a_mean_and_a_deviation(
    config, model_file, tmp_path
):
    config.evaluate.update({"attacks": ("average",), "num_seeds": 3})
    record = evaluate(config, model_file, tmp_path)
    clean, average = record["attacks"]
    assert all("deviation" not in row for row in clean["rows"])
    model = building.build_model(config)
    model.load_weights(model_file)
    images, labels = building.load_data(config, model).test.arrays()
    plan = attacking.plan(config, model)
    found = [
        evaluation.anytime(
            model, images[:8], labels[:8], plan["average"], seed=seed
        ).accuracy()
        for seed in range(3)
    ]
    for key, expected in (
        ("accuracy", np.mean(found, axis=0)),
        ("deviation", np.std(found, axis=0, ddof=1)),
    ):
        received = [row[key] for row in top1(average)]
        np.testing.assert_allclose(received, expected)
    for row in top1(average):
        assert row["low"] <= row["accuracy"] <= row["high"]


def top1(entry):
    return [row for row in entry["rows"] if row["top"] == 1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_examples": 0}, "num_examples.*>= 1"),
        ({"num_seeds": 0}, "evaluate.num_seeds"),
        ({"seed": -1}, "evaluate.seed"),
        # The last of them would be found out of range after the first.
        ({"seed": 2**31 - 2, "num_seeds": 3}, "received 2147483648"),
    ],
)
def test_seeds_and_numbers_of_images_are_checked(
    config, model_file, tmp_path, changes, message
):
    config.evaluate.update(changes)
    with pytest.raises(ValueError, match=message):
        evaluate(config, model_file, tmp_path)


def test_the_state_of_a_search_lies_beside_the_results(tmp_path):
    results = tmp_path / "results.json"
    for name in ("square_any", "square_a/../b"):
        file = evaluating._state_file(results, name, 0)
        assert file.parent == tmp_path
        assert file.name.startswith("results.square_")
        assert file.suffix == ".npz"


def test_an_evaluation_keeps_what_another_one_recorded(
    config, model_file, tmp_path, monkeypatch
):
    config.evaluate.attacks = ("average",)
    others = []
    measure = evaluating._attacked

    def measure_while_another_evaluates(*arguments):
        if not others:
            others.append(True)
            other = tiny_config()
            other.evaluate.update({"attacks": ("square",), "num_examples": 8})
            other.evaluate.search.update({"num_queries": 2, "success": "any"})
            others.append(run_beside(other, model_file, tmp_path))
        return measure(*arguments)

    def run_beside(other, model_file, folder):
        # It does not wait for the clean images, which are measured here.
        monkeypatch.setattr(attacking, "plan", without_clean)
        record = evaluate(other, model_file, folder)
        monkeypatch.setattr(attacking, "plan", plan)
        return record

    plan = attacking.plan

    def without_clean(*arguments):
        planned = plan(*arguments)
        return {name: planned[name] for name in planned if name != "clean"}

    monkeypatch.setattr(
        evaluating, "_attacked", measure_while_another_evaluates
    )
    record = evaluate(config, model_file, tmp_path)
    assert names(others[1]) == ["square_any"]
    assert names(record) == ["square_any", "clean", "average"]
    assert json.loads((tmp_path / "results.json").read_text()) == record


def evaluate(config, model_file, folder, name="results.json"):
    return evaluating.evaluate(
        config, model_file, folder / name, folder / "plot.png"
    )


def without_times(record):
    """Return a record with what differs from run to run left out."""
    attacks = [
        {key: value for key, value in each.items() if key != "seconds"}
        for each in record["attacks"]
    ]
    return {**record, "attacks": attacks, "environment": None}


def names(record):
    return [each["name"] for each in record["attacks"]]


def test_the_record_holds_what_the_library_finds(
    config, model_file, tmp_path, capsys
):
    evaluate(config, model_file, tmp_path)
    file = tmp_path / "results.json"
    record = records.check(json.loads(file.read_text()), file)
    assert names(record) == ["clean", "apgd_ce_any", "square_any"]
    apgd = record["attacks"][1]
    assert [row["exit"] for row in top1(apgd)] == EXITS
    assert apgd["settings"]["attack"]["class_name"] == "APGD"
    for settings in (apgd["settings"], apgd["settings"]["attack"]["config"]):
        assert settings["num_steps"] == 20
        assert settings["epsilon"] == 0.15
    assert apgd["findings"] == []
    assert apgd["seconds"] >= 0
    model = building.build_model(config)
    model.load_weights(model_file)
    images, labels = building.load_data(config, model).test.arrays()
    plan = attacking.plan(config, model)
    result = evaluation.anytime(
        model, images[:8], labels[:8], plan["apgd_ce_any"], batch_size=16
    )
    received = [row["accuracy"] for row in top1(apgd)]
    np.testing.assert_allclose(received, result.accuracy())
    for exit_, name in enumerate(EXITS):
        bits = np.frombuffer(bytes.fromhex(apgd["correct"][name]), "uint8")
        np.testing.assert_array_equal(
            np.unpackbits(bits)[:8], result.ranks[:, exit_] == 0
        )
    assert [each["attack"] for each in apgd["search"]] == ["clean", "APGD"]
    np.testing.assert_allclose(
        [each["robust"] for each in apgd["search"]],
        result.search.robust_after_each(),
    )
    # The state is of no use any more.
    assert {each.name for each in tmp_path.iterdir()} == {
        "results.json",
        "plot.png",
        ".results.json.locks",
    }
    assert "top-1, apgd_ce_any" in capsys.readouterr().out


@pytest.fixture
def of_each(config):
    config.evaluate.attacks = ("apgd_ce",)
    config.evaluate.search.update({"success": "each", "num_steps": 2})
    return config


def test_each_exit_may_be_attacked_alone(of_each, model_file, tmp_path):
    record = evaluate(of_each, model_file, tmp_path)
    assert names(record)[1:] == [f"apgd_ce_{name}" for name in EXITS]

    model = building.build_model(of_each)
    model.load_weights(model_file)
    images, labels = building.load_data(of_each, model).test.arrays()
    plan = attacking.plan(of_each, model)
    given = [plan[name] for name in names(record)[1:]]
    results = evaluation.search_together(
        model, images[:8], labels[:8], given, batch_size=16
    )
    for entry, result in zip(record["attacks"][1:], results, strict=True):
        # What fooled one exit was tried on the others.
        assert entry["settings"]["tried_across"] == EXITS
        np.testing.assert_allclose(
            [each["robust"] for each in entry["search"]],
            result.robust_after_each(),
        )
        exit_ = EXITS.index(entry["name"].removeprefix("apgd_ce_"))
        received = top1(entry)[exit_]["accuracy"]
        assert received == pytest.approx(result.robust_accuracy())
    shares = [each["seconds"] for each in record["attacks"][1:]]
    assert len(set(shares)) == 1


def test_of_attacks_measured_at_once_only_what_is_missing_is_added(
    of_each, model_file, tmp_path
):
    whole = evaluate(of_each, model_file, tmp_path)
    kept = [each for each in whole["attacks"] if "exit_2" not in each["name"]]
    file = tmp_path / "results.json"
    file.write_text(json.dumps({**whole, "attacks": kept}))
    again = evaluate(of_each, model_file, tmp_path)
    assert again["attacks"][:3] == kept
    assert names(again)[3:] == ["apgd_ce_exit_2"]
    added, expected = (
        without_times(each)["attacks"][place]
        for each, place in ((again, 3), (whole, 2))
    )
    assert added == expected


def test_records_of_before_attacks_were_tried_across_exits_go_on(
    of_each, model_file, tmp_path
):
    record = evaluate(of_each, model_file, tmp_path)
    # One was measured alone, and the others are missing.
    before = record["attacks"][:2]
    del before[1]["settings"]["tried_across"]
    old = {**record, "attacks": before}
    (tmp_path / "results.json").write_text(json.dumps(old))
    again = evaluate(of_each, model_file, tmp_path)
    assert again["attacks"][:2] == before
    assert again["attacks"][2]["settings"]["tried_across"] == EXITS
    # Other differences are refused as ever.
    of_each.evaluate.search.num_steps = 3
    with pytest.raises(ValueError, match="exit_1 of other"):
        evaluate(of_each, model_file, tmp_path)


def test_a_killed_search_of_each_exit_goes_on_to_the_same_record(
    of_each, model_file, tmp_path, killed_after
):
    whole = evaluate(of_each, model_file, tmp_path, "whole.json")
    revive = killed_after(5)
    with pytest.raises(Killed):
        evaluate(of_each, model_file, tmp_path)
    revive()
    states = [each.name for each in tmp_path.glob("*.npz")]
    assert states == ["results.apgd_ce_each.0.npz"]
    resumed = evaluate(of_each, model_file, tmp_path)
    assert without_times(resumed) == without_times(whole)
    assert not list(tmp_path.glob("*.npz"))


def test_findings_are_recorded_and_printed(
    config, model_file, tmp_path, capsys, planted
):
    planted.append(soundness.Finding("zero_gradient", "No pull."))
    config.evaluate.attacks = ("apgd_t",)
    config.evaluate.search.update({"num_steps": 1, "num_targets": 10})
    record = evaluate(config, model_file, tmp_path)
    assert record["findings"] == [
        {"code": "zero_gradient", "message": "No pull."}
    ]
    (finding,) = record["attacks"][1]["findings"]
    assert finding["code"] == "fewer_targets"
    printed = capsys.readouterr().out
    assert "WARNING (zero_gradient): No pull." in printed
    assert f"WARNING (fewer_targets): {finding['message']}" in printed


# Going on.


def test_attacks_may_be_asked_for_later(config, model_file, tmp_path, capsys):
    config.evaluate.attacks = ()
    first = evaluate(config, model_file, tmp_path)
    config.evaluate.attacks = ("square",)
    capsys.readouterr()
    later = evaluate(config, model_file, tmp_path)
    assert later["attacks"][0] == first["attacks"][0]
    assert names(later) == ["clean", "square_any"]
    assert later["findings"] == []
    assert "Evaluating neo_kd, clean" not in capsys.readouterr().out


def test_a_record_that_does_not_know_its_images_is_not_gone_on_with(
    config, model_file, tmp_path
):
    config.evaluate.attacks = ()
    record = evaluate(config, model_file, tmp_path)
    del record["data"]["checksum"]
    (tmp_path / "results.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="data.checksum: there null, now"):
        evaluate(config, model_file, tmp_path)


def test_a_record_of_other_images_is_refused(
    config, model_file, tmp_path, monkeypatch
):
    config.evaluate.attacks = ()
    evaluate(config, model_file, tmp_path)
    load = building.load_data

    def load_darker(config, model):
        dataset = load(config, model)
        dark = dataclasses.replace(
            dataset.test, images=dataset.test.images * np.float32(0.5)
        )
        return dataclasses.replace(dataset, test=dark)

    monkeypatch.setattr(building, "load_data", load_darker)
    with pytest.raises(ValueError, match=r"other settings:\n  data.checksum"):
        evaluate(config, model_file, tmp_path)


def test_other_settings_of_a_recorded_attack_are_refused(
    config, model_file, tmp_path
):
    config.evaluate.attacks = ("apgd_ce",)
    config.evaluate.search.num_steps = 2
    evaluate(config, model_file, tmp_path)
    before = (tmp_path / "results.json").read_bytes()
    config.evaluate.search.num_steps = 3
    with pytest.raises(
        ValueError,
        match=r"apgd_ce_any of other settings:\n  attack.config.num_steps: th",
    ):
        evaluate(config, model_file, tmp_path)
    assert (tmp_path / "results.json").read_bytes() == before


def test_an_attack_that_cannot_be_is_refused_before_any_other(
    config, model_file, tmp_path
):
    config.evaluate.attacks = ("average", "square")
    for changes, message in (
        ({"search": {"num_queries": 0}}, "num_queries"),
        ({"search": {"success": "most"}}, "evaluate.search.success"),
        ({"attacks": ("average", "pagd")}, "evaluate.attacks"),
    ):
        config.evaluate.update(changes)
        with pytest.raises(ValueError, match=message):
            evaluate(config, model_file, tmp_path)
        assert not list(tmp_path.iterdir())
        config.evaluate.search.update({"num_queries": 10, "success": "any"})


@pytest.fixture
def killed_after(monkeypatch):
    """Let searches save always, and die at a save."""
    monkeypatch.setattr(search_state, "_SECONDS_BETWEEN_SAVES", 0)

    def kill(num_saves):
        left = [num_saves]
        write = search_state.SearchState._write_sometimes

        def saved(self):
            write(self)
            left[0] -= 1
            if left[0] == 0:
                raise Killed

        monkeypatch.setattr(searching.SearchState, "_write_sometimes", saved)
        return lambda: monkeypatch.setattr(
            searching.SearchState, "_write_sometimes", write
        )

    return kill


def test_a_killed_attack_that_does_not_search_is_made_again(
    config, model_file, tmp_path, monkeypatch
):
    config.evaluate.attacks = ("average", "max_average")
    whole = evaluate(config, model_file, tmp_path, "whole.json")
    with monkeypatch.context() as patch:
        patch.setattr(attacks.MaxAverage, "perturb", kill)
        with pytest.raises(Killed):
            evaluate(config, model_file, tmp_path)
    kept = json.loads((tmp_path / "results.json").read_text())["attacks"]
    assert [each["name"] for each in kept] == ["clean", "average"]
    resumed = evaluate(config, model_file, tmp_path)
    assert without_times(resumed) == without_times(whole)
    assert resumed["attacks"][:2] == kept


@pytest.mark.parametrize(
    ("searches", "kills"),
    [
        (("apgd_ce",), ((2, "apgd_ce_any"),)),
        # Once in each attack, and again in the second.
        pytest.param(
            SEARCHES,
            ((2, "apgd_ce_any"), (5, "square_any"), (1, "square_any")),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_a_killed_search_goes_on_to_the_same_record(
    config, model_file, tmp_path, killed_after, searches, kills
):
    config.evaluate.attacks = searches
    whole = evaluate(config, model_file, tmp_path, "whole.json")
    for num_saves, attack in kills:
        revive = killed_after(num_saves)
        with pytest.raises(Killed):
            evaluate(config, model_file, tmp_path)
        revive()
        kept = json.loads((tmp_path / "results.json").read_text())["attacks"]
        first = searches.index(attack.removesuffix("_any"))
        assert len(kept) == 1 + first
        states = [each.name for each in tmp_path.glob("*.npz")]
        assert states == [f"results.{attack}.0.npz"]
    resumed = evaluate(config, model_file, tmp_path)
    assert without_times(resumed) == without_times(whole)
    # With its times: it was not measured again.
    assert resumed["attacks"][: len(kept)] == kept
    assert not list(tmp_path.glob("*.npz"))


def test_the_state_of_another_search_is_refused(
    config, model_file, tmp_path, killed_after
):
    revive = killed_after(2)
    with pytest.raises(Killed):
        evaluate(config, model_file, tmp_path)
    revive()
    config.evaluate.search.num_steps = 10
    with pytest.raises(
        ValueError, match="another search: it differs in attack"
    ):
        evaluate(config, model_file, tmp_path)
