"""Reading config.json: damage is named, and the file stays as it is."""

import json
import re

import pytest

from apps import config_of_0_1_0
from apps import run_config
from apps import workdir
from configs import default
from keras_neokd import attacks
from keras_neokd import evaluation
from keras_neokd.evaluation import protocol

pytestmark = pytest.mark.any_backend

DAMAGES = {
    "a list": "[]",
    "a number": "3",
    "null": "null",
    "empty": "",
    "cut off": '{"data": {"name": "dig',
    "deep": "[" * 5_000,
}


@pytest.fixture
def run(tmp_path):
    """A run whose config is the default one, as JSON gives it back."""
    run = workdir.Workdir(tmp_path)
    workdir.write_json(run.config, default.get_config().to_dict())
    return run


def damage(run, place, value):
    """Replace a value of the config by its dotted key; `...` removes it."""
    config = json.loads(run.config.read_text())
    # A key with a dot in it is no section.
    *parents, last = place.split(".") if place != "a.b" else [place]
    section = config
    for key in parents:
        section = section[key]
    if value is ...:
        del section[last]
    else:
        section[last] = value
    run.config.write_text(json.dumps(config))


def refused(run):
    """Return what is said of the config, which has to name the file."""
    before = run.config.read_bytes()
    with pytest.raises(ValueError) as error:
        run_config.read(run)
    assert str(run.config) in str(error.value)
    assert run.config.read_bytes() == before
    return str(error.value)


def test_a_whole_config_is_taken_as_it_is(run):
    config = run_config.read(run)
    assert workdir.flatten(config) == workdir.flatten(default.get_config())


@pytest.mark.parametrize(
    ("changes", "others"),
    [
        ({}, set()),
        ({"attack.apgd_t.rho": 0.5}, {"apgd_t"}),
        ({"attack.square.num_restarts": 2}, {"square"}),
        ({"evaluate.attacks": ("fab_t",)}, {"fab_t"}),
        ({"evaluate.budgeted.attack": "fgsm"}, {"fgsm"}),
        ({"attack.name": "average", "evaluate.attacks": ()}, None),
    ],
)
def test_attacks_that_are_changed_or_evaluated_keep_their_settings(
    run, changes, others
):
    config = default.get_config()
    before = workdir.flatten(config)
    config.update_from_flattened_dict(changes)
    recorded = run_config.chosen(config)
    sections = {key for key in recorded["attack"] if key in attacks.BY_NAME}
    expected = set() if others is None else {"max_average", *others}
    assert sections == expected
    workdir.write_json(run.config, recorded)
    assert workdir.flatten(run_config.read(run)) == workdir.flatten(config)
    # So digests of the config differ, and runs are told apart.
    assert (workdir.flatten(config) == before) == (not changes)


class Mine(evaluation.Result):
    columns = {"exit": "text"}


@pytest.mark.parametrize(
    ("changes", "is_recorded"),
    [
        ({}, False),
        ({"protocols": ("mine",)}, True),
        ({"diagnostics": ("mine",)}, True),
        ({"mine": {"strength": 3}}, True),
    ],
)
def test_protocols_of_the_user_are_settings_of_runs_that_ask_for_them(
    monkeypatch, changes, is_recorded
):
    """A run is gone on with where a module has been imported since."""
    before = run_config.chosen(default.get_config())
    monkeypatch.setattr(protocol, "_KNOWN", dict(protocol._KNOWN))
    evaluation.Protocol("mine", Mine)(lambda model, strength=2: Mine([]))
    config = default.get_config()
    assert config.evaluate.mine.strength == 2
    config.evaluate.update(changes)
    recorded = run_config.chosen(config)
    assert ("mine" in recorded["evaluate"]) == is_recorded
    assert (recorded == before) == (not changes)


def test_a_section_of_the_library_stays_where_a_protocol_shares_it(monkeypatch):
    monkeypatch.setattr(protocol, "_KNOWN", dict(protocol._KNOWN))
    own = evaluation.Protocol("mine", Mine, section="early_exit")
    own(lambda model, num_calls=100: Mine([]))
    assert "early_exit" in run_config.chosen(default.get_config())["evaluate"]


@pytest.mark.parametrize("text", DAMAGES.values(), ids=DAMAGES)
def test_a_config_that_is_no_object_is_named(run, text):
    run.config.write_text(text)
    assert "JSON" in refused(run)


def test_a_config_that_is_not_in_utf_8_is_named(run):
    run.config.write_bytes(b'{"data": "\xff"}')
    assert "is not a JSON file: 'utf-8' codec" in refused(run)


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("attack", ..., "attack needs an object, received None."),
        ("train", ..., "train needs an object, received None."),
        ("data", [], "data needs an object, received []."),
        ("evaluate", "x", "evaluate needs an object, received 'x'."),
        ("evaluate.search", 3, "evaluate.search needs an object, received 3."),
        ("method", None, "method needs an object, received None."),
        ("method.name", ..., "method.name is missing."),
        ("model", ..., "model needs an object, received None."),
        ("model", [], "model needs an object, received []."),
        ("model", {}, "model.name is missing."),
        ("model.weights_of", 3, "model.weights_of needs an object, received"),
        ("optimizer", ..., "optimizer needs an object, received None."),
        ("data.name", None, "data.name is missing."),
        ("attack.epsilon", ..., "attack.epsilon is missing."),
        ("attack.norm", 2, "attack.norm: Could not override field 'norm'"),
        ("evaluate.num_steps", "x", "evaluate.num_steps: Could not override"),
        ("evaluate.num_steps", {}, "evaluate.num_steps: Could not override"),
        ("optimizer.learning_rate", [], "optimizer.learning_rate: Could not"),
        ("a.b", 1, "does not accept dots in field names"),
    ],
)
def test_what_a_config_lacks_or_has_wrong_is_named(run, place, value, message):
    damage(run, place, value)
    said = refused(run)
    assert f"{run.config} is damaged: " in said
    assert message in said
    assert "Restore it, or evaluate with --model, --config" in said


