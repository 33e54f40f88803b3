"""Records of evaluations: read, with their schema checked.

    titled = read([pathlib.Path("runs/a"), pathlib.Path("b/results.json")])

docs/records.md describes the schema.
"""

import itertools
import pathlib
import string

from keras_neokd.base import checks
from keras_neokd.evaluation import AnytimeResult
from keras_neokd.evaluation import SearchResult
from keras_neokd.evaluation.result import check_rows
from keras_neokd.evaluation.result import check_values

from .. import attacking
from .. import workdir
from . import version_1
from .measurements import result_of

SCHEMA_VERSION = 2
# Every value that a report reads, by its dotted key.
_HEADER = {
    "environment.backend": "text",
    "config_sha256": "text",
    "model": "text",
    "model_sha256": "text",
    "method": "text",
    "data.name": "text",
    "data.split": "text",
    "data.num_examples": "count",
    "data.num_classes": "count",
    "data.checksum": "count?",
    "settings.attack.epsilon": "number",
    "settings.attack.num_steps": "count",
    "settings.attack.norm": "text",
    "settings.seed": "count",
}
_EXITS = {"name": "text", "multiply_adds": "count", "parameters": "count"}
_ENTRY = {"name": "text", "seconds": "number"}
_FINDINGS = {"code": "text", "message": "text"}


def read(paths):
    """Return a dict from titles to records.

    A title is the method, with the folder's name where several records have
    the same.

    Args:
        paths: list of `pathlib.Path`s of files, or of folders that hold
            files `results*.json`, at any depth.

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
    found = {file: read_file(file) for file in files}
    methods = [record["method"] for record in found.values()]
    titled = {}
    for file, record in found.items():
        title = record["method"]
        if methods.count(title) > 1:
            title = f"{title} ({_place(file)})"
        # The same folder name may come twice.
        names = itertools.chain(
            [title], (f"{title} {number}" for number in itertools.count(2))
        )
        titled[next(name for name in names if name not in titled)] = record
    return titled


def read_file(file):
    """Return the record in a file; errors as those of `check`, and OSError."""
    return check(workdir.read_json(file), file)


def check(record, file):
    """Check a record and return it in the form of this version.

    Args:
        record: content of the JSON file, of this version or of version 1.
        file: its path, for the message.

    Raises:
        ValueError: if it is of another version, or lacks something.
    """
    version = record.get("schema_version") if isinstance(record, dict) else None
    if version not in (1, SCHEMA_VERSION) or isinstance(version, bool):
        raise ValueError(
            f"{file} is not a record of version 1 or {SCHEMA_VERSION}: its "
            f"schema_version is {version!r}. Evaluate the run again."
        )
    try:
        if version == 1:
            record = version_1.upgraded(record)
        _check(record)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from None
    return record


def _check(record):
    _check_header(record)
    names = [each["name"] for each in record["exits"]]
    for index, entry in enumerate(record["attacks"]):
        place = f"attacks[{index}]"
        _check_entry(place, entry, AnytimeResult.columns)
        _check_attack(place, entry, names, record["data"]["num_examples"])
    for index, entry in enumerate(record["diagnostics"]):
        place = f"diagnostics[{index}]"
        result = result_of(_at(entry, "name"))
        _check_entry(place, entry, result.columns)
        columns = result.summary_columns
        check_values(f"{place}.summary", entry.get("summary"), columns)
        if entry["name"] == "budgeted":
            attack = {"attack": entry["settings"].get("attack")}
            check_values(f"{place}.settings", attack, {"attack": "text"})


def _check_attack(place, entry, names, count):
    for top in {row["top"] for row in entry["rows"]} | {1}:
        found = [r["exit"] for r in entry["rows"] if r["top"] == top]
        if found != names:
            raise ValueError(
                f"{place}.rows of top {top} are for the exits {found}, "
                f"expected {names}."
            )
    settings = entry["settings"]
    if settings:
        known = attacking.STRENGTH
        strength = {key: settings[key] for key in known if key in settings}
        check_values(f"{place}.settings", strength, known)
        if "norm" not in settings:
            raise ValueError(f"{place}.settings has no norm.")
    if entry.get("search") is not None:
        check_rows(f"{place}.search", entry["search"], SearchResult.columns)
    if entry.get("correct") is not None:
        _check_correct(f"{place}.correct", entry["correct"], names, count)


def _check_header(record):
    check_values("header", {key: _at(record, key) for key in _HEADER}, _HEADER)
    _need("method_settings", record.get("method_settings") or {}, dict)
    check_rows("exits", record.get("exits"), _EXITS)
    _check_findings("findings", record.get("findings") or [])
    for key in ("attacks", "diagnostics"):
        _need(key, record.get(key), list)
    if not record["attacks"]:
        raise ValueError("attacks is empty. Evaluate the run again.")


def _at(value, key):
    """Return the value at a dotted key, or `None`."""
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def _check_entry(place, entry, columns):
    _need(place, entry, dict)
    said = {name: entry.get(name) for name in _ENTRY}
    check_values(place, said, _ENTRY)
    _need(f"{place}.settings", entry.get("settings"), dict)
    check_rows(f"{place}.rows", entry.get("rows"), columns)
    _check_findings(f"{place}.findings", entry.get("findings"))


def _check_findings(place, findings):
    if findings != []:
        check_rows(place, findings, _FINDINGS)


def _check_correct(place, texts, names, count):
    _need(place, texts, dict)
    length = 2 * -(-count // 8)
    for name in names:
        text = texts.get(name)
        is_hex = isinstance(text, str) and set(text) <= set(string.hexdigits)
        if not is_hex or len(text) != length:
            raise ValueError(
                f"{place}.{name} needs {length} hexadecimal digits, one bit "
                f"per image, received {checks.shown(text)}."
            )


def _need(place, value, kind):
    if not isinstance(value, kind):
        raise ValueError(
            f"{place} needs {kind.__name__}, received {checks.shown(value)}."
        )


def _files(path):
    path = pathlib.Path(path)
    if path.is_dir():
        return sorted(path.rglob("results*.json"))
    if not path.exists():
        raise FileNotFoundError(f"There is no file or folder {path}.")
    return [path]


def _place(file):
    """Return the folder's name, and the file's unless it is results.json."""
    name = file.resolve().parent.name
    return name if file.name == "results.json" else f"{name}/{file.stem}"
