"""Protocols: registered by name, described by the signature."""

import re

import numpy as np
import pytest

from apps.reporting import measurements
from keras_neokd import evaluation
from keras_neokd import models
from keras_neokd.evaluation.protocol import _KNOWN
from keras_neokd.evaluation.protocol import Unavailable
from keras_neokd.evaluation.protocol import WrongResult
from keras_neokd.evaluation.protocol import known
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import check_rows
from keras_neokd.evaluation.result import flat
from keras_neokd.evaluation.result import table


class Shares(Result):
    columns = {"exit": "text", "right": "share", "why": "text?"}
    spread = ("right",)


def shares(*names):
    return Shares(table(exit=names, right=[0.5] * len(names)))


def mine(model, images, labels, attack, strength=2, limit=None, batch_size=256):
    del images, labels, attack, strength, batch_size
    assert limit is None  # Whatever empty value stands for it.
    return shares(*model.exit_names)


@pytest.fixture
def registered():
    def check(model, attack, strength, limit):
        del model, attack, limit
        return {"strength": 2 * strength}

    evaluation.Protocol("mine", Shares, check, num_exits=2)(mine)
    yield known()["mine"]
    del _KNOWN["mine"]


def test_the_signature_is_the_description(registered):
    assert list(registered.parameters) == ["attack", "strength", "limit"]
    assert registered.parameters["strength"].default == 2
    assert registered.section == "mine"
    model = models.SmallCNN()
    options = {"batch_size": 8, "seed": 0, "verbose": 0}
    for limit in (None, 0, ()):
        arguments = {"attack": None, "strength": 3, "limit": limit}
        assert registered.check_ready(model, arguments) == {"strength": 6}
        found = registered.run(model, [], [], arguments, **options)
        check_rows("rows", found.rows(), Shares.columns)


def test_a_table_needs_no_more_than_rows_and_columns(registered):
    rows = shares("exit_1", "exit_2").rows()
    entry = {"name": "mine", "rows": rows, "seconds": 1.0, "summary": {}}
    entry["settings"] = {"strength": 2}
    record = {"diagnostics": [entry], "data": {"name": "digits"}}
    (found,) = measurements.tables({"a": record})
    assert found.columns == ["", "exit_1", "exit_2", "average"]
    assert found.rows == [["right (%)", 50, 50, 50]]


KINDS = "['text', 'flag', 'number', 'count', 'share', 'cost']"


@pytest.mark.parametrize(
    ("declared", "message"),
    [
        (
            {"colums": {"exit": "text"}},
            " needs `columns` .* received {} and {}",
        ),
        (
            {"columns": ["exit"]},
            r" needs `columns` and .*, dicts .* received \['exit'\] and {}",
        ),
        (
            {"columns": {"a": "shares"}, "summary_columns": {"a": "share"}},
            ": the column 'a' needs a kind of .* received 'shares'",
        ),
        (
            {"columns": {"exit": "text", "right": "shares"}},
            f": the column 'right' needs a kind of {re.escape(KINDS)}, .* "
            "received 'shares'",
        ),
        (
            {
                "columns": {"exit": "text"},
                "summary_columns": {"mean": "share??"},
            },
            ": the column 'mean' needs a kind of .* received 'share[?][?]'",
        ),
        (
            {"columns": {"exit": "text", "right": "share"}, "spread": ("ri",)},
            r": `spread` needs .* lacks \['ri'\]: received \['exit', 'right'\]",
        ),
        (
            {"columns": {"right": "share"}, "spread": ("right",)},
            r": `spread` .* lacks \['exit'\]: received \['right'\]",
        ),
    ],
)
def test_columns_that_cannot_be_are_refused_at_once(declared, message):
    result = type("Mine", (Result,), declared)
    with pytest.raises(ValueError, match=f"The protocol 'mine': Mine{message}"):
        evaluation.Protocol("mine", result)


@pytest.mark.parametrize("result", [None, dict, shares("exit_1")])
def test_what_is_no_class_of_results_is_refused_at_once(result):
    message = "The diagnostic 'mine' needs a subclass of evaluation.Result, re"
    with pytest.raises(TypeError, match=message):
        evaluation.diagnostic("mine", result)


