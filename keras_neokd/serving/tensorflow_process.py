"""Call a function where Keras runs on TensorFlow.

What TensorFlow writes is the same whichever backend trained the model: under
JAX and PyTorch the model travels through a `.keras` file to a second process.
"""

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module

import keras

from keras_neokd.network.multi_exit import MultiExitModel

_MODEL = "model.keras"


def call(
    function: Callable[[keras.Model, pathlib.Path], None],
    model: MultiExitModel,
    folder: pathlib.Path,
) -> None:
    """Call `function(model, folder)` under the TensorFlow backend.

    Args:
        function: a function of a module of this package, by which the second
            process finds it; it answers with files in `folder`.
        model: a `MultiExitModel`; under another backend without layers of
            the user's own.
        folder: `pathlib.Path` of a folder for both processes.

    Raises:
        RuntimeError: if the second process fails, with the end of its
            messages.
    """
    if keras.config.backend() == "tensorflow":
        function(model, folder)
        return
    model.save(folder / _MODEL)
    source = str(pathlib.Path(__file__).resolve().parents[2])
    paths = [source, os.environ.get("PYTHONPATH", "")]
    result = subprocess.run(
        [
            sys.executable,
            "-c",
            "import sys; from keras_neokd.serving import tensorflow_process; "
            "tensorflow_process.call_from_file(*sys.argv[1:])",
            function.__module__,
            function.__name__,
            str(folder.resolve()),
        ],
        env={
            **os.environ,
            "KERAS_BACKEND": "tensorflow",
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            # The other framework may hold the memory of a GPU.
            "CUDA_VISIBLE_DEVICES": "-1",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode != 0:
        raise RuntimeError(
            "The process that runs Keras on TensorFlow could not export the "
            "model. Layers of your own and Lambda layers are unknown to it: "
            "load the model's .keras file with KERAS_BACKEND=tensorflow where "
            "they are imported, and export there. The end of its messages:\n"
            f"{result.stderr[-2000:]}"
        )


def call_from_file(module: str, name: str, folder: str) -> None:
    """Do what `call` asks of the second process."""
    function = getattr(import_module(module), name)
    place = pathlib.Path(folder)
    model = keras.saving.load_model(place / _MODEL, compile=False)
    function(model, place)