def test_settings_of_later_versions_are_added_and_others_left(run):
    damage(run, "evaluate.diagnostics", ...)
    damage(run, "evaluate.search.success", ...)
    damage(run, "evaluate.seed", 7)
    # Both are read where a model is evaluated.
    damage(run, "attack.training_mode", ...)
    damage(run, "train.validation", ...)
    damage(run, "evaluate.of_another_version", 1)
    config = run_config.read(run)
    assert config.evaluate.diagnostics == ()
    assert config.evaluate.search.success == "all"
    assert config.evaluate.seed == 7
    defaults = default.get_config()
    assert config.attack.training_mode == defaults.attack.training_mode
    assert config.train.validation == defaults.train.validation


@pytest.mark.parametrize("key", ["data", "files_sha256"])
def test_a_damaged_environment_is_named(run, key):
    workdir.write_json(run.environment, {key: [1]})
    with pytest.raises(ValueError, match=f"environment.json is damaged: {key}"):
        run.check_data({"checksum": 1})


@pytest.mark.parametrize("dtype", ["auto", "half", 16, ["float32"]])
def test_a_damaged_precision_of_attacks_is_named(run, dtype):
    workdir.write_json(run.environment, {"crafting_dtype": dtype})
    with pytest.raises(ValueError) as caught:
        _ = run.crafting_dtype
    assert str(caught.value) == (
        f"{run.environment} is damaged: crafting_dtype needs 'float32' or "
        f"'bfloat16', received {dtype!r}. Restore it."
    )


def old_config(**kdiga):
    """Return what matters of a config of 0.1.0."""
    return {
        "model": {"name": "msdnet", "constructor": "cifar10", "options": {}},
        "method": {
            "name": "eokd+kdiga",
            "eokd_weight": 2.0,
            "beta": 6.0,
            "sum_weights": [0.5],
            "kdiga": {"exits": "average", **kdiga},
        },
    }


@pytest.mark.parametrize(
    ("exits", "expected"),
    [("1,3", (1, 3)), (" 1, 3", (1, 3)), ("2", (2,)), ("each", "each")],
)
def test_settings_of_0_1_0_get_the_keys_of_today(exits, expected):
    old = old_config(exits=exits, teacher_file="x.keras")
    new = config_of_0_1_0.translated(old)
    assert new["model"]["name"] == "msdnet_cifar10"
    method = new["method"]
    assert method["name"] == "eokd+0.5*kdiga"
    assert method["eokd"]["weight"] == 2.0
    assert method["kdiga"]["teacher_file"] == "x.keras"
    assert method["kdiga"]["exits"] == expected
    assert config_of_0_1_0.translated(new) == new


@pytest.mark.parametrize(
    ("value", "expected"), [(100, None), (99, 99), (None, None)]
)
def test_what_was_a_default_of_0_1_0_is_left_to_the_attacks(value, expected):
    old = old_config(exits="each")
    old["attack"] = {"name": "average"}
    search = {"num_steps": value, "success": "all"}
    old["evaluate"] = {"attacks": ["apgd_t"], "search": search}
    new = config_of_0_1_0.translated(old)
    assert new["evaluate"]["search"] == {
        "num_steps": expected,
        "success": "all",
    }
    # As a config of today has it that names the attack.
    defaults = default.get_config().attack.apgd_t.to_dict()
    assert new["attack"] == {"name": "average", "apgd_t": defaults}


def damaged_config_of_0_1_0(part, key, value):
    old = old_config()
    section = old["method"]["kdiga"] if part == "kdiga" else old[part]
    if value is ...:
        del section[key]
    else:
        section[key] = value
    return old


@pytest.mark.parametrize(
    ("part", "key", "value", "message"),
    [
        (
            "method",
            "eokd_weight",
            ...,
            "as keras_neokd 0.1.0 wrote them: KeyError: 'eok",
        ),
        (
            "method",
            "sum_weights",
            [1.0, 2.0],
            "`method.sum_weights` needs 1 numbers, one for each method after",
        ),
        ("kdiga", "exits", "1;3", "needs average, each, or numbers with comma"),
        (
            "model",
            "options",
            {"wings": 2, "legs": None},
            "`model.options` has wings, which the model 'msdnet_cifar10' has",
        ),
    ],
)
def test_a_damaged_config_of_0_1_0_is_named(run, part, key, value, message):
    old = damaged_config_of_0_1_0(part, key, value)
    workdir.write_json(run.config, old)
    assert message in refused(run)
    with pytest.raises(ValueError, match=re.escape(str(run.config))):
        run.check(default.get_config())