ROWS = [{"exit": "a", "right": 0.5}]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            [{"exit": "a", "right": 0.5}],
            "needs to return Shares, received .*list",
        ),
        (Result([]), "needs to return Shares, received .*of type Result"),
        (Shares([]), r": rows needs a list of rows, received \[\]"),
        (
            Shares([{"exit": "a", "rigth": 0.5}]),
            r": rows\[0\] lacks \['right'\], received \['exit', 'rigth'\]",
        ),
        (
            Shares([*ROWS, {"exit": "a", "right": 0.5, "whi": "b"}]),
            r": `columns` of Shares lacks \['whi'\]: expected \['exit', "
            r"'right', 'why'\], received \['exit', 'right', 'whi'\]",
        ),
        (
            Shares([{"exit": "a", "right": 1}, {"exit": "b", "right": 1.5}]),
            r": rows\[1\]: 'right' needs share, received 1.5",
        ),
        (
            Shares([{"exit": "a", "right": np.float32(0.5)}]),
            "'right' needs share, received .*`evaluation.result.flat` makes",
        ),
        (
            Shares(shares("a").rows(), {"mean": 0.5}),
            r"`summary_columns` of Shares lacks \['mean'\]: expected \[\], re",
        ),
    ],
)
def test_what_is_not_as_declared_is_no_result(found, message):
    protocol = evaluation.Protocol("mine", Shares, function=lambda model: found)
    with pytest.raises(WrongResult, match=f"The protocol 'mine'.*{message}"):
        protocol.run(None, [], [], {})


class Budgets(Result):
    """Two columns for each of some names."""

    columns = {"budget": "number", "share at": "share?", "cost at": "cost"}
    summary_columns = {"mean": "share", "note": "text?"}


@pytest.mark.parametrize(
    ("row", "summary", "message"),
    [
        ({"budget": 2, "cost at a": 1.0}, {"mean": 0.5}, None),
        ({"budget": 2, "share at a": 1.0}, {"mean": 0.5}, "lacks .'cost at a'"),
        ({"budget": 2, "cost at a": 1.0}, {}, r"columns` of .* has \['mean'\]"),
    ],
)
def test_what_is_optional_may_be_left_out(row, summary, message):
    first = {"budget": 1, "share at a": 0.5, "cost at a": 1.0}
    found = Budgets([first, row], summary)
    protocol = evaluation.Protocol("b", Budgets, function=lambda model: found)
    if message is None:
        assert protocol.run(None, [], [], {}) is found
        return
    with pytest.raises(WrongResult, match=message):
        protocol.run(None, [], [], {})


@pytest.mark.parametrize("default", [{1, 2}, np.float32(0.5), Shares, object()])
def test_a_default_that_json_does_not_know_is_refused_at_once(default):
    def mine(model, strength=default):
        return strength

    message = "The protocol 'mine': the default of `strength` needs a value tha"
    with pytest.raises(ValueError, match=message):
        evaluation.Protocol("mine", Shares)(mine)
    assert "mine" not in known()


def test_what_is_needed_is_no_setting_that_json_has_to_know():
    def mine(model, attack=Shares, batch_size=Shares):
        return model, attack, batch_size

    evaluation.Protocol("mine", Shares)(mine)
    assert _KNOWN.pop("mine").settings == {}


def test_measurements_of_the_library_are_told_from_others(registered):
    assert not registered.is_of_the_library
    others = {each.is_of_the_library for each in known().values()}
    assert others == {True, False}
    assert known()["smoothing"].is_of_the_library


def test_too_few_exits_are_said(registered):
    class One:
        num_exits = 1

    with pytest.raises(Unavailable, match="'mine' needs at least 2 exits"):
        registered.check_ready(One(), {})


def test_a_name_has_one_meaning(registered):
    evaluation.Protocol("mine", Shares)(mine)  # As a notebook does.
    with pytest.raises(ValueError, match=r"'mine' is .*\.mine: give .*known"):
        evaluation.Protocol("mine", Shares)(known)


def test_protocols_and_diagnostics_are_told_apart():
    assert "smoothing" in known(is_diagnostic=True)
    assert "smoothing" not in known(is_diagnostic=False)
    assert known(is_diagnostic=False).keys() < known().keys()


def test_rows_of_a_model_with_one_exit():
    result = shares("exit_1")
    assert result.rows() == [{"exit": "exit_1", "right": 0.5}]
    assert result.summary() == {}


def test_what_is_not_finite_is_none():
    values = flat(a=float("nan"), b=float("inf"), c=0.5, d="x", e=True)
    assert list(values.values()) == [None, None, 0.5, "x", True]
    assert table(n=("a", "b"), **{"m at": (("x", "y"), [[1, 2], [3, 4]])}) == [
        {"n": "a", "m at x": 1, "m at y": 2},
        {"n": "b", "m at x": 3, "m at y": 4},
    ]
