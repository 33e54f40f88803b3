"""Make the tables of protocols and diagnostics from rows and columns."""

from keras_neokd import evaluation as evaluation  # Which registers protocols.
from keras_neokd.evaluation.protocol import known
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import kind_of

from .. import attacking
from ..tables import Table
from ..tables import cell

# By kind: unit, factor, decimals.
_UNITS = {"share": ("%", 100, 2), "cost": ("million", 1e-6, 3)}
_NO_UNIT = ("", 1, 4)
# Of a longer list of settings a line has the ends.
_MOST_VALUES = 8


def tables(titled):
    """Return a table for every protocol and diagnostic of titled records."""
    return [
        _table(
            entry,
            f"{title}, {record['data']['name']}",
            _line(entry, seconds=entry["seconds"]),
        )
        for title, record in titled.items()
        for entry in record["diagnostics"]
    ]


def with_settings(record):
    """Return the tables of a record, with the settings in their titles."""
    return [_table(entry, _line(entry)) for entry in record["diagnostics"]]


def _line(entry, **more):
    """Return the settings of an entry, `more` and its summary in a line."""
    kinds = result_of(entry["name"]).summary_columns
    settings = (*_settings(entry).items(), *more.items())
    summary = entry["summary"].items()
    said = [_said(name, value) for name, value in settings]
    said += [
        _said(name, value, kind_of(name, kinds)) for name, value in summary
    ]
    return ", ".join(said)


def _settings(entry):
    found = {
        name: _ends(value)
        for name, value in entry["settings"].items()
        if not name.endswith(("_sha256", "_settings"))
    }
    described = entry["settings"].get("attack_settings")
    if isinstance(described, dict):
        found["attack"] = _attack(found.get("attack"), described)
    return found


def _ends(value):
    is_long = isinstance(value, (list, tuple)) and len(value) > _MOST_VALUES
    return (value[0], "...", value[-1]) if is_long else value


def _attack(name, described):
    """Return name and strength of an attack, see `attacking.described`."""
    config = _config(described)
    if isinstance(config.get("attack"), dict):  # Of `MaxAverage`.
        config = _config(config["attack"])
    strength = ", ".join(
        _said(key, config[key])
        for key in attacking.STRENGTH
        if isinstance(config.get(key), (str, int, float))
    )
    return f"{name or described.get('class_name')} ({strength})"


def _config(described):
    config = described.get("config")
    return config if isinstance(config, dict) else {}


def readable(name):
    """Return a name with spaces for underscores.

    The name of an exit after " at " stays as it is.
    """
    what, at, exit = name.partition(" at ")
    return what.replace("_", " ") + at + exit


def text(value):
    """Return a plain value, or a list of them, as text."""
    if isinstance(value, (list, tuple)):
        return " ".join(map(text, value)) or "-"
    if value is None:
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _said(name, value, kind=None):
    unit, _, digits = _UNITS.get(kind, _NO_UNIT)
    if unit and value is not None:
        value = f"{cell(_cell(value, kind), digits)} {unit}"
    return f"{readable(name)} {text(value)}"


def result_of(name):
    """Return the class whose columns an entry has, `Result` if unknown."""
    there = known().get(str(name))
    return there.result if there else Result


def _table(entry, what, note=""):
    result = result_of(entry["name"])
    lay = _spread if result.spread else _as_they_are
    columns, cells, digits = lay(entry["rows"], result)
    title = f"{readable(entry['name'])}; {what}"
    return Table(title, columns, cells, digits, note)


def _as_they_are(rows, result):
    kinds = {name: kind_of(name, result.columns) for name in rows[0]}
    cells = [
        [_cell(row.get(name), kind) for name, kind in kinds.items()]
        for row in rows
    ]
    digits = [_UNITS.get(kind, _NO_UNIT)[2] for kind in kinds.values()]
    return list(map(_head, kinds, kinds.values())), cells, digits


def _spread(rows, result):
    """Return columns, cells and digits with a column for every exit."""
    keys = [name for name in rows[0] if name not in ("exit", *result.spread)]
    exits = list(dict.fromkeys(row["exit"] for row in rows))
    lines = {}
    for row in rows:
        for name in result.spread:
            line = lines.setdefault((name, *(row.get(k) for k in keys)), {})
            line[row["exit"]] = row.get(name)
    kinds = {name: kind_of(name, result.columns) for name in result.spread}
    cells = []
    for (name, *values), by_exit in lines.items():
        numbers = [by_exit.get(exit) for exit in exits]
        is_known = None not in numbers
        numbers.append(sum(numbers) / len(numbers) if is_known else None)
        cells.append(
            [
                _head(name, kinds[name]),
                *(_cell(value, None) for value in values),
                *(_cell(number, kinds[name]) for number in numbers),
            ]
        )
    digits = 2 if set(kinds.values()) == {"share"} else 4
    digits = [*[4] * (1 + len(keys)), *[digits] * (len(exits) + 1)]
    return ["", *map(readable, keys), *exits, "average"], cells, digits


def _head(name, kind):
    unit = _UNITS.get(kind, _NO_UNIT)[0]
    return readable(name) + (f" ({unit})" if unit else "")


def _cell(value, kind):
    if value is None or isinstance(value, bool):
        return text(value)
    factor = _UNITS.get(kind, _NO_UNIT)[1]
    return value if isinstance(value, str) else factor * value
