"""Records of evaluations: read, with their schema checked.

    titled = read([pathlib.Path("runs/a"), pathlib.Path("b/results.json")])

docs/records.md describes the schema.
"""

import pathlib
import string

from apps import workdir

SCHEMA_VERSION = 1

_TEXT, _NUMBER, _LIST, _DICT = str, (int, float), list, dict
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
    "settings": _DICT,
    "settings.attack": _DICT,
    "settings.attack.epsilon": _NUMBER,
    "settings.attack.num_steps": int,
    "settings.attack.norm": _TEXT,
    "settings.seed": int,
    "exits": _LIST,
    "exits[].name": _TEXT,
    "exits[].multiply_adds": int,
    "exits[].parameters": int,
    "attacks": _LIST,
    "attacks[].name": _TEXT,
    "attacks[].seconds": _NUMBER,
    "attacks[].top1": _DICT,
    "attacks[].top1_average": _NUMBER,
    "signs": _LIST,
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
    "attacks[].robust_after_each": _LIST,
    "attacks[].robust_after_each[].attack": _TEXT,
    "attacks[].robust_after_each[].robust": _NUMBER,
    "diagnostics": _LIST,
    "diagnostics[].name": _TEXT,
    "diagnostics[].settings": _DICT,
    "diagnostics[].rows": _LIST,
    "attacks[].top1_interval": _DICT,
    "attacks[].top1_seed_deviation": _DICT,
    "attacks[].signs": _LIST,
    "attacks[].signs[].code": _TEXT,
    "attacks[].signs[].message": _TEXT,
    "diagnostics[].signs": _LIST,
    "diagnostics[].signs[].code": _TEXT,
    "diagnostics[].signs[].message": _TEXT,
}
# What a row of a protocol has at least.
_ROWS = {
    "budgeted": {"multiply-adds", "accuracy"},
    "sensitivity": {"changed", "value", "average"},
    "transferability": {"attack on"},
    "transfer": {"attack made on"},
}
_MAY_BE_MISSING = {
    "method_settings",
    "signs",
    "attacks[].top5",
    "attacks[].top5_average",
    "attacks[].correct",
    "attacks[].top1_interval",
    "attacks[].top1_seed_deviation",
    "attacks[].attack",
    "attacks[].epsilon",
    "attacks[].norm",
    "attacks[].robust_after_each",
    "attacks[].signs",
    "diagnostics",
    "diagnostics[].rows",
    "diagnostics[].signs",
}


def read(paths):
    """Read records, each with a title of its own.

    Args:
        paths: list of `pathlib.Path`s of files, or of folders that hold
            files `results*.json`, at any depth.

    Returns:
        Dict from titles to records; a title is the method, with the folder's
        name where several records have the same.

    Raises:
        FileNotFoundError: if there is no record.
        ValueError: if a file is not a record of a known version.
    """
    files = [file for path in paths for file in _files(path)]
    if not files:
        listed = ", ".join(str(path) for path in paths)
        raise FileNotFoundError(
            f"There is no results*.json in {listed}: evaluate a run first."
        )
    found = {file: check(workdir.read_json(file), file) for file in files}
    methods = [record["method"] for record in found.values()]
    titled = {}
    for file, record in found.items():
        title = record["method"]
        if methods.count(title) > 1:
            title = f"{title} ({_place(file)})"
        # The same folder name may come twice.
        number = 2
        unique = title
        while unique in titled:
            unique = f"{title} {number}"
            number += 1
        titled[unique] = record
    return titled


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
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(
                    f"{file}: {place} needs {_name(kind)}, received {value!r}."
                )
    for key in ("exits", "attacks"):
        if not record[key]:
            raise ValueError(f"{file}: {key} is empty. Evaluate the run again.")
    names = [each["name"] for each in record["exits"]]
    count = record["data"]["num_examples"]
    for index, attack in enumerate(record["attacks"]):
        if attack.get("attack") is not None and not (
            {"epsilon", "norm"} <= attack.keys()
        ):
            raise ValueError(
                f"{file}: attacks[{index}] has no epsilon and norm. Evaluate "
                "the run again."
            )
        if attack.get("correct") is not None:
            place = f"{file}: attacks[{index}].correct"
            _check_correct(place, attack["correct"], names, count)
        for k in ("top1", "top5"):
            if attack.get(k) is not None:
                _check_shares(f"{file}: attacks[{index}].{k}", attack[k], names)
    for index, entry in enumerate(record.get("diagnostics") or ()):
        _check_rows(f"{file}: diagnostics[{index}].rows", entry)
    return _without_null(record)


def _check_rows(place, entry):
    needed = _ROWS.get(entry["name"], set())
    for index, row in enumerate(entry.get("rows") or ()):
        missing = needed - row.keys() if isinstance(row, dict) else needed
        if missing:
            raise ValueError(f"{place}[{index}] lacks {sorted(missing)}.")


def _without_null(record):
    """Leave out keys that may be missing and are null."""
    attacks = [
        {
            key: value
            for key, value in attack.items()
            # An attack without a ball has the epsilon null.
            if value is not None or key == "epsilon"
        }
        for attack in record["attacks"]
    ]
    return {**record, "attacks": attacks}


def _check_correct(place, texts, names, count):
    length = 2 * -(-count // 8)
    for name in names:
        text = texts.get(name)
        is_hex = isinstance(text, str) and set(text) <= set(string.hexdigits)
        if not is_hex or len(text) != length:
            raise ValueError(
                f"{place}.{name} needs {length} hexadecimal digits, one bit "
                f"per image, received {str(text)[:80]!r}."
            )


def _check_shares(place, shares, names):
    if list(shares) != names:
        raise ValueError(
            f"{place} is for the exits {list(shares)}, expected {names}."
        )
    for name, share in shares.items():
        is_number = isinstance(share, _NUMBER) and not isinstance(share, bool)
        if not is_number or not 0 <= share <= 1:
            raise ValueError(
                f"{place}.{name} needs a number from 0 to 1, received "
                f"{share!r}."
            )


def _files(path):
    path = pathlib.Path(path)
    if path.is_dir():
        return sorted(path.rglob("results*.json"))
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    return [path]


def _place(file):
    """Return what tells a file from its neighbours."""
    name = file.resolve().parent.name
    return name if file.name == "results.json" else f"{name}/{file.stem}"


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
