"""Packaging of keras_neokd. Install with `pip install .[tensorflow]`."""

import re
from pathlib import Path

from setuptools import find_packages
from setuptools import setup

ROOT = Path(__file__).resolve().parent


def read_version():
    """Return `__version__` without importing the package.

    Importing it would need Keras and a backend, which are not there yet when
    pip runs this file.
    """
    path = ROOT / "keras_neokd" / "_version.py"
    match = re.search(
        r'^__version__ = "([^"]+)"$', path.read_text("utf-8"), re.MULTILINE
    )
    if match is None:
        raise ValueError(
            f'{path} needs a line `__version__ = "X.Y.Z"`: found none.'
        )
    return match.group(1)


def read_long_description():
    """Return the README, or an empty text where it was not shipped."""
    path = ROOT / "README.md"
    return path.read_text("utf-8") if path.exists() else ""


# 2.16.1 is the first TensorFlow whose `tf.keras` is Keras 3.
TENSORFLOW = "tensorflow>=2.16.1"
# 2.6 is the first PyTorch that no file can make run code while it is read.
TORCH = "torch>=2.6"

EXTRAS = {
    "tensorflow": [TENSORFLOW],
    "jax": ["jax"],
    "torch": [TORCH],
    # tensorflow-datasets 4.9.10 forgets to ask for importlib_resources.
    "data": [
        "tensorflow-datasets",
        "importlib_resources",
        "pillow",
        "scikit-learn",
    ],
    # keras-cv imports TensorFlow under every backend.
    "cv": ["keras-cv>=0.9.0", TENSORFLOW],
    "apps": [
        # Keeps what JAX compiled within a size.
        "filelock",
        "ml_collections",
        "matplotlib",
        "rich",
        "scikit-learn",
        # For certified radii.
        "scipy",
        # Newer TensorFlows do not bring it.
        "tensorboard",
    ],
    # A SavedModel is written by TensorFlow whatever the model trained on.
    "export": [TENSORFLOW],
    # The files of other runtimes are made of a SavedModel.
    "litert": [TENSORFLOW, "ai-edge-litert>=2"],
    "onnx": [TENSORFLOW, "tf2onnx>=1.17", "onnx", "onnxruntime>=1.20"],
    "openvino": [TENSORFLOW, "openvino>=2025"],
    "serve": ["starlette>=0.40", "uvicorn>=0.30"],
    # ruff and mypy are held to one minor version: the next may format
    # differently or find more.
    "test": [
        "grain",
        # Asks the HTTP service, in tests and under load.
        "httpx",
        "hypothesis>=6",
        "mypy>=2.4,<2.5",
        "pytest>=8",
        "pytest-xdist>=3",
        "ruff>=0.17,<0.18",
        "scikit-learn",
        "scipy",
    ],
}

INSIDE = find_packages(include=["apps", "apps.*", "configs", "configs.*"])

setup(
    name="keras-neokd",
    version=read_version(),
    description=(
        "Adversarially robust multi-exit networks in Keras 3, trained with "
        "NEO-KD under TensorFlow, JAX or PyTorch"
    ),
    long_description=read_long_description(),
    long_description_content_type="text/markdown",
    author="keras_neokd contributors",
    license="Apache-2.0",
    python_requires=">=3.11",
    packages=[
        *find_packages(include=["keras_neokd", "keras_neokd.*"]),
        *(f"keras_neokd.{each}" for each in INSIDE),
    ],
    # Folders of a checkout that are installed within keras_neokd.
    package_dir={
        f"keras_neokd.{each}": each.replace(".", "/") for each in INSIDE
    },
    package_data={"keras_neokd": ["py.typed"]},
    entry_points={"console_scripts": ["neokd = keras_neokd.apps.neokd:main"]},
    # No backend here: the user picks one by its extra. Keras 3.12 is the first
    # with per-exit metrics on dict outputs; 3.14.0 sent them to the wrong exit.
    install_requires=["keras>=3.12,!=3.14.0", "numpy", "absl-py"],
    extras_require=EXTRAS,
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
)
