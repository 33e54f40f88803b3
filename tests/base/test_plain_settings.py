"""Settings as configs hold them: exits from 1, teachers as files."""

import pytest

from keras_neokd.base import plain_settings
from keras_neokd.base.configurable import Unset
from keras_neokd.methods import BY_NAME as METHODS
from keras_neokd.models import BY_NAME as MODELS

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("neo_kd", [(1.0, "neo_kd")]),
        ("neo_kd+0.5*kdiga", [(1.0, "neo_kd"), (0.5, "kdiga")]),
        ("2*nkd+skd+.25*lw", [(2.0, "nkd"), (1.0, "skd"), (0.25, "lw")]),
    ],
)
def test_a_sum_is_written_with_weights(name, parts):
    assert plain_settings.parts(name) == parts


@pytest.mark.parametrize("name", ["x*nkd", "nkd+*skd", "-1*nkd", "nan*nkd"])
def test_a_weight_that_is_no_number_is_refused(name):
    with pytest.raises(ValueError, match="number"):
        plain_settings.parts(name)


def test_exits_have_numbers_and_teachers_files():
    kdiga = plain_settings.settings(METHODS, "kdiga")
    assert kdiga["teacher_file"] is None and "teacher" not in kdiga
    assert (kdiga["exits"], kdiga["teacher_exit"]) == ("average", "last")
    skd = plain_settings.settings(METHODS, "skd_phuong")
    assert (skd["teacher"], skd["temperature"]) == ("last", 4.0)
    # Of a sum; no class says that NKD's teacher is an exit.
    assert plain_settings.settings(METHODS, "neo_kd")["teacher"] == "neighbors"
    resnet = plain_settings.settings(MODELS, "resnet_cifar10")
    assert (resnet["depth"], resnet["exits"]) == (18, Unset("last"))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("last", -1),
        (1, 0),
        ("3", 2),
        ((1, 3), (0, 2)),
        ([2], (1,)),
        (-2, -2),
        ("ensemble", "ensemble"),
        (None, None),
    ],
)
def test_exits_are_counted_from_1(value, expected):
    assert plain_settings.exit_index("exit", value, 3) == expected


@pytest.mark.parametrize("value", [0, 4, "0", "4", (1, 4)])
def test_an_exit_that_there_is_not_is_refused(value):
    with pytest.raises(ValueError, match="`exit` counts exits from 1 to 3, r"):
        plain_settings.exit_index("exit", value, 3)


def test_lists_of_json_are_tuples_and_needs_are_left_out():
    section = {"num_epochs": None, "exit_weights": [1, [2]]}
    assert plain_settings.arguments(METHODS, "teat", section) == {
        "exit_weights": (1, (2,))
    }
