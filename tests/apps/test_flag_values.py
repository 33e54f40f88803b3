"""Numbers on the command line may be fractions."""

import pytest

from apps.flag_values import NumberParser
from apps.flag_values import TupleParser

pytestmark = pytest.mark.any_backend


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("8/255", 8 / 255),
        (" 8 / 255 ", 8 / 255),
        ("0.5/2", 0.25),
        ("0.1", 0.1),
        ("1e-3", 1e-3),
        ("-2", -2.0),
    ],
)
def test_a_number_is_a_decimal_or_a_fraction(text, value):
    assert NumberParser().parse(text) == value


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "could not convert") for text in ("eight/255", "8//255")),
        *((text, "could not convert") for text in ("8/255/", "x", "")),
        ("8/0", "division by zero in 8/0"),
        (f"1{'0' * 400}/3", "too large for a float in 10"),
    ],
)
def test_other_texts_are_no_numbers(text, message):
    with pytest.raises(ValueError, match=message):
        NumberParser().parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(0, 4/255, 8/255)", (0, 4 / 255, 8 / 255)),
        ("8/255", (8 / 255,)),
        ("(1, 5)", (1, 5)),
        ("('average', 'fab_t')", ("average", "fab_t")),
        # Files, not divisions.
        ("runs/x/model.keras", ("runs/x/model.keras",)),
        ("('runs/1/2', 'b')", ("runs/1/2", "b")),
    ],
)
def test_numbers_in_a_tuple_may_be_fractions(text, value):
    assert TupleParser().parse(text) == value
