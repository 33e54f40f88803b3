"""Errors about a config name its keys, whatever the argument is called."""

import pytest

from apps import attacking
from apps import building
from apps.building import build_method
from apps.flag_names import named_by_keys
from configs import mnist
from keras_neokd import attacks

OBJECTIVE = attacks.SingleExit(0)


def build_search(name):
    return lambda config: attacking.attack(config, name, objective=OBJECTIVE)


def compile_arguments(config):
    return building.compile_arguments(config, num_exits=3)


@pytest.mark.parametrize(
    ("key", "value", "build"),
    [
        ("attack.epsilon", -1.0, building.build_attack),
        ("evaluate.epsilon", -1.0, lambda c: attacking.attack(c, "average")),
        ("attack.epsilon", -1.0, lambda c: attacking.attack(c, "average")),
        ("evaluate.num_steps", -1, lambda c: attacking.attack(c, "average")),
        ("evaluate.search.cw_c", -1.0, build_search("cw")),
        ("attack.cw.c", -1.0, build_search("cw")),
        ("attack.apgd_ce.num_steps", 0, build_search("apgd_ce")),
        ("attack.norm", "l1", build_search("apgd_ce")),
        ("evaluate.epsilon", -1.0, build_search("square")),
        ("optimizer.weight_decay", -1.0, compile_arguments),
        ("optimizer.momentum", 1.0, compile_arguments),
        ("method.neo_kd.nkd_weight", -1.0, lambda c: build_method(c, 3)),
        ("model.small_cnn_mnist.dropout", 1.5, building.build_model),
    ],
)
def test_a_wrong_value_is_told_by_its_key(key, value, build):
    config = mnist.get_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises((TypeError, ValueError), match=f"`{key}`"):
        build(config)


def test_names_without_a_key_stay():
    with (
        pytest.raises(ValueError, match="^`a.b` and `c`$"),
        named_by_keys({"b": "a.b"}),
    ):
        raise ValueError("`b` and `c`")


def test_an_error_of_another_kind_is_a_value_error_with_the_key():
    """Some subclasses are made from more than a message."""
    error = UnicodeDecodeError("utf-8", b"", 0, 1, "in `b`")
    with (
        pytest.raises(ValueError, match="in `a.b`") as raised,
        named_by_keys({"b": "a.b"}),
    ):
        raise error
    assert raised.value.__cause__ is error
    with pytest.raises(UnicodeDecodeError), named_by_keys({}):
        raise error
