"""Fixtures of the tests of data."""

import types

import keras
import numpy as np
import pytest


@pytest.fixture
def under(monkeypatch):
    """Return a function that puts a number of devices and processes in use."""

    def put(devices, processes=1, process=0):
        found = types.SimpleNamespace(
            device_mesh=types.SimpleNamespace(devices=np.empty(devices)),
            num_processes=processes,
            data_shard_id=process,
        )
        monkeypatch.setattr(keras.distribution, "distribution", lambda: found)

    return put
