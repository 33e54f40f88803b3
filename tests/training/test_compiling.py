"""Number of traces of a step, and the reach of `jit_compile`."""

import keras
import pytest

from keras_neokd import attacks
from tests.marks import slow
from tests.training import tiny

if keras.config.backend() == "torch":
    pytest.skip("PyTorch runs steps eagerly", allow_module_level=True)

IMAGES, LABELS = tiny.data(10)


class CountingPGD(attacks.PGD):
    """Counts how often Python runs it: once for each trace of a step."""

    def __init__(self, *arguments, **named):
        super().__init__(*arguments, **named)
        self.traces = []

    def perturb(self, predict, images, labels, keys):
        self.traces.append(tuple(images.shape))
        return super().perturb(predict, images, labels, keys)


@pytest.mark.parametrize("jit_compile", ["auto", slow(True)])
def test_later_epochs_and_fits_trace_nothing(jit_compile):
    trained, validated = CountingPGD(0.1, 0.05, 1), CountingPGD(0.1, 0.05, 1)
    model = tiny.compiled(
        tiny.dense_model(),
        method="adversarial_training",
        attack=trained,
        validation_attack=validated,
        jit_compile=jit_compile,
    )
    counts = []

    def count(*_):
        counts.append((len(trained.traces), len(validated.traces)))

    # Batches of 4, 4 and 2 images; validation of 4 and 3.
    arguments = {
        "batch_size": 4,
        "verbose": 0,
        "validation_data": (IMAGES[:7], LABELS[:7]),
        "callbacks": [keras.callbacks.LambdaCallback(on_epoch_end=count)],
    }
    model.fit(IMAGES, LABELS, epochs=3, **arguments)
    model.fit(IMAGES, LABELS, initial_epoch=3, epochs=5, **arguments)
    # JAX knows every shape when it compiles: whole batches and the last one.
    # TensorFlow traces again once it has seen that sizes vary.
    most = {"tensorflow": 3, "jax": 2}[keras.config.backend()]
    assert 1 <= counts[0][0] <= most and 1 <= counts[0][1] <= most
    assert counts == counts[:1] * 5


def test_the_first_step_is_traced_once():
    attack = CountingPGD(0.1, 0.05, 1)
    model = tiny.compiled(
        tiny.dense_model(), method="adversarial_training", attack=attack
    )
    model.fit(IMAGES, LABELS, batch_size=5, verbose=0)
    assert len(attack.traces) == 1


def step(jit_compile, **arguments):
    model = tiny.compiled(
        tiny.dense_model(),
        method="adversarial_training",
        jit_compile=jit_compile,
        **arguments,
    )
    logs = model.train_on_batch(IMAGES, LABELS, return_dict=True)
    return logs, model.get_weights()


def test_a_step_is_the_same_with_and_without_xla():
    (logs, weights), (others, other_weights) = step(True), step(False)
    tiny.assert_equal_logs(logs, others, 1e-4)
    tiny.assert_equal_states(weights, other_weights, 1e-4)


def test_jit_compile_reaches_the_step():
    if keras.config.backend() != "tensorflow":
        pytest.skip("without a compiler, JAX runs a step eagerly")
    import tensorflow as tf

    class PythonAttack(tiny.NoiseImages):
        """Runs what XLA cannot compile."""

        def perturb(self, predict, images, labels, keys):
            moved = tf.numpy_function(lambda x: x, [images], tf.float32)
            images = tf.ensure_shape(moved, images.shape)
            return super().perturb(predict, images, labels, keys)

    step(False, attack=PythonAttack())
    with pytest.raises(tf.errors.InvalidArgumentError, match="unsupported"):
        step(True, attack=PythonAttack())
