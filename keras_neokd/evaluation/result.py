"""Results of measurements as flat rows of named plain values.

    class MyResult(Result):
        columns = {"exit": "text", "accuracy": "share", "deviation": "number?"}

        def rows(self):
            return table(exit=self.names, accuracy=self.accuracy, ...)

A result that is nothing but rows is given them: `MyResult(table(...))`.
Records, tables and figures are made from rows and their columns alone. A column
is "text", a "flag", a "number", a "count" (an integer >= 0), a "share" (from 0
to 1) or a "cost" (multiply-adds, > 0); with a question mark a row may lack the
value, or hold None. A column that ends in " at" stands for one of each exit,
such as "share at exit_1".
"""

import math
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from keras_neokd.base import checks
from keras_neokd.base.typing import Row

# JSON has integers of any size.
_LARGEST = 1e300
_OF_NUMPY = " `evaluation.result.flat` makes plain values of NumPy's."
_TYPES = {"text": str, "flag": bool}
_RANGES = {
    "number": (-_LARGEST, _LARGEST),
    "count": (0, _LARGEST),
    "share": (0, 1),
    "cost": (1e-300, _LARGEST),
}


class Result:
    """Base class of results.

    Args:
        rows: what `rows` returns, unless a subclass works it out.
        summary: what `summary` returns. Defaults to nothing.

    Attributes:
        columns: dict from the names of the columns of `rows` to their kinds.
        summary_columns: the same for the values of `summary`.
        spread: names of the columns that tables write as one line each, with
            a cell per exit and their mean. Defaults to none.
        findings: list of `soundness.Finding`s.
    """

    columns: dict[str, str] = {}
    summary_columns: dict[str, str] = {}
    spread: tuple[str, ...] = ()
    findings: Sequence[Any] = ()
    _rows: list[Row] = []
    _summary: Row = {}

    def __init__(self, rows: list[Row], summary: Row | None = None) -> None:
        self._rows, self._summary = rows, summary or {}

    def rows(self) -> list[Row]:
        """Return the numbers as a list of flat dicts of plain values."""
        return self._rows

    def summary(self) -> Row:
        """Return what belongs to no single row, as one flat dict."""
        return self._summary

    def write_beside(self, path: pathlib.Path) -> None:
        """Write files that others read, beside the record of the result.

        Args:
            path: `pathlib.Path` of the record.
        """


def table(**columns):
    """Return columns as rows, see `flat`.

    Args:
        **columns: sequences of the same length, one value per row; for a
            name that ends in " at" a tuple of the exits' names and values
            `(rows, exits)`.
    """
    sequences = {}
    for name, values in columns.items():
        if name.endswith(" at"):
            names, values = values
            pairs = zip(names, np.transpose(values), strict=True)
            sequences |= {f"{name} {each}": column for each, column in pairs}
        else:
            sequences[name] = values
    return [
        flat(**dict(zip(sequences, cells, strict=True)))
        for cells in zip(*sequences.values(), strict=True)
    ]


def flat(**values):
    """Return text, numbers, booleans and None as plain values.

    NaN and infinity become None: JSON has neither.
    """
    return {name: _plain(value) for name, value in values.items()}


def kind_of(name, columns):
    """Return the kind of a column without "?"; None for an unknown one."""
    kind = _declared(name, columns)
    return kind and kind.rstrip("?")


def check_class(place, result):
    """Raise an error unless a class is a `Result` with possible columns.

    Args:
        place: what returns it, for the message.
        result: any value.
    """
    if not (isinstance(result, type) and issubclass(result, Result)):
        raise TypeError(
            f"{place} needs a subclass of evaluation.Result, received "
            f"{checks.typed(result)}."
        )
    place = f"{place}: {result.__name__}"
    columns, summary = result.columns, result.summary_columns
    if not (
        columns and isinstance(columns, dict) and isinstance(summary, dict)
    ):
        raise ValueError(
            f"{place} needs `columns` and `summary_columns`, dicts from names "
            f"to kinds such as 'share', received {checks.shown(columns)} and "
            f"{checks.shown(summary)}."
        )
    kinds = [*_TYPES, *_RANGES]
    for name, kind in (*columns.items(), *summary.items()):
        if str(kind).removesuffix("?") not in kinds:
            raise ValueError(
                f"{place}: the column {name!r} needs a kind of {kinds}, "
                f"perhaps with a question mark, received {checks.shown(kind)}."
            )
    spread = ("exit", *result.spread) if result.spread else ()
    missing = [name for name in spread if name not in columns]
    if missing:
        raise ValueError(
            f"{place}: `spread` needs the columns {list(spread)}, and "
            f"`columns` lacks {missing}: received {list(columns)}."
        )


