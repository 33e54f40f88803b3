"""The schema of records: what a file must hold to be read."""

import string

from keras_neokd import checks

SCHEMA_VERSION = 1
# Column of the rows of the protocol budgeted.
COST_INTERVAL = "multiply-adds, 95 % interval"

_TEXT, _NUMBER, _LIST, _DICT = str, (int, float), list, dict
_LARGEST = 1e300
# Every key that a report reads, with its type; a dot goes into a dict, [] into
# each entry of a list.
_SCHEMA = {
    "schema_version": int,
    "environment": _DICT,
    "environment.backend": _TEXT,
    "config_sha256": _TEXT,
    "model": _TEXT,
    "model_sha256": _TEXT,
    "method": _TEXT,
    "method_settings": _DICT,
    "data": _DICT,
    "data.name": _TEXT,
    "data.split": _TEXT,
    "data.num_examples": int,
    "data.num_classes": int,
    "data.checksum": int,
    "settings": _DICT,
    "settings.attack": _DICT,
    "settings.attack.epsilon": _NUMBER,
    "settings.attack.num_steps": int,
    "settings.attack.norm": _TEXT,
    "settings.seed": int,
    "exits": _LIST,
    "exits[]": _DICT,
    "exits[].name": _TEXT,
    "exits[].multiply_adds": int,
    "exits[].parameters": int,
    "attacks": _LIST,
    "attacks[]": _DICT,
    "attacks[].name": _TEXT,
    "attacks[].seconds": _NUMBER,
    "attacks[].top1": _DICT,
    "attacks[].top1_average": _NUMBER,
    "signs": _LIST,
    "signs[]": _DICT,
    "signs[].code": _TEXT,
    "signs[].message": _TEXT,
    "attacks[].top5": _DICT,
    "attacks[].top5_average": _NUMBER,
    "attacks[].correct": _DICT,
    "attacks[].attack": _DICT,
    "attacks[].attack.class_name": _TEXT,
    "attacks[].epsilon": _NUMBER,
    "attacks[].norm": _TEXT,
    "attacks[].attack.config": _DICT,
    "attacks[].attack.config.num_steps": int,
    "attacks[].attack.config.num_queries": int,
    "attacks[].attack.config.attacks": _LIST,
    "attacks[].attack.config.attacks[]": _DICT,
    "attacks[].attack.config.attacks[].config": _DICT,
    "attacks[].attack.config.attacks[].config.num_steps": int,
    "attacks[].attack.config.attacks[].config.num_queries": int,
    "attacks[].robust_after_each": _LIST,
    "attacks[].robust_after_each[]": _DICT,
    "attacks[].robust_after_each[].attack": _TEXT,
    "attacks[].robust_after_each[].robust": _NUMBER,
    "diagnostics": _LIST,
    "diagnostics[]": _DICT,
    "diagnostics[].name": _TEXT,
    "diagnostics[].settings": _DICT,
    "diagnostics[].settings.attack": _TEXT,
    "diagnostics[].seconds": _NUMBER,
    "diagnostics[].measures": _DICT,
    "diagnostics[].rows": _LIST,
    "diagnostics[].rows[]": _DICT,
    "attacks[].top1_interval": _DICT,
    "attacks[].top1_seed_deviation": _DICT,
    "attacks[].selected_share": _DICT,
    "attacks[].signs": _LIST,
    "attacks[].signs[]": _DICT,
    "attacks[].signs[].code": _TEXT,
    "attacks[].signs[].message": _TEXT,
    "diagnostics[].signs": _LIST,
    "diagnostics[].signs[]": _DICT,
    "diagnostics[].signs[].code": _TEXT,
    "diagnostics[].signs[].message": _TEXT,
}
# What a row of a protocol has at least: numbers, and the text of its first.
_ROWS = {
    "budgeted": {"multiply-adds", "accuracy"},
    "sensitivity": {"changed", "value", "average"},
    "transferability": {"attack on"},
    "transfer": {"attack made on"},
}
_TEXT_IN_ROWS = {"changed", "attack on", "attack made on"}
_MAY_BE_MISSING = {
    "method_settings",
    "signs",
    "data.checksum",
    "attacks[].top5",
    "attacks[].top5_average",
    "attacks[].correct",
    "attacks[].top1_interval",
    "attacks[].top1_seed_deviation",
    "attacks[].selected_share",
    "attacks[].attack",
    "attacks[].attack.config.num_steps",
    "attacks[].attack.config.num_queries",
    "attacks[].attack.config.attacks",
    "attacks[].attack.config.attacks[].config.num_steps",
    "attacks[].attack.config.attacks[].config.num_queries",
    "attacks[].epsilon",
    "attacks[].norm",
    "attacks[].robust_after_each",
    "attacks[].signs",
    "diagnostics",
    "diagnostics[].settings.attack",
    "diagnostics[].seconds",
    "diagnostics[].measures",
    "diagnostics[].rows",
    "diagnostics[].signs",
}


