"""The folder of a run: which files it has, and who may write them.

run = Workdir("runs/x")
run.check(config)          # may this config go on in this folder?
run.begin(config, facts)   # write config.json and environment.json
"""

import hashlib
import json
import os
import pathlib
import platform
import re
import shutil
import sys

import keras
from ml_collections import config_dict

import keras_neokd
from keras_neokd.base import checks
from keras_neokd.base import versions
from keras_neokd.base import writing
from keras_neokd.training.checkpoints import refuse_differences

from . import config_of_0_1_0
from . import data_facts
from . import distributing
from . import run_config

# Settings that may change when a run goes on: its results do not depend on
# them. The last two are in configs of 0.1.0.
_FREE = {
    *(f"distribution.{key}" for key in distributing.PROCESS_KEYS),
    "train.checkpoint_seconds",
    "train.checkpoints_kept",
    "train.max_rollbacks",
    "train.on_divergence",
}
# Settings of later versions than a run may be of, as they were before.
_LATER = {"train.crafting_dtype": "float32"}
# Settings of the method and the model that name a file whose content the run
# depends on.
_FILES = re.compile(r"model\.weights|method\..*\.teacher_file")


class Workdir:
    """Paths and records of one run, in a folder that exists or not."""

    def __init__(self, path):
        self.path = pathlib.Path(path).expanduser()
        self.config = self.path / "config.json"
        self.environment = self.path / "environment.json"
        self.history = self.path / "history.jsonl"
        self.history_table = self.path / "history.csv"
        self.checkpoints = self.path / "checkpoints"
        self.tensorboard = self.path / "tensorboard"
        self.model = self.path / "model.keras"
        self.best_model = self.path / "best.keras"
        self.learning_curves = self.path / "learning_curves.png"
        self.results = self.path / "results.json"
        self.robustness = self.path / "robustness.png"
        self.saved_model = self.path / "saved_model"

    @property
    def is_finished(self):
        """Return True if training is finished; its last file is the model."""
        return self.model.exists()

    @property
    def crafting_dtype(self):
        """What `train.crafting_dtype` came to at first; `None` if unknown.

        A run that was killed before its config was written has not begun.
        """
        if not self.config.exists():
            return None
        return self._environment().get("crafting_dtype")

    def check(self, config):
        """Raise if a run with this config cannot begin or go on here.

        Raises:
            ValueError: if the folder belongs to a run with another config or
                backend (the message names every key that differs), a file
                that the config names has changed since, or the folder
                belongs to something else.
            OSError: if the folder cannot be written.
        """
        check_writable(self.path)
        if not self.config.exists():
            if _visible(self.path) - {self.environment.name}:
                raise ValueError(
                    f"--workdir={self.path} is not empty and holds no run "
                    "(no config.json). Give a new folder."
                )
            return
        recorded = flatten(self._recorded_config())
        theirs = {**_LATER, **recorded, **self._backend()}
        refuse_differences(
            _without_free(theirs),
            _lasting_settings(config),
            f"--workdir={self.path} belongs to a run with other settings",
            "Give another folder, or the settings of that run.",
        )
        recorded = self._environment().get("files_sha256")
        if recorded is not None and not self.is_finished:
            refuse_differences(
                recorded,
                _digests_of_files(config),
                f"--workdir={self.path} began with files of another content; "
                "their SHA-256 (null: there is no file)",
                "Bring the files of then back, or give another folder.",
            )

    def check_data(self, facts):
        """Raise `ValueError` if the run began with other `data_facts`."""
        recorded = self._environment().get("data")
        if recorded is not None:
            refuse_differences(
                recorded,
                facts,
                f"The run in {self.path} was trained on other data, or on "
                "the same in another order",
                "Bring the files of then back (set --config.data.dir or "
                "KERAS_NEOKD_DATA), or give another folder.",
            )

    def identity(self, config, facts):
        """Return the flat dict that every checkpoint of this run stores.

        It holds the settings that may not change when the run goes on, the
        backend, digests of files, and facts of the data. Checkpoints hold the
        precision of attacks by themselves; earlier ones are of float32.
        """
        settings = _lasting_settings(config)
        for key in _LATER:
            settings.pop(key, None)
        digests = {
            f"SHA-256 of {key}": each
            for key, each in _digests_of_files(config).items()
        }
        return {**settings, **digests, **facts}

    def begin(self, config, facts, crafting_dtype=None):
        """Make the folder and write what describes the run.

        Args:
            config: a whole config, checked.
            facts: `data_facts.data_facts` of the data; `None` if unknown.
            crafting_dtype: what `train.crafting_dtype` came to. Defaults to
                `None`: unknown.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        if not self.config.exists():
            # The config last: without it, the folder holds no run yet.
            described = {
                "files_sha256": _digests_of_files(config),
                "data": facts,
                "crafting_dtype": crafting_dtype,
            }
            write_json(self.environment, {**environment(), **described})
            write_json(self.config, run_config.chosen(config))

    def read_config(self):
        """Return the config of the run."""
        if not self.config.exists():
            raise FileNotFoundError(
                f"--workdir={self.path} holds no run: expected "
                f"{self.config}, which apps.train writes."
            )
        return config_dict.ConfigDict(self._recorded_config()).lock()

    def read_history(self):
        """Return one dict per finished epoch, oldest first."""
        if not self.history.exists():
            return []
        rows = []
        for line in self.history.read_text("utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break  # The process was killed while it wrote this line.
        return rows

    def remove_checkpoints(self):
        """Remove the checkpoints, which a finished run no longer needs."""
        shutil.rmtree(self.checkpoints, ignore_errors=True)

    def _recorded_config(self):
        recorded = read_json(self.config)
        try:
            return config_of_0_1_0.translated(recorded)
        except ValueError as error:
            raise ValueError(f"{self.config}: {error}") from error

    def _environment(self):
        if not self.environment.exists():
            return {}
        recorded = read_json(self.environment)
        for key in ("data", "files_sha256"):
            if not isinstance(recorded.get(key), (dict, type(None))):
                raise ValueError(
                    f"{self.environment} is damaged: {key} needs an object, "
                    f"received {recorded[key]!r}. Restore it."
                )
        dtype = recorded.get("crafting_dtype")
        if dtype not in (None, "float32", "bfloat16"):
            raise ValueError(
                f"{self.environment} is damaged: crafting_dtype needs "
                f"'float32' or 'bfloat16', received {checks.shown(dtype)}. "
                "Restore it."
            )
        return recorded

    def _backend(self):
        recorded = self._environment()
        return {"backend": recorded.get("backend")} if recorded else {}


def _lasting_settings(config):
    """Return the settings of a run that have to stay, and its backend."""
    settings = {**flatten(config), "backend": keras.config.backend()}
    return _without_free(settings)


def _without_free(config):
    """Return the settings that have to stay, of a flat config."""
    free = _FREE
    if not data_facts.place_matters(config.get("data.name")):
        free = {*free, "data.dir"}  # `check_data` compares what is there.
    return {key: config[key] for key in config if key not in free}


def _digests_of_files(config):
    """Return the digest of every file that the config names, by key."""
    flat = flatten(config)
    paths = {
        key: pathlib.Path(value).expanduser()
        for key, value in flat.items()
        # What is no text is refused where it is loaded.
        if value and isinstance(value, str) and _FILES.fullmatch(key)
    }
    return {key: digest(paths[key]) for key in paths if paths[key].is_file()}


def check_writable(path):
    """Raise `OSError` if a folder cannot be made or written."""
    existing = path
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    if not existing.is_dir():
        raise NotADirectoryError(
            f"Cannot write to {path}: {existing} is not a folder. Give "
            "another place."
        )
    if not os.access(existing, os.W_OK | os.X_OK):
        raise PermissionError(
            f"Cannot write to {path}: no permission to write in {existing}. "
            "Give another place."
        )


def environment():
    """Return what a result depends on besides its config, as plain values."""
    backend = keras.config.backend()
    return {
        "backend": backend,
        "keras_neokd": keras_neokd.__version__,
        **versions.of_modules("keras", "numpy", backend),
        "python": platform.python_version(),
        "system": platform.system(),
        "machine": platform.machine(),
        "num_cpus": os.cpu_count(),
        "onednn": os.environ.get("TF_ENABLE_ONEDNN_OPTS"),
        "command": " ".join(sys.argv),
    }


def flatten(config, prefix=""):
    """Return a nested config as a dict with dotted keys, as JSON has it.

    Args:
        config: a whole config, of which the sections of names in use count;
            or a dict.
        prefix: what the keys begin with.
    """
    if isinstance(config, config_dict.ConfigDict):
        config = run_config.chosen(config)
    flat = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = json.loads(json.dumps(value))
    return flat


def digest(path):
    """Return the SHA-256 of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def text_digest(text):
    """Return the SHA-256 of a text, in hexadecimal."""
    return hashlib.sha256(text.encode()).hexdigest()


def read_json(path):
    """Return the content of a JSON file that holds an object.

    Raises:
        ValueError: if it is not JSON in UTF-8, or something else.
    """
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not a JSON file: {error}.") from error
    if not isinstance(value, dict):
        raise ValueError(
            f"{path} is damaged: expected a JSON object, received "
            f"{checks.shown(value)}. Restore it or move it away."
        )
    return value


def write_json(path, value):
    """Write a JSON file so that a kill leaves the old or the new one."""
    writing.write_text(path, json.dumps(value, indent=2) + "\n")


def _visible(path):
    if not path.exists():
        return set()
    names = {each.name for each in path.iterdir()}
    return {name for name in names if not name.startswith(".")}
