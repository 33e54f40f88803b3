"""Records of evaluations: read, with their schema checked.

    titled = read([pathlib.Path("runs/a"), pathlib.Path("b/results.json")])

docs/records.md describes the schema.
"""

import pathlib

from apps import workdir
from apps.reporting.schema import check


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
    found = {file: read_file(file) for file in files}
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


def read_file(file):
    """Return the record in a file.

    Args:
        file: `pathlib.Path`.

    Raises:
        ValueError: if it is not a record of a known version.
        OSError: if it cannot be read.
    """
    return check(workdir.read_json(file), file)


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