def check(record, file):
    """Return a record if it has all that a report reads.

    Args:
        record: what the JSON file holds.
        file: its path, for the message.

    Raises:
        ValueError: if it is of another version, or lacks something.
    """
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{file} is not a record of version {SCHEMA_VERSION}: its "
            f"schema_version is {version!r}. Evaluate the run again."
        )
    for key, kind in _SCHEMA.items():
        for place, value in _values(record, key):
            if value is None and key in _MAY_BE_MISSING:
                continue
            if not _is(value, kind):
                raise ValueError(
                    f"{file}: {place} needs {_name(kind)}, received "
                    f"{checks.shown(value)}."
                )
    for key in ("exits", "attacks"):
        if not record[key]:
            raise ValueError(f"{file}: {key} is empty. Evaluate the run again.")
    names = [each["name"] for each in record["exits"]]
    for index, attack in enumerate(record["attacks"]):
        place = f"{file}: attacks[{index}]"
        _check_attack(place, attack, names, record["data"]["num_examples"])
    for index, entry in enumerate(record.get("diagnostics") or ()):
        _check_diagnostic(f"{file}: diagnostics[{index}]", entry, names)
    return _without_null(record)


def _check_attack(place, attack, names, count):
    if attack.get("attack") is not None and not (
        "epsilon" in attack and _is(attack.get("norm"), _TEXT)
    ):
        raise ValueError(
            f"{place} has no epsilon and norm. Evaluate the run again."
        )
    if attack.get("robust_after_each") == []:
        raise ValueError(f"{place}.robust_after_each is empty.")
    if attack.get("correct") is not None:
        _check_correct(f"{place}.correct", attack["correct"], names, count)
    for key, is_right, needed in (
        ("top1", _is_share, "a number from 0 to 1"),
        ("top5", _is_share, "a number from 0 to 1"),
        ("selected_share", _is_share, "a number from 0 to 1"),
        ("top1_seed_deviation", _is_number, "a number"),
        ("top1_interval", _is_interval, "two numbers from 0 to 1"),
    ):
        if attack.get(key) is not None:
            _check_exits(f"{place}.{key}", attack[key], names, is_right, needed)
    if attack.get("top5") is not None and attack.get("top5_average") is None:
        raise ValueError(f"{place}.top5_average is missing.")


def _check_diagnostic(place, entry, names):
    for what, by_exit in (entry.get("measures") or {}).items():
        where = f"{place}.measures.{what}"
        if not _is(by_exit, _DICT):
            raise ValueError(
                f"{where} needs dict, received {checks.shown(by_exit)}."
            )
        _check_exits(where, by_exit, names, _is_number_or_none, "a number")
    if entry["name"] == "budgeted" and "attack" not in entry["settings"]:
        raise ValueError(f"{place}.settings.attack is missing.")
    rows = entry.get("rows")
    if rows is None and (entry["name"] in _ROWS or not entry.get("measures")):
        raise ValueError(f"{place} has no rows and no measures.")
    if rows is not None:
        _check_rows(f"{place}.rows", entry["name"], rows)


