"""Session set-up and fixtures shared by every test.

Choose the backend with the environment variable KERAS_BACKEND, and point
KERAS_NEOKD_DATA at a folder with real data sets to run the tests that need
them (CONTRIBUTING.md says what the folder holds).
"""

import contextlib
import os
import platform
from pathlib import Path

import pytest

# As in the apps. TensorFlow turns it on by the kind of processor, and without
# it has no gradient of dilated convolutions.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# Tests compile what they test, and leave the folder of the user alone.
os.environ.setdefault("JAX_ENABLE_COMPILATION_CACHE", "false")

# Programs of tests run for milliseconds, and XLA takes seconds to optimise
# them; threads would spin for cores that the other process uses. The variable,
# which `make test-all` sets, is for tests of what users run.
if "KERAS_NEOKD_TEST_OPTIMIZED" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("JAX_DISABLE_MOST_OPTIMIZATIONS", "1")

# Importing PyTorch after TensorFlow has crashed interpreters (keras/conftest.py
# has the same order), so where Keras will use PyTorch it goes first. Triton,
# which comes with PyTorch for GPUs and is imported by its optimizers, ends the
# process if TensorFlow was there before ("registered more than once").
with contextlib.suppress(ImportError):
    import triton  # noqa: F401
if os.environ.get("KERAS_BACKEND") == "torch":
    import torch  # noqa: F401

import keras

from keras_neokd.base import versions

DATA_VARIABLE = "KERAS_NEOKD_DATA"


def pytest_configure():
    """Give TensorFlow and JAX two logical CPUs, for tests of distribution.

    Both refuse this once they have run their first operation, so it cannot
    wait for the tests that need it. Other tests go on using the first one.
    """
    if keras.config.backend() == "jax":
        import jax

        jax.config.update("jax_num_cpu_devices", 2)
    if keras.config.backend() != "tensorflow":
        return
    import tensorflow as tf

    tf.config.set_logical_device_configuration(
        tf.config.list_physical_devices("CPU")[0],
        [tf.config.LogicalDeviceConfiguration()] * 2,
    )


def pytest_report_header():
    """Name the backend and the versions that the results belong to."""
    found = versions.of_modules("keras", keras.config.backend(), "numpy")
    found["python"] = platform.python_version()
    described = ", ".join(f"{name} {each}" for name, each in found.items())
    return [
        f"Keras backend: {keras.config.backend()} ({described})",
        f"{DATA_VARIABLE}: {os.environ.get(DATA_VARIABLE) or 'not set'}",
    ]


@pytest.fixture(autouse=True, scope="module")
def _seed_module_fixtures():
    """Seed what a module's own shared fixtures draw."""
    keras.utils.set_random_seed(0)


@pytest.fixture(autouse=True)
def _seed_test(_seed_module_fixtures):
    """Seed Python, NumPy and the backend, so that test order cannot matter."""
    keras.utils.set_random_seed(0)


@pytest.fixture(scope="session")
def real_data_dir():
    """Folder of real data sets; skips the test where there is none.

    A variable that names a missing folder is an error, not a skip: whoever set
    it wants these tests to run.
    """
    value = os.environ.get(DATA_VARIABLE)
    if not value:
        pytest.skip(
            f"needs real data: set {DATA_VARIABLE} to a folder that holds "
            "mnist/*.gz, cifar-10-batches-bin/*.bin and cifar-100-binary/*.bin"
        )
    path = Path(value)
    if not path.is_dir():
        pytest.fail(
            f"{DATA_VARIABLE} must name an existing folder, received: {value}. "
            "Correct it, or unset it to skip the tests with real data."
        )
    return path