def check_result(place, result):
    """Raise `ValueError` where a `Result` is not as its class declares.

    Args:
        place: what returned it, for the message.
        result: a `Result`.
    """
    rows, summary = result.rows(), result.summary()
    check_rows(f"{place}: rows", rows, result.columns)
    check_values(f"{place}: summary", summary, result.summary_columns)
    found = dict.fromkeys(name for row in rows for name in row)
    for what, values in (("columns", found), ("summary_columns", summary)):
        columns = getattr(result, what)
        there = {name: _column(name, columns) for name in values}
        extra = [name for name in values if there[name] is None]
        if extra:
            raise ValueError(
                f"{place}: `{what}` of {type(result).__name__} lacks {extra}: "
                f"expected {list(columns)}, received {list(values)}."
            )
        missing = [
            name
            for name, kind in columns.items()
            if not kind.endswith("?") and name not in there.values()
        ]
        if missing:
            raise ValueError(
                f"{place}: `{what}` of {type(result).__name__} has {missing}, "
                f"received {list(values)}."
            )


def check_rows(place, rows, columns):
    """Raise `ValueError` where rows are not flat, or not as declared.

    Args:
        place: where they stand, for the message.
        rows: any value.
        columns: as in `Result`; `{}` checks that cells are plain values, and
            the same in all rows.
    """
    if not isinstance(rows, list) or not rows:
        raise ValueError(
            f"{place} needs a list of rows, received {checks.shown(rows)}."
        )
    declared = {name for name in columns if not name.endswith(" at")}
    for number, row in enumerate(rows):
        check_values(f"{place}[{number}]", row, columns)
        missing = [
            name
            for name in {*declared, *rows[0]} - row.keys()
            if not (_declared(name, columns) or "").endswith("?")
        ]
        if missing:
            raise ValueError(
                f"{place}[{number}] lacks {sorted(missing)}, received "
                f"{list(row)}."
            )


def check_values(place, values, columns):
    """Raise `ValueError` where a dict is not flat, or not as declared.

    Args:
        place, columns: as for `check_rows`.
        values: any value.
    """
    if not isinstance(values, dict):
        raise ValueError(
            f"{place} needs dict, received {checks.shown(values)}."
        )
    for name, value in values.items():
        kind = _declared(name, columns)
        if not _is_right(value, kind):
            raise ValueError(
                f"{place}: {name!r} needs {kind or 'text or a number'}, "
                f"received {checks.shown(value)}."
                + (_OF_NUMPY if isinstance(value, np.generic) else "")
            )
    for name in values:
        numbers = [values.get(f"{name}{end}") for end in (" low", "", " high")]
        if not _are_sorted(numbers):
            raise ValueError(
                f"{place}: {name!r} needs a number within its interval, "
                f"received low, value, high {numbers}."
            )


def _are_sorted(numbers):
    """Return whether numbers do not fall but for rounding, if all are."""
    if not all(isinstance(each, (int, float)) for each in numbers):
        return True
    low, value, high = numbers
    rounded = 1e-6 * abs(value)
    return low - rounded <= value <= high + rounded


def _declared(name, columns):
    """Return the kind that is declared for a value, or `None`."""
    return columns.get(_column(name, columns))


def _column(name, columns):
    """Return which declared column a value belongs to, or `None`."""
    for each in (name, f"{name.split(' at ')[0]} at"):
        if each in columns:
            return each
    return None


def _is_right(value, kind):
    """Return whether a cell of a kind may hold a value."""
    if value is None:
        return kind is None or kind.endswith("?")
    kind = kind and kind.rstrip("?")
    if kind in _TYPES:
        return isinstance(value, _TYPES[kind])
    if isinstance(value, (str, bool)):
        return kind is None
    low, high = _RANGES[kind or "number"]
    is_number = isinstance(value, int if kind == "count" else (int, float))
    return is_number and low <= value <= high


def _plain(value):
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
