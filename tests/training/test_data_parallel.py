"""Two devices of `keras.distribution.DataParallel` against one device."""

import contextlib
import os

import keras
import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd import data
from keras_neokd import methods
from keras_neokd.data.splits import Split
from tests.distributed import two_devices
from tests.training import tiny

if keras.config.backend() != "jax":
    pytest.skip("keras.distribution is JAX's", allow_module_level=True)

IMAGES, LABELS = tiny.data(13)
# Batches of 8 and 5, for two devices.
SPLIT = Split(IMAGES, LABELS, np.arange(13))


def train(scope, build, with_index=False, **arguments):
    """Return logs and all that training changes."""
    with scope:
        keras.utils.set_random_seed(0)
        model = tiny.compiled(
            build(), **{"validation_attack": tiny.pgd(), **arguments}
        )
        batches = data.TrainingBatches(SPLIT, 8, with_index=with_index)
        history = tiny.fit(
            model,
            batches,
            epochs=2,
            validation_data=data.EvaluationBatches(SPLIT, 8),
        )
        return history, tiny.snapshot(model)


@pytest.mark.parametrize(
    ("build", "arguments"),
    [
        (
            # Trained batch norm: JAX computes that of the whole batch.
            tiny.conv_model,
            {
                "attack": attacks.MaxAverage(tiny.pgd()),
                "method": tiny.neo_kd(allocation="sample"),
            },
        ),
        pytest.param(
            # Dropout, a term of the whole batch, and the attack trained so.
            lambda: tiny.dense_model(norm=True, dropout=0.5),
            {
                "method": methods.TEAT(num_examples=13, num_epochs=4),
                "attack_training_mode": True,
            },
            marks=pytest.mark.skipif(
                "KERAS_NEOKD_TEST_OPTIMIZED" not in os.environ,
                reason="XLA rounds more without optimising: make test-all",
            ),
        ),
    ],
    ids=["neo_kd", "teat"],
)
def test_two_devices_equal_one(build, arguments):
    with_index = isinstance(arguments["method"], methods.TEAT)
    one, state = train(contextlib.nullcontext(), build, with_index, **arguments)
    two, other = train(two_devices(), build, with_index, **arguments)
    assert "val_exit_3_adversarial_accuracy" in one
    tiny.assert_equal_logs(one, two, tolerance=1e-4)
    tiny.assert_equal_states(state, other, tolerance=1e-5)


def test_each_device_holds_its_part_of_a_batch():
    seen = []

    class Looking(attacks.PGD):
        def perturb(self, predict, images, labels, keys):
            import jax

            jax.debug.inspect_array_sharding(images, callback=seen.append)
            return super().perturb(predict, images, labels, keys)

    train(two_devices(), tiny.dense_model, attack=Looking(0.1, 0.05, 1))
    assert (4, 8, 8, 1) in [each.shard_shape((8, 8, 8, 1)) for each in seen]


def test_arrays_that_cannot_be_divided_are_refused():
    with two_devices():
        model = tiny.compiled(tiny.dense_model())
        with pytest.raises(ValueError, match="8 and 5 .*TrainingBatches"):
            model.fit(IMAGES, LABELS, batch_size=8, verbose=0)
        with pytest.raises(ValueError, match="8 and 5 examples"):
            model.evaluate(IMAGES, LABELS, batch_size=8, verbose=0)
        for call in (model.train_on_batch, model.test_on_batch):
            with pytest.raises(ValueError, match="Batches of 13 examples"):
                call(IMAGES, LABELS)
            assert np.isfinite(call(IMAGES[:8], LABELS[:8])).all()
