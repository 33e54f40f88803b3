"""Two replicas of MirroredStrategy against one device."""

import contextlib

import keras
import numpy as np
import pytest

from apps import distributing
from keras_neokd import attacks
from keras_neokd.base import randomness
from tests.training import tiny

if keras.config.backend() != "tensorflow":
    pytest.skip("tf.distribute is TensorFlow's", allow_module_level=True)

import tensorflow as tf  # noqa: E402

IMAGES, LABELS = tiny.data(13)
# Batches of 8 and 5: the last one gives 3 images to one replica, 2 to other.
BATCH_SIZE = 8
# The first pixel says which image it is, also after it went to a replica.
IMAGES[:, 0, 0, 0] = np.arange(13) / 16


@pytest.fixture(scope="module")
def strategy():
    # The apps' own: TensorFlow bears one strategy in a process.
    return distributing.mirrored_strategy()


class RecordingPGD(attacks.PGD):
    """Notes image and noise of each example, on whatever replica."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.record = []

    def perturb(self, predict, images, labels, keys):
        noise = randomness.example_uniform(keys, (2,))
        noted = tf.numpy_function(
            self._note, [images[:, 0, 0, 0], noise], tf.bool
        )
        with tf.control_dependencies([noted]):
            images = tf.identity(images)
        return super().perturb(predict, images, labels, keys)

    def _note(self, pixels, noise):
        for pixel, pair in zip(pixels, noise, strict=True):
            self.record.append((round(float(pixel) * 16), *pair.tolist()))
        return True


def train(scope, build, epochs=2, count=13, **arguments):
    """Return logs, weights and the noise in training."""
    attack = RecordingPGD(0.1, 0.05, 2)
    with scope:
        keras.utils.set_random_seed(0)
        model = tiny.compiled(
            build(),
            **{"attack": attack, "validation_attack": tiny.pgd(), **arguments},
        )
    history = tiny.fit(
        model,
        IMAGES[:count],
        LABELS[:count],
        batch_size=BATCH_SIZE,
        epochs=epochs,
        validation_data=(IMAGES, LABELS),
    )
    return history, model.get_weights(), attack.record


def both(strategy, build, **arguments):
    return (
        train(contextlib.nullcontext(), build, **arguments),
        train(strategy.scope(), build, **arguments),
    )


@pytest.fixture(scope="module")
def frozen_norm(strategy):
    """Convolutions with frozen batch norm, on one and on two devices."""
    return both(strategy, lambda: tiny.conv_model(trainable_norm=False))


def test_a_strategy_of_one_device_trains_as_without_it():
    scope = tf.distribute.MirroredStrategy(["CPU:0"]).scope()
    one, alone = (
        train(each, tiny.conv_model, epochs=1)[:2]
        for each in (scope, contextlib.nullcontext())
    )
    tiny.assert_equal_logs(one[0], alone[0], tolerance=1e-5)
    tiny.assert_equal_states(one[1], alone[1], tolerance=1e-5)


def test_there_are_two_replicas(strategy):
    assert strategy.num_replicas_in_sync == 2


def test_every_log_of_two_replicas_equals_one_device(frozen_norm):
    (one, _, _), (two, _, _) = frozen_norm
    assert {"nkd_loss", "val_exit_3_adversarial_accuracy"} <= set(one)
    tiny.assert_equal_logs(one, two, tolerance=1e-5)


def test_weights_of_two_replicas_equal_one_device(frozen_norm):
    (_, one, _), (_, two, _) = frozen_norm
    tiny.assert_equal_states(one, two, tolerance=1e-5)
    start = tiny.conv_model(trainable_norm=False).get_weights()
    assert (
        max(np.abs(a - b).max() for a, b in zip(one, start, strict=True)) > 0.1
    )


def test_noise_of_each_example_is_the_same_on_two_replicas(frozen_norm):
    (_, _, one), (_, _, two) = frozen_norm
    # Replicas finish in any order, but steps follow each other.
    for start, stop in ((0, 8), (8, 13), (13, 21), (21, 26)):
        assert sorted(one[start:stop]) == sorted(two[start:stop])
    assert len(one) == len(two) == 2 * 13
    assert len({noise for _, noise, _ in one}) == 2 * 13


def test_regularisers_max_average_and_eokd_do_not_depend_on_replicas(strategy):
    def build():
        return tiny.dense_model(kernel_regularizer=keras.regularizers.L2(0.1))

    (one, weights, _), (two, others, _) = both(
        strategy,
        build,
        attack=attacks.MaxAverage(tiny.pgd()),
        method=tiny.neo_kd(allocation="sample"),
        metrics=[keras.metrics.SparseTopKCategoricalAccuracy(2, name="top_2")],
    )
    assert "exit_2_selected_share" in one
    assert "val_exit_1_adversarial_top_2" in one
    tiny.assert_equal_logs(one, two, tolerance=1e-5)
    tiny.assert_equal_states(weights, others, tolerance=1e-5)
    # The penalty is large enough to notice a second one.
    terms = sum(
        tiny.TERM_WEIGHTS[term][i] * np.array(one[f"{name}_{term}_loss"])
        for term in tiny.TERM_WEIGHTS
        for i, name in enumerate(tiny.NAMES)
    )
    assert (np.array(one["loss"]) - terms > 0.5).all()


def test_a_batch_smaller_than_the_number_of_replicas_breaks_nothing(strategy):
    # A replica without images has no batch statistics. Training may go on or
    # stop with a sentence, but not with NaN in the weights.
    try:
        history, weights, _ = train(
            strategy.scope(),
            lambda: tiny.dense_model(norm=True),
            epochs=1,
            count=9,
        )
    except (ValueError, tf.errors.InvalidArgumentError) as error:
        assert "without images" in str(error)
    else:
        assert np.isfinite(list(history.values())).all()
        assert all(np.isfinite(each).all() for each in weights)


def test_training_norms_under_a_strategy_stays_finite(strategy):
    history, weights, record = train(
        strategy.scope(),
        lambda: tiny.dense_model(norm=True, dropout=0.5),
        epochs=1,
    )
    assert np.isfinite(list(history.values())).all()
    assert all(np.isfinite(each).all() for each in weights)
    assert sorted(index for index, _, _ in record) == list(range(13))


def test_synchronized_batch_norm_is_that_of_the_global_batch(strategy):
    def build():
        model = tiny.conv_model()
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.synchronized = True
        return model

    (one, weights, _), (two, others, _) = both(strategy, build)
    tiny.assert_equal_logs(one, two, tolerance=1e-4)
    tiny.assert_equal_states(weights, others, tolerance=1e-4)


def test_xla_under_a_strategy_is_refused(strategy):
    with strategy.scope():
        model = tiny.dense_model()
        with pytest.raises(ValueError, match="jit_compile=True does not work"):
            tiny.compiled(model, jit_compile=True)
        tiny.compiled(model, jit_compile="auto")


@pytest.mark.parametrize(
    ("dtype", "steps", "message"),
    [
        (None, 2, "gradient_accumulation_steps=2 does not work.*2 replicas"),
        ("mixed_float16", None, "float16 do not train.*bfloat16"),
    ],
)
def test_what_keras_gets_wrong_under_a_strategy_is_refused(
    strategy, dtype, steps, message
):
    optimizer = {"gradient_accumulation_steps": steps}
    with strategy.scope():
        model = tiny.dense_model(dtype=dtype)
        with pytest.raises(ValueError, match=message):
            tiny.compiled(model, optimizer=tiny.sgd(**optimizer))


def test_slices_of_replicas_are_crafted_as_one_device_does(strategy):
    (one, weights, _), (two, others, _) = both(
        strategy, tiny.dense_model, epochs=1, crafting_batch_size=2
    )
    tiny.assert_equal_logs(one, two, tolerance=1e-5)
    tiny.assert_equal_states(weights, others, tolerance=1e-5)


def test_a_stream_is_checked_under_a_strategy(strategy):
    with strategy.scope():
        model = tiny.compiled(tiny.dense_model(), method="adversarial_training")
    images = IMAGES.copy()
    images[9] = 2.0
    dataset = tf.data.Dataset.from_tensor_slices((images, LABELS)).batch(8)
    with pytest.raises(Exception, match=r"pixels in \[0, 1\]"):
        tiny.fit(model, dataset)
