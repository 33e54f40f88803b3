"""Load `.keras` files that others may have made.

A file is looked at before Keras gets it: what is in the archive, which layers
it names, and where its arrays are. Keras refuses most of this, too; which part
it refuses depends on its version.
"""

import io
import json
import pathlib
import stat
import zipfile
import zlib

import keras

from keras_neokd.base.typing import PathLike
from keras_neokd.data import files

_CONFIG = "config.json"
_WEIGHTS = "model.weights.h5"
# Objects of Keras whose description is code, or the place of code.
_RUN_CODE = {
    "FlaxLayer",
    "JaxLayer",
    "Lambda",
    "TFSMLayer",
    "TorchModuleWrapper",
    "__lambda__",
}
# What reading can raise; a RuntimeError where parts contain themselves.
_DAMAGED = (
    EOFError,
    KeyError,
    OSError,
    RuntimeError,
    zipfile.BadZipFile,
    zlib.error,
)


def load(path: PathLike) -> keras.Model:
    """Return the model of a file, not compiled.

    Args:
        path: `.keras` file.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is no such file, is damaged, could run code or read
            other files, or needs classes that are not part of Keras and this
            project.
    """
    path = pathlib.Path(path).expanduser()
    if path.suffix != ".keras":
        raise ValueError(
            f"A model is loaded from a .keras file, received {str(path)!r}. "
            "Other formats can hold code of whoever wrote them."
        )
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    check_weights(path)
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except (TypeError, ValueError) as error:
        # Without the description of the whole model.
        reason = str(error).split("Exception encountered: ")[-1]
        reason = reason.partition("Full object config")[0].strip()
        raise ValueError(
            f"Keras does not load {path}: {reason} Only models of Keras' own "
            "layers and of keras_neokd are loaded."
        ) from error


def read_config(path):
    """Return the description of the model in a `.keras` file.

    Args:
        path: `pathlib.Path` of the file.

    Returns:
        A dict with at least `config`.

    Raises:
        ValueError: if it is no such file, would leave its folder, unpacks to
            more than it is, or could run code.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(path, archive)
            config = json.loads(archive.read(_CONFIG))
        _check_runs_nothing(path, config)
    except (UnicodeError, json.JSONDecodeError) as error:
        raise _damaged(path, f"{_CONFIG}: {error}") from error
    except _DAMAGED as error:
        raise _damaged(path, error) from error
    if not isinstance(config, dict) or "config" not in config:
        raise _damaged(path, f"{_CONFIG} describes no model")
    return config


def check_weights(path):
    """Return the shape of every array in a file of weights, by its place.

    Args:
        path: `pathlib.Path` of a `.keras` or `.weights.h5` file.

    Raises:
        ValueError: if it is no such file, is damaged, takes arrays from
            other files, claims larger ones than it holds, or, as a `.keras`
            file, is one that `read_config` refuses.
    """
    import h5py

    try:
        with h5py.File(_hdf5_of(path), "r") as file:
            return dict(_arrays(path, file))
    except _DAMAGED as error:
        raise _damaged(path, error) from error


def _check_members(path, archive):
    """Raise unless every member is a plain file below the archive, unpacked."""
    files.check_uncompressed(path, archive)
    for member in archive.infolist():
        name = member.filename
        place = pathlib.PurePosixPath(name.replace("\\", "/"))
        leaves = (
            place.is_absolute()
            or ".." in place.parts
            or pathlib.PureWindowsPath(name).drive
        )
        if leaves or stat.S_ISLNK(member.external_attr >> 16):
            raise ValueError(
                f"{path} was not loaded: its member {name!r} would be put "
                "outside of the archive's folder, or is a link. Keras writes "
                "no such file; somebody made it to do harm."
            )


def _check_runs_nothing(path, config):
    found = sorted(_class_names(config) & _RUN_CODE)
    if found:
        raise ValueError(
            f"{path} was not loaded: it holds {', '.join(found)}, and loading "
            "that could run code of whoever wrote the file. Build the model "
            "from Keras' own layers instead. If you trust the file, load it "
            "with keras.saving.load_model(..., safe_mode=False)."
        )


def _class_names(config):
    """Return all names of classes anywhere in a description."""
    if isinstance(config, dict):
        own = config.get("class_name")
        # Keras finds `layers.Lambda` of the module `keras`, too.
        names = {own.split(".")[-1]} if isinstance(own, str) else set()
        return names.union(*map(_class_names, config.values()))
    if isinstance(config, list):
        return set().union(*map(_class_names, config))
    return set()


def _hdf5_of(path):
    if path.suffix == ".h5":
        return path
    read_config(path)
    with zipfile.ZipFile(path) as archive:
        return io.BytesIO(archive.read(_WEIGHTS))


def _arrays(path, group):
    """Yield place and shape of every array, and follow no link."""
    import h5py

    for name in group:
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise _reads_elsewhere(path, f"{group.name}/{name}")
        item = group[name]
        if isinstance(item, h5py.Group):
            yield from _arrays(path, item)
        elif isinstance(item, h5py.Dataset):
            if item.external or item.is_virtual:
                raise _reads_elsewhere(path, item.name)
            claimed = (item.size or 0) * item.dtype.itemsize
            held = item.id.get_storage_size()
            if claimed > held:
                raise ValueError(
                    f"{path} was not loaded: its array {item.name} claims "
                    f"{claimed:,} bytes and holds {held:,}. Keras neither "
                    "compresses arrays nor leaves them out: get the file as "
                    "Keras wrote it."
                )
            yield item.name.removeprefix("/"), item.shape


def _reads_elsewhere(path, name):
    return ValueError(
        f"{path} was not loaded: its array {name} is a link, or lies in "
        "another file. Keras writes no such file; somebody made it to read "
        "files of yours."
    )


def _damaged(path, error):
    return ValueError(
        f"{path} is not a file as Keras 3 writes them, or it is damaged: "
        f"{error}"
    )