def _check_rows(place, name, rows):
    if not rows:
        raise ValueError(f"{place} is empty.")
    for index, row in enumerate(rows):
        needed = _ROWS.get(name, set())
        missing = {*needed, *rows[0]} - row.keys()
        if missing:
            raise ValueError(f"{place}[{index}] lacks {sorted(missing)}.")
        for key, value in row.items():
            kind = _TEXT if key in _TEXT_IN_ROWS else _NUMBER
            is_right = _is(value, kind) if key in needed else _is_cell(value)
            if key == "multiply-adds":
                is_right = is_right and value > 0
            if key == COST_INTERVAL and value is not None:
                is_right = _are_costs(value)
            if key not in rows[0] or not is_right:
                raise ValueError(
                    f"{place}[{index}]: {key!r} needs "
                    f"{_name(kind)} as in the other rows, received "
                    f"{checks.shown(value)}."
                )


def _without_null(record):
    """Leave out keys that may be missing and are null."""
    entries = {
        key: [
            {
                name: value
                for name, value in entry.items()
                # An attack without a ball has the epsilon null.
                if value is not None or name == "epsilon"
            }
            for entry in record[key]
        ]
        for key in ("attacks", "diagnostics")
        if record.get(key) is not None
    }
    return {**record, **entries}


def _check_correct(place, texts, names, count):
    length = 2 * -(-count // 8)
    for name in names:
        text = texts.get(name)
        is_hex = isinstance(text, str) and set(text) <= set(string.hexdigits)
        if not is_hex or len(text) != length:
            raise ValueError(
                f"{place}.{name} needs {length} hexadecimal digits, one bit "
                f"per image, received {checks.shown(text)}."
            )


def _check_exits(place, values, names, is_right, needed):
    if list(values) != names:
        raise ValueError(
            f"{place} is for the exits {list(values)}, expected {names}."
        )
    for name, value in values.items():
        if not is_right(value):
            raise ValueError(
                f"{place}.{name} needs {needed}, received "
                f"{checks.shown(value)}."
            )


def _is(value, kind):
    if kind in (int, _NUMBER):
        return isinstance(value, kind) and _is_number(value)
    return isinstance(value, kind)


def _is_number(value):
    is_number = isinstance(value, _NUMBER) and not isinstance(value, bool)
    # Of integers JSON has any size.
    return is_number and -_LARGEST < value < _LARGEST


def _is_number_or_none(value):
    return value is None or _is_number(value)


def _is_share(value):
    return _is_number(value) and 0 <= value <= 1


def _is_interval(value):
    return _is(value, _LIST) and len(value) == 2 and all(map(_is_share, value))


def _are_costs(value):
    is_pair = _is(value, _LIST) and len(value) == 2
    return is_pair and all(_is_number(each) and each > 0 for each in value)


def _is_cell(value):
    if isinstance(value, list):
        return all(map(_is_number_or_none, value))
    return value is None or isinstance(value, str) or _is_number(value)


def _values(record, key):
    """Yield each value that a key stands for, with its place."""
    found = [("", record)]
    for part in key.split("."):
        name, is_list = part.removesuffix("[]"), part.endswith("[]")
        found = [
            (f"{place}.{name}".lstrip("."), value.get(name))
            for place, value in found
            if isinstance(value, dict)
        ]
        if is_list:
            found = [
                (f"{place}[{index}]", each)
                for place, value in found
                if isinstance(value, list)
                for index, each in enumerate(value)
            ]
    return found


def _name(kind):
    kinds = kind if isinstance(kind, tuple) else (kind,)
    return " or ".join(each.__name__ for each in kinds)
