"""Write the record of an evaluation to a file that others may write as well.

    file = RecordFile(path, header, settings)
    for name in file.missing("attacks", names):
        file.add("attacks", {"name": name, **measure(name)})
    file.record

Every entry is measured by one evaluation at a time. It is added under a lock:
the file is read, merged and written.
"""

import contextlib
import itertools
import shutil
import time
import urllib.parse

from keras_neokd.training.checkpoints import refuse_differences

from . import locking
from . import workdir
from .reporting import records

_SECONDS_BETWEEN_TRIES = 0.2
_SAME = ("schema_version", "model_sha256", "data", "settings")


class RecordFile:
    """A record that this evaluation goes on with.

    Attributes:
        record: content of the file when it was last read or written.

    Args:
        path: the JSON file, existing or not.
        header: a record without results, for a new file.
        settings: dict from the names of entries to the settings that this
            evaluation measures them with.

    Raises:
        ValueError: if the file is damaged, or holds results of other
            settings. It is left as it is.
    """

    def __init__(self, path, header, settings):
        self._path, self._header, self._settings = path, header, settings
        self._locks = path.with_name(f".{path.name}.locks")
        self.record = self._read()

    def missing(self, key, names, together=None):
        """Yield the names of the entries that this evaluation has to measure.

        Nobody else measures an entry while its name is yielded. Those that
        another evaluation is measuring come last: where that one recorded
        them in the meantime they are left out, and where it ended without
        doing so they are measured here.

        Args:
            key: "attacks" or "diagnostics".
            names: names of entries, or of several that are measured at once.
            together: dict from names of several to the names of the entries,
                yielded unless the record has all of them.
        """
        taken, together = [], together or {}
        for waits, pending in ((False, names), (True, taken)):
            for name in pending:
                folder = self._locks / file_name(f"{key}.{name}")
                said = self._said(name) if waits else None
                with contextlib.ExitStack() as stack:
                    if not _enter(stack, folder, said):
                        taken.append(name)
                        continue
                    entries = set(together.get(name, [name]))
                    if self._lacks(key, entries):
                        yield name
                    # Nobody measures it any more.
                    if entries <= _names(self.record, key):
                        shutil.rmtree(folder, ignore_errors=True)

    def _said(self, name):
        return (
            f"Another evaluation is measuring {name} for {self._path}: "
            "waiting until it ends."
        )

    def add(self, key, entry):
        """Add an entry to what the file holds by now, and write it.

        Args:
            key: attacks or diagnostics.
            entry: dict of plain values with a `name`.

        Raises:
            ValueError: if the file was damaged or replaced in the meantime;
                this record is then written to another file.
        """
        self.record[key].append(entry)
        with contextlib.ExitStack() as stack:
            _enter(stack, self._locks, said="")
            try:
                self.record = _merged(self._read(), self.record)
            except ValueError as error:
                raise ValueError(f"{error} {self._rescued()}") from None
            workdir.write_json(self._path, self.record)

    def _lacks(self, key, entries):
        if not entries <= _names(self.record, key):
            self.record = _merged(self._read(), self.record)
        return not entries <= _names(self.record, key)

    def _read(self):
        if not self._path.exists():
            return {**self._header, "attacks": [], "diagnostics": []}
        try:
            record = records.read_file(self._path)
        except ValueError as error:
            raise ValueError(
                f"{error} The file was left as it is: restore it or move it "
                "away, or write to another one with --results."
            ) from None
        self._refuse_other_settings(record)
        return record

    def _refuse_other_settings(self, record):
        there, now = (
            workdir.flatten(
                {key: each.get(key) for key in _SAME}
                | {"backend": each["environment"]["backend"]}
            )
            for each in (record, self._header)
        )
        refuse_differences(
            there,
            now,
            f"{self._path} holds results of other settings",
            "Write to another file with --results, or remove this one.",
        )
        for entry in (*record["attacks"], *record["diagnostics"]):
            if entry["name"] in self._settings:
                refuse_differences(
                    _compared(entry["settings"]),
                    _compared(self._settings[entry["name"]]),
                    f"The results hold {entry['name']} of other settings",
                    "Write to another file with --results.",
                )

    def _rescued(self):
        name = f"{self._path.stem}.rescued_"
        files = (
            self._path.with_name(f"{name}{number}.json")
            for number in itertools.count(1)
        )
        file = next(each for each in files if not each.exists())
        workdir.write_json(file, self.record)
        return f"What this evaluation has measured is in {file}."


def file_name(name):
    """Return a name as a part of a file's name.

    An attack's name contains an exit's name, which a model file may choose so
    that a path would lead out of the folder.
    """
    return urllib.parse.quote(name, safe="")


def _compared(settings):
    """Return the settings that two measurements of an entry have to share.

    Records of before images were tried across exits do not name them; tables
    say so, and the numbers stay.
    """
    flat = workdir.flatten(settings)
    flat.pop("tried_across", None)
    return flat


def _merged(there, ours):
    """Merge two records; where both have an entry, keep that of the file."""
    merged = {**there}
    if there["findings"] is None:
        merged["findings"] = ours["findings"]
    for key in ("attacks", "diagnostics"):
        known = _names(there, key)
        new = [each for each in ours[key] if each["name"] not in known]
        merged[key] = [*there[key], *new]
    return merged


def _names(record, key):
    return {each["name"] for each in record[key]}


def _enter(stack, folder, said=None):
    """Take the lock of a folder; return False if another process has it.

    If `said` is not `None`, print it (unless it is empty) and wait for the
    lock.
    """
    while True:
        try:
            stack.enter_context(locking.alone_in(folder))
        except (FileNotFoundError, ValueError):  # Removed, or taken.
            if said is None:
                return False
        else:
            return True
        if said:
            print(said, flush=True)
        said = ""
        time.sleep(_SECONDS_BETWEEN_TRIES)
