"""Teacher networks that a config names: a file, and which of its outputs."""

import os
import pathlib

from keras_neokd.base import checks
from keras_neokd.base import plain_settings
from keras_neokd.serving import model_files


def load(key, file):
    """Return the model of a teacher's file, not compiled.

    Args:
        key: of the config, for messages.
        file: a `.keras` file, or `None`.

    Raises:
        ValueError: if no file is named, it is no such file, or it is not
            safe to load.
        TypeError: if it is no path.
        FileNotFoundError: if it does not exist.
    """
    if file is not None and not isinstance(file, (str, os.PathLike)):
        raise TypeError(
            f"--config.{key} needs the path of a file, a text, received "
            f"{checks.typed(file)}."
        )
    if not file:
        raise ValueError(
            f"A teacher is needed: set --config.{key} to the model.keras of a "
            "finished run, or to another Keras model that maps images in "
            "[0, 1] to logits."
        )
    path = pathlib.Path(file).expanduser()
    if not path.is_file():
        raise FileNotFoundError(
            f"--config.{key}: there is no file {path}. It is the model.keras "
            "of a finished run of apps.train, or another Keras model that "
            "maps images in [0, 1] to logits."
        )
    try:
        return model_files.load(path)
    except ValueError as error:
        raise ValueError(f"--config.{key}: {error}") from error


def exit_of(name):
    """Return the index, or the name, of the output of `evaluate.teacher_file`.

    Args:
        name: `"last"`, a number counted from 1, or a name.
    """
    return plain_settings.exit_index("evaluate.teacher_exit", name)
