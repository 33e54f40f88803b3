"""From `config.evaluate` to the attacks of an evaluation."""

import types

import keras
import pytest

from apps import attacking
from apps import building
from keras_neokd import attacks
from tests.apps.tiny import tiny_config

pytestmark = pytest.mark.any_backend

MODEL = types.SimpleNamespace(
    exit_names=("exit_1", "exit_2"), num_exits=2, num_classes=10
)
ANY = attacks.AverageExits(success="any")
SEARCHES = (
    *("apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t", "square", "cw"),
    *("cw_linf", "auto_attack", "auto_attack_plus", "auto_attack_rand"),
    "auto_attack_margins",
)


@pytest.fixture
def config():
    config = tiny_config()
    config.evaluate.epsilon = 0.1
    config.attack.step_size = 0.02
    config.evaluate.search.update(
        {"num_steps": 30, "num_queries": 40, "num_targets": 5}
    )
    return config


def with_loss(loss):
    return attacks.AverageExits(loss=loss, success="any")


def build(config, name):
    return attacking.attack(config, name, objective=ANY)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("apgd_ce", attacks.APGD(0.1, 30, objective=ANY)),
        ("apgd_dlr", attacks.APGD(0.1, 30, objective=with_loss("dlr"))),
        ("apgd_t", attacks.TargetedAPGD(0.1, 30, num_targets=5, objective=ANY)),
        ("fab", attacks.FAB(0.1, 30, objective=ANY)),
        ("fab_t", attacks.TargetedFAB(0.1, 30, num_targets=5, objective=ANY)),
        ("square", attacks.Square(0.1, 40, objective=with_loss("margin"))),
        ("cw", attacks.CW(num_steps=50, objective=ANY)),
        (
            "cw_linf",
            attacks.WorstCase(
                [attacks.PGD(0.1, 0.02, 1, objective=with_loss("margin"))], ANY
            ),
        ),
        (
            "auto_attack",
            attacks.AutoAttack(0.1, "standard", 30, 40, 5, objective=ANY),
        ),
        (
            "auto_attack_plus",
            attacks.AutoAttack(0.1, "plus", 30, 40, 5, objective=ANY),
        ),
        (
            "auto_attack_rand",
            attacks.AutoAttack(0.1, "rand", 30, 40, 5, objective=ANY),
        ),
        (
            "auto_attack_margins",
            attacks.AutoAttack(0.1, "margins", 30, 40, 5, objective=ANY),
        ),
    ],
)
def test_every_search_is_an_attack_with_the_settings(config, name, expected):
    built = build(config, name)
    assert repr(built) == repr(expected)
    # As records hold it.
    plain = keras.saving.serialize_keras_object(built)
    restored = keras.saving.deserialize_keras_object(plain)
    assert repr(restored) == repr(built)


def test_a_search_has_the_defaults_of_its_class():
    config = tiny_config()
    for name, expected in (
        ("apgd_ce", attacks.APGD(0.15, objective=ANY)),
        ("square", attacks.Square(0.15, objective=with_loss("margin"))),
        ("auto_attack", attacks.AutoAttack(0.15, objective=ANY)),
        ("cw", attacks.CW(objective=ANY)),
    ):
        assert repr(build(config, name)) == repr(expected)


def test_other_settings_reach_the_attacks(config):
    config.evaluate.search.update(
        {"num_restarts": 3, "targeted_loss": "margin", "num_targets": 0}
    )
    # Of attacks that do not search.
    config.evaluate.num_restarts = 7
    config.attack.apgd_t.rho = 0.5
    for name in ("apgd_ce", "fab", "square"):
        assert build(config, name).num_restarts == 3
    targeted = build(config, "apgd_t")
    assert (targeted.num_restarts, targeted.rho) == (3, 0.5)
    assert targeted.loss == "margin"
    # 0 stands for all wrong classes.
    assert targeted.num_targets is None
    config.evaluate.search.update({"cw_c": 0.5, "cw_num_steps": 7})
    config.attack.cw.kappa = 0.25
    carlini = build(config, "cw")
    assert (carlini.c, carlini.num_steps, carlini.kappa) == (0.5, 7, 0.25)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("loss",), {}),
        (("loss", "num_targets"), {"loss": "targeted_loss"}),
        (("c", "num_targets"), {"c": "cw_c"}),
    ],
)
def test_a_targeted_loss_is_for_attacks_with_targets(arguments, expected):
    search = {"targeted_loss": "dlr", "cw_c": 0.5}
    found = attacking._search_keys(search, "cw", dict.fromkeys(arguments))
    assert dict(found) == expected


def test_epsilon_is_that_of_training_unless_there_is_another(config):
    config.evaluate.epsilon = None
    assert build(config, "fab").epsilon == 0.15


def test_in_the_l2_norm(config):
    config.attack.norm = "l2"
    for name in SEARCHES:
        if name == "cw_linf":
            continue
        assert build(config, name).norm == "l2"
    # Its epsilon means something there.
    assert build(config, "cw").epsilon == 0.1
    with pytest.raises(ValueError, match="knows the L-infinity norm only"):
        build(config, "cw_linf")


# When an image counts as fooled.


def planned(config, success, *names):
    config.evaluate.search.success = success
    config.evaluate.attacks = names
    return attacking.plan(config, MODEL)


@pytest.mark.parametrize("success", ["all", "any"])
def test_all_and_any_are_one_attack_on_all_exits(config, success):
    found = planned(config, success, "fab")
    assert list(found) == ["clean", f"fab_{success}"]
    objective = found[f"fab_{success}"].objective
    assert repr(objective) == repr(attacks.AverageExits(success=success))


