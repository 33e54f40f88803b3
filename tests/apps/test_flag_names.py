"""Errors about a config name its keys, whatever the argument is called."""

import pytest

from apps.flag_names import named_by_keys

pytestmark = pytest.mark.any_backend


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
