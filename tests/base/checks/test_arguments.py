"""Checks of arguments: what passes, and every message."""

import fractions
import math

import numpy as np
import pytest

from keras_neokd.base import checks

pytestmark = pytest.mark.any_backend

# Numbers.


@pytest.mark.parametrize(
    "value",
    [
        *(0, 2, 0.5, fractions.Fraction(1, 2)),
        *(np.float16(0.5), np.float32(0.5), np.int8(3), np.int64(3)),
    ],
)
def test_real_numbers_become_floats(value):
    checked = checks.number("epsilon", value, minimum=0)
    assert type(checked) is float
    assert checked == float(value)


def test_bounds_of_numbers():
    assert checks.number("weight", 0.0, minimum=0) == 0
    assert checks.number("weight", -5) == -5
    assert checks.number("step_size", 1e-12, above=0) == 1e-12
    assert checks.number("area", 1, above=0, maximum=1) == 1


@pytest.mark.parametrize(
    ("value", "bounds", "error", "message"),
    [
        (-0.1, {"minimum": 0}, ValueError, "a finite number >= 0, received -0"),
        (0, {"above": 0}, ValueError, "a finite number > 0, received 0"),
        (
            1.5,
            {"above": 0, "maximum": 1},
            ValueError,
            "a finite number > 0 and <= 1, received 1.5",
        ),
        (math.nan, {}, ValueError, "a finite number, received nan"),
        (math.inf, {"minimum": 0}, ValueError, ">= 0, received inf"),
        (-math.inf, {"above": 0}, ValueError, "> 0, received -inf"),
        ("0.1", {}, TypeError, "a number, received '0.1' of type str"),
        (None, {}, TypeError, "a number, received None of type NoneType"),
        (True, {}, TypeError, "a number, received True of type bool"),
        (1j, {}, TypeError, "a number, received 1j of type complex"),
        (np.array(0.1), {}, TypeError, r"a number, received array\(0.1\)"),
        (1, {"below": 1}, ValueError, "a finite number < 1, received 1"),
        (10**400, {}, ValueError, r"a finite number, received 10000.*\.\.\."),
        pytest.param(
            *(10**5000, {}, ValueError, "an integer of more than 4,300 dig"),
            id="unwritable",
        ),
        (1e39, {}, ValueError, r"a finite number, received 1e\+39"),
        (-1e-39, {}, ValueError, "received -1e-39, which is 0 in float32"),
        ([0.1], {}, TypeError, "of type list"),
    ],
)
def test_other_numbers_are_refused(value, bounds, error, message):
    with pytest.raises(error, match=rf"^`epsilon` needs .*{message}"):
        checks.number("epsilon", value, **bounds)


# Integers.


@pytest.mark.parametrize("value", [1, 7, np.int32(2), np.uint8(2), np.array(3)])
def test_integers_become_python_integers(value):
    checked = checks.integer("num_steps", value, minimum=1)
    assert type(checked) is int
    assert checked == value


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "needs an integer >= 1, received 0"),
        (-3, ValueError, "needs an integer >= 1, received -3"),
        (1.0, TypeError, "needs an integer, received 1.0 of type float"),
        (True, TypeError, "needs an integer, received True of type bool"),
        ("7", TypeError, "needs an integer, received '7' of type str"),
        (None, TypeError, "needs an integer, received None of type NoneType"),
    ],
)
def test_other_integers_are_refused(value, error, message):
    with pytest.raises(error, match=f"^`num_steps` {message}"):
        checks.integer("num_steps", value, minimum=1)


@pytest.mark.parametrize("value", [2**31, 10**5000], ids=["large", "huge"])
def test_integers_are_those_of_int32(value):
    assert checks.integer("seed", 2**31 - 1, minimum=0) == 2**31 - 1
    with pytest.raises(ValueError, match="`seed` needs an integer <= 21474836"):
        checks.integer("seed", value, minimum=0)


# Lengths in pixels.


@pytest.mark.parametrize("value", [0, 2.0**-24, 0.3, np.float32(0.3)])
def test_lengths_in_pixels_are_0_or_change_a_pixel(value):
    assert checks.pixel_change("epsilon", value, minimum=0) == value


@pytest.mark.parametrize("value", [2.0**-25, 1e-12])
def test_a_length_that_changes_no_pixel_is_refused(value):
    # What the bound is about: the addition is lost.
    assert np.float32(1) + np.float32(value) == 1
    with pytest.raises(ValueError, match="`step_size` .*2\\*\\*-24.*received"):
        checks.pixel_change("step_size", value, above=0)


# Booleans.


@pytest.mark.parametrize("value", [True, False, np.bool_(True)])
def test_booleans_pass(value):
    checked = checks.boolean("ensemble", value)
    assert type(checked) is bool
    assert checked == value


@pytest.mark.parametrize(
    "value", ["no", "False", "", 0, 1, 1.0, None, [], np.array([True])]
)
def test_what_python_takes_as_true_or_false_is_refused(value):
    message = "^`ensemble` needs True or False, received .* of type"
    with pytest.raises(TypeError, match=message):
        checks.boolean("ensemble", value)


# Sequences.


@pytest.mark.parametrize(
    "values",
    [(1, 2), [1, 2], np.array([1, 2]), range(1, 3), iter([1, 2])],
    ids=lambda values: type(values).__name__,
)
def test_sequences_become_tuples(values):
    assert checks.sequence("exits", values, "integers") == (1, 2)


@pytest.mark.parametrize(
    "values", [3, None, "12", b"12", {1, 2}, {1: 2}, np.array(3)]
)
def test_what_has_no_order_is_no_sequence(values):
    message = "^`exits` needs a sequence with integers, received .* of type"
    with pytest.raises(TypeError, match=message):
        checks.sequence("exits", values, "integers")


# Thresholds.


def test_thresholds_are_numbers_from_0_to_1_or_infinity():
    rounded = float(np.nextafter(np.float32(1), np.float32(2)))
    assert checks.thresholds([0, 1, rounded]) == (0, 1, rounded)
    for infinite in (None, math.inf, np.float32(np.inf)):
        assert checks.thresholds([infinite]) == (math.inf,)
    with pytest.raises(
        ValueError, match="from 0 to 1, or infinity.*received 50"
    ):
        checks.thresholds([0.5, 50])


# Choices.


def test_known_choices_pass():
    assert checks.choice("teacher", "all", ("none", "all")) == "all"


@pytest.mark.parametrize("value", ["ALL", None, 3, ["all"], np.array(["all"])])
@pytest.mark.parametrize("known", [("none", "all"), {"none": 0, "all": 1}])
def test_unknown_choices_list_the_known_ones(value, known):
    with pytest.raises(ValueError) as caught:
        checks.choice("teacher", value, known)
    message = str(caught.value)
    assert f"Unknown `teacher` {value!r}" in message
    assert "expected one of ['none', 'all']" in message