def test_each_is_an_attack_per_exit(config):
    ours = {
        name
        for name in filter(building.searches, attacks.BY_NAME)
        if attacks.BY_NAME.made_by(name).__module__.startswith("keras_neokd")
    }
    assert ours - {*SEARCHES} == {
        *("apgd", "targeted_apgd", "targeted_fab", "worst_case")
    }
    found = planned(config, "each", *SEARCHES)
    assert list(found) == [
        "clean",
        *(f"{name}_{exit_}" for name in SEARCHES for exit_ in MODEL.exit_names),
    ]
    exits = [found[f"fab_{each}"].objective.exit for each in MODEL.exit_names]
    assert exits == [0, 1]


def test_searches_of_each_exit_in_one_ball_are_measured_at_once(config):
    found = planned(config, "each", "single", "apgd_ce", "cw", "auto_attack")
    units = attacking.together(found, MODEL.exit_names)
    assert list(units.items()) == [
        ("clean", ["clean"]),
        ("single_exit_1", ["single_exit_1"]),
        ("single_exit_2", ["single_exit_2"]),
        ("apgd_ce_each", ["apgd_ce_exit_1", "apgd_ce_exit_2"]),
        # There is no ball to try an image in.
        ("cw_exit_1", ["cw_exit_1"]),
        ("cw_exit_2", ["cw_exit_2"]),
        ("auto_attack_each", ["auto_attack_exit_1", "auto_attack_exit_2"]),
    ]
    found = planned(config, "any", "apgd_ce")
    units = attacking.together(found, MODEL.exit_names)
    assert units == {"clean": ["clean"], "apgd_ce_any": ["apgd_ce_any"]}


def test_the_search_of_a_single_exit_is_by_itself(config):
    model = types.SimpleNamespace(
        exit_names=("exit_1",), num_exits=1, num_classes=10
    )
    config.evaluate.search.success = "each"
    config.evaluate.attacks = ("apgd_ce",)
    found = attacking.plan(config, model)
    assert attacking.together(found, model.exit_names) == {
        "clean": ["clean"],
        "apgd_ce_exit_1": ["apgd_ce_exit_1"],
    }


def test_an_attack_that_does_not_search_is_one_entry_or_one_per_exit(config):
    found = planned(config, "all", "average", "single")
    assert list(found) == ["clean", "average", "single_exit_1", "single_exit_2"]
    assert found["average"].epsilon == 0.1
    assert found["average"].num_steps == config.evaluate.num_steps
    exits = [
        found[f"single_{each}"].objective.exit for each in MODEL.exit_names
    ]
    assert exits == [0, 1]


@pytest.mark.parametrize(
    ("changes", "num_exits", "is_noted"),
    [
        ({}, 2, True),
        ({}, 1, False),
        ({"search": None}, 2, False),
        ({"name": "mine_any"}, 2, False),
    ],
)
def test_a_search_that_is_not_registered_here_is_noted(
    changes, num_exits, is_noted
):
    rows = [{"attack": "clean", "robust": 0.5}]
    entry = {"name": "mine_all", "search": rows, **changes}
    said = attacking.note([entry], num_exits)
    assert said.startswith("mine_all: an image is fooled only") == is_noted
    assert bool(said) == is_noted


def test_other_names_and_rules_are_refused(config):
    with pytest.raises(ValueError, match="Unknown `evaluate.search.success`"):
        planned(config, "most", "fab")
    message = "Unknown `evaluate.attacks` 'fgms'.*max_average"
    with pytest.raises(ValueError, match=message):
        planned(config, "all", "fgms")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("apgd_ce", "evaluate.search.num_steps", 0),
        ("square", "evaluate.search.num_queries", 0),
        ("square", "evaluate.epsilon", -1.0),
        ("fab_t", "evaluate.search.num_targets", -1),
        ("apgd_t", "evaluate.search.targeted_loss", "cross_entropy"),
        ("cw", "evaluate.search.cw_c", 0.0),
        ("cw", "evaluate.search.cw_num_steps", 0),
        ("cw", "attack.cw.kappa", -1.0),
        ("apgd_ce", "attack.norm", "l1"),
        ("average", "evaluate.epsilon", -1.0),
        ("average", "evaluate.num_steps", 0),
        ("average", "evaluate.num_steps", -1),
    ],
)
def test_an_impossible_setting_is_told_by_its_key(config, name, key, value):
    config.update_from_flattened_dict({key: value})
    given = {"objective": ANY} if building.searches(name) else {}
    with pytest.raises(ValueError, match=f"`{key}`"):
        attacking.attack(config, name, **given)


def test_a_negative_epsilon_is_told_what_is_expected(config):
    config.evaluate.epsilon = -0.1
    with pytest.raises(ValueError, match="`evaluate.epsilon`.*>= 0"):
        attacking.attack(config, "average")


def test_the_epsilon_of_training_is_told_by_its_key(config):
    config.evaluate.epsilon = None
    config.attack.epsilon = -1.0
    with pytest.raises(ValueError, match="`attack.epsilon`"):
        attacking.attack(config, "average")


def test_what_was_tried_across_exits_is_noted():
    tried = {"tried_across": ["exit_1", "exit_2"]}
    entries = [
        {"name": "fab_exit_1", "settings": tried, "search": []},
        {"name": "fab_exit_2", "settings": tried, "search": []},
        {"name": "cw_exit_1", "settings": {}, "search": []},
    ]
    assert attacking.note(entries, 2) == (
        "fab_exit_1, fab_exit_2: an image that fooled one of these exits was "
        "tried on the others, too."
    )
    assert attacking.note(entries[2:], 2) == ""
