"""From `config.evaluate` to the attacks that search."""

import keras
import pytest

from apps import strong_attacks
from keras_neokd import attacks
from tests.apps.tiny import tiny_config

EXITS = ("exit_1", "exit_2")
ANY = attacks.AverageExits(success="any")


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
                [attacks.PGD(0.1, 0.02, 1, objective=with_loss("margin"))],
                ANY,
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
    ],
)
def test_every_name_is_an_attack_with_the_settings(config, name, expected):
    built = strong_attacks.build(config, name, ANY)
    assert repr(built) == repr(expected)
    # As records hold it.
    plain = keras.saving.serialize_keras_object(built)
    restored = keras.saving.deserialize_keras_object(plain)
    assert repr(restored) == repr(built)


def test_every_name_has_been_seen(config):
    assert set(strong_attacks.NAMES) == {
        *("apgd_ce", "apgd_dlr", "apgd_t", "fab", "fab_t", "square", "cw"),
        *("cw_linf", "auto_attack", "auto_attack_plus", "auto_attack_rand"),
    }


def test_other_settings_reach_the_attacks(config):
    config.evaluate.search.update(
        {"num_restarts": 3, "targeted_loss": "margin", "num_targets": 0}
    )
    targeted = strong_attacks.build(config, "apgd_t", ANY)
    assert targeted.num_restarts == 3
    assert targeted.loss == "margin"
    # 0 stands for all wrong classes.
    assert targeted.num_targets is None
    config.evaluate.search.update({"cw_c": 0.5, "cw_num_steps": 7})
    carlini = strong_attacks.build(config, "cw", ANY)
    assert (carlini.c, carlini.num_steps) == (0.5, 7)


def test_epsilon_is_that_of_training_unless_there_is_another(config):
    config.evaluate.epsilon = None
    assert strong_attacks.build(config, "fab", ANY).epsilon == 0.15


def test_in_the_l2_norm(config):
    config.attack.norm = "l2"
    for name in strong_attacks.NAMES:
        if name == "cw_linf":
            continue
        assert strong_attacks.build(config, name, ANY).norm == "l2"
    # Its epsilon means something there.
    assert strong_attacks.build(config, "cw", ANY).epsilon == 0.1
    with pytest.raises(ValueError, match="knows the L-infinity norm only"):
        strong_attacks.build(config, "cw_linf", ANY)


# When an image counts as fooled.


def objectives(config, success):
    config.evaluate.search.success = success
    return strong_attacks.objectives(config, EXITS)


@pytest.mark.parametrize("success", ["all", "any"])
def test_all_and_any_are_one_attack_on_all_exits(config, success):
    (name,) = objectives(config, success)
    assert name == success
    (objective,) = objectives(config, success).values()
    assert repr(objective) == repr(attacks.AverageExits(success=success))


def test_each_is_an_attack_per_exit(config):
    found = objectives(config, "each")
    assert list(found) == list(EXITS)
    assert [each.exit for each in found.values()] == [0, 1]
    for name in strong_attacks.NAMES:
        strong_attacks.build(config, name, found["exit_2"]).validate(2, 10)


def test_other_rules_are_refused(config):
    with pytest.raises(ValueError, match="Unknown `evaluate.search.success`"):
        objectives(config, "most")


@pytest.mark.parametrize(
    ("name", "changes", "error"),
    [
        ("apgd_ce", {"num_steps": 0}, ValueError),
        ("square", {"num_queries": 0}, ValueError),
        ("fab_t", {"num_targets": -1}, ValueError),
        ("apgd_t", {"targeted_loss": "cross_entropy"}, ValueError),
        ("cw", {"cw_c": 0.0}, ValueError),
    ],
)
def test_impossible_settings(config, name, changes, error):
    config.evaluate.search.update(changes)
    with pytest.raises(error, match="`"):
        strong_attacks.build(config, name, ANY)
