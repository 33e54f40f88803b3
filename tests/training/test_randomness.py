"""Noise of an example: a function of seed, epoch, step and its position."""

import keras
import numpy as np
import pytest

from tests import arrays
from tests.training import tiny

IMAGES, LABELS = tiny.data(8)


def compiled(**arguments):
    return tiny.compiled(
        tiny.dense_model(),
        **{
            "method": "adversarial_training",
            "attack": tiny.NoiseImages(),
            "validation_attack": tiny.NoiseImages(),
            **arguments,
        },
    )


@pytest.fixture(scope="module")
def shared():
    model = compiled()
    return model, tiny.fresh(model)


def noise_of_fit(model, count=3, batch_size=1, **arguments):
    """Train in order; return the mean noise of every batch."""
    batches = tiny.LogsOfBatches()
    tiny.fit(
        model,
        IMAGES[:count],
        LABELS[:count],
        batch_size=batch_size,
        callbacks=[batches],
        **arguments,
    )
    per_epoch = -(-count // batch_size)
    batches, logs = tiny.LogsOfBatches(), batches.logs
    noise = []
    for start in range(0, len(logs), per_epoch):
        batches.logs = logs[start : start + per_epoch]
        noise.append(batches.noise())
    return np.stack(noise)


def all_differ(noise):
    values = np.sort(np.ravel(noise))
    return np.diff(values).min() > 1e-4


@pytest.fixture(scope="module")
def two_epochs(shared):
    """Noise of three examples in two epochs, `(epoch, step)`."""
    model, start = shared
    tiny.restore(model, start)
    return noise_of_fit(model, epochs=2)


def test_every_step_and_epoch_draws_other_noise(two_epochs):
    assert two_epochs.shape == (2, 3)
    assert ((two_epochs > 0) & (two_epochs < 1)).all()
    assert all_differ(two_epochs)


def test_examples_of_a_batch_draw_different_noise(model):
    single = noise_of_fit(model, count=1)[0, 0]
    tiny.restore(model, [np.zeros_like(each) for each in tiny.snapshot(model)])
    pair = noise_of_fit(model, count=2, batch_size=2)[0, 0]
    # The first example of the first step is the same one in both runs.
    second = 2 * pair - single
    assert 0 < second < 1
    assert abs(second - single) > 1e-4


def test_training_again_draws_the_same_noise(model, two_epochs):
    arrays.equal(noise_of_fit(model, epochs=2), two_epochs)


def test_another_seed_draws_other_noise(two_epochs):
    other = noise_of_fit(compiled(seed=1), epochs=2)
    assert all_differ([other, two_epochs])


def test_validation_between_epochs_does_not_move_the_noise(model, two_epochs):
    noise = noise_of_fit(model, epochs=2, validation_data=(IMAGES, LABELS))
    arrays.equal(noise, two_epochs)


def test_a_second_fit_goes_on_with_the_noise_of_one_long_run(model, two_epochs):
    noise = [
        noise_of_fit(model, epochs=1)[0],
        noise_of_fit(model, initial_epoch=1, epochs=2)[0],
    ]
    arrays.equal(noise, two_epochs)


def test_batches_one_by_one_draw_the_noise_of_fit(model, two_epochs):
    noise = []
    for epoch in range(2):
        model.set_epoch(epoch)
        for i in range(3):
            logs = model.train_on_batch(
                IMAGES[i : i + 1], LABELS[i : i + 1], return_dict=True
            )
            noise.append(float(logs["exit_1_noise"]))
    arrays.close(np.reshape(noise, (2, 3)), two_epochs, atol=1e-6)


@pytest.mark.parametrize("epoch", [-1, 0.5, "1"])
def test_epochs_are_whole_numbers(model, epoch):
    with pytest.raises((ValueError, TypeError), match="`epoch` needs"):
        model.set_epoch(epoch)


@pytest.mark.parametrize("kind", ["accumulated_gradients", "scaled_loss"])
def test_every_batch_draws_other_noise_with_all_optimizers(kind):
    optimizer = {
        # Keras counts one iteration for several batches.
        "accumulated_gradients": lambda: keras.optimizers.SGD(
            0.1, gradient_accumulation_steps=2
        ),
        # It has a counter of its own, which stands still.
        "scaled_loss": lambda: keras.optimizers.LossScaleOptimizer(
            keras.optimizers.SGD(0.1)
        ),
    }[kind]()
    assert all_differ(noise_of_fit(compiled(optimizer=optimizer), count=4))


def evaluate(model, batch_size=8, **arguments):
    return tiny.evaluate(
        model, IMAGES, LABELS, batch_size=batch_size, **arguments
    )


def test_evaluation_does_not_depend_on_the_batch_size(model):
    # Means weigh examples, not batches, so the short last one counts right.
    expected = evaluate(model)
    for batch_size in (1, 3):
        tiny.assert_equal_logs(
            evaluate(model, batch_size), expected, tolerance=1e-5
        )


def test_evaluation_draws_noise_of_its_own_for_every_position(model):
    noise = []
    for count in (1, 2, 3):
        logs = model.test_on_batch(
            IMAGES[:count], LABELS[:count], return_dict=True
        )
        noise.append(count * float(logs["exit_1_noise"]))
    assert all_differ(np.diff(noise, prepend=0.0))


def test_evaluation_again_draws_the_same_noise_whatever_was_trained(model):
    expected = evaluate(model)["exit_1_noise"]
    noise_of_fit(model, epochs=1)
    assert evaluate(model)["exit_1_noise"] == expected


def test_testing_and_training_draw_from_different_streams(model, two_epochs):
    logs = model.test_on_batch(IMAGES[:1], LABELS[:1], return_dict=True)
    assert all_differ([*two_epochs.ravel(), float(logs["exit_1_noise"])])


def test_validation_draws_the_same_noise_in_every_epoch(model):
    history = model.fit(
        IMAGES[:3],
        LABELS[:3],
        batch_size=1,
        epochs=2,
        verbose=0,
        validation_data=(IMAGES, LABELS),
    ).history
    first, second = history["val_exit_1_noise"]
    assert first == second
    assert first == pytest.approx(evaluate(model)["exit_1_noise"], abs=1e-6)


def test_the_global_random_state_changes_nothing(model, two_epochs):
    keras.utils.set_random_seed(12345)
    arrays.equal(noise_of_fit(model, epochs=2), two_epochs)


@pytest.mark.parametrize(
    ("seed", "error"), [(-1, ValueError), (2**31, ValueError), (1.5, TypeError)]
)
def test_impossible_seeds_are_refused(seed, error):
    with pytest.raises(error, match="`seed` needs an integer"):
        compiled(seed=seed)
