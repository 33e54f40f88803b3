"""Load config files, sweeps and modules of the user, by name or by path.

`mnist:neo_kd` is the installed `configs/mnist.py` with its variant `neo_kd`;
`configs/mnist.py:neo_kd` is that file where it stands, one of ours or not.
"""

import importlib
import importlib.util
import os
import pathlib
import pkgutil
import sys

# Beside `apps` in a checkout, in keras_neokd where it is installed.
_CONFIGS = __package__.removesuffix("apps") + "configs"


def load(text):
    """Return the config that a name or path, and perhaps a variant, stand for.

    Args:
        text: `NAME`, `NAME:VARIANT`, `PATH.py` or `PATH.py:VARIANT`.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if the name or the variant is unknown, or the file is no
            config.
    """
    place, colon, variant = text.partition(":")
    module = find(place, "--config")
    if not hasattr(module, "get_config"):
        raise ValueError(f"--config={place} has no function get_config().")
    try:
        return module.get_config(*[variant] if colon else [])
    except Exception as error:
        raise ValueError(f"--config={text}: {error}") from error


def import_module(place):
    """Import a module of the user, which registers what it holds.

    Args:
        place: path of a file that ends in `.py`, or name of a module that is
            installed or in the working directory.

    Raises:
        ValueError: if there is none, or it has an error.
    """
    path = pathlib.Path(place)
    if "," in place and not path.exists():
        flags = " ".join(f"--import={each}" for each in place.split(","))
        raise ValueError(
            f"--import={place} needs one module. Give the flag once for each: "
            f"{flags}."
        )
    if path.suffix == ".py":
        _run(path, "--import")
        return
    sys.path.append(os.getcwd())
    try:
        importlib.import_module(place)
    except Exception as error:
        raise ValueError(
            f"--import={place} ended in {type(error).__name__}: {error}"
        ) from error


def find(place, flag, folder=""):
    """Return the module of a config or sweep.

    Args:
        place: path of a file that ends in `.py`, or name of one of ours.
        flag: the flag that names it, for messages.
        folder: dotted path from `configs` to the folder of ours.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if there is no such name, or the file has an error.
    """
    ours = importlib.import_module(_CONFIGS + folder)
    path = pathlib.Path(place)
    is_path = path.suffix == ".py"
    if is_path and not path.is_file():
        raise FileNotFoundError(f"{flag}: there is no file {place}.")
    names = [each.name for each in pkgutil.iter_modules(ours.__path__)]
    if is_path and path.resolve().parent != pathlib.Path(ours.__path__[0]):
        return _run(path, flag)
    if path.stem not in names:
        raise ValueError(
            f"{flag}: there is no {place!r}. Give the path of a file that "
            f"ends in .py, or one of {', '.join(names)}."
        )
    return importlib.import_module(f"{ours.__name__}.{path.stem}")


def _run(path, flag):
    """Return a user's file as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise ValueError(
            f"{flag}={path} ended in {type(error).__name__}: {error}"
        ) from error
    return module
