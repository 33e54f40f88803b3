import math

import keras
import numpy as np
import pytest

from keras_neokd.models.initializers import KaimingNormal
from keras_neokd.models.initializers import TorchDefault
from tests import arrays
from tests import saving


def drawn(initializer, shape=(3, 3, 64, 64)):
    return keras.ops.convert_to_numpy(initializer(shape))


def test_kaiming_normal_has_variance_two_over_fan():
    values = drawn(KaimingNormal(50, seed=0))
    assert values.dtype == "float32"
    assert np.mean(values) == pytest.approx(0, abs=0.005)
    assert np.var(values) == pytest.approx(2 / 50, rel=0.03)


def test_torch_default_is_uniform_within_one_over_root_fan():
    values = drawn(TorchDefault(50, seed=0))
    limit = 1 / math.sqrt(50)
    assert 0.99 * limit < np.abs(values).max() <= limit * (1 + 1e-6)
    assert np.var(values) == pytest.approx(limit**2 / 3, rel=0.03)


@pytest.mark.parametrize("kind", [KaimingNormal, TorchDefault])
def test_a_seed_fixes_the_values(kind):
    arrays.equal(drawn(kind(50, seed=1)), drawn(kind(50, seed=1)))
    assert not np.array_equal(drawn(kind(50)), drawn(kind(50)))


@pytest.mark.parametrize("kind", [KaimingNormal, TorchDefault])
def test_round_trip(kind):
    loaded = saving.rebuilt(kind(50, seed=1))
    assert type(loaded) is kind
    assert loaded.get_config() == {"fan": 50, "seed": 1}


def test_asked_for_dtype():
    values = keras.ops.convert_to_numpy(TorchDefault(4)((2,), dtype="float16"))
    assert values.dtype == "float16"
