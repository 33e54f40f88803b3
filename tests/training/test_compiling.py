"""How often a step is traced, and what `jit_compile` reaches."""

import keras
import numpy as np
import pytest

from keras_neokd import attacks
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


@pytest.mark.parametrize("jit_compile", ["auto", True])
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


def test_jit_compile_reaches_the_step_and_is_the_same_step():
    results = {}
    for jit_compile in (True, False):
        model = tiny.compiled(tiny.dense_model(), jit_compile=jit_compile)
        assert model.jit_compile is jit_compile
        logs = model.train_on_batch(IMAGES, LABELS, return_dict=True)
        results[jit_compile] = logs, model.get_weights()
        if keras.config.backend() == "tensorflow":
            assert _is_compiled_by_xla(model) is jit_compile
    tiny.assert_equal_logs(results[True][0], results[False][0], 1e-4)
    for one, other in zip(results[True][1], results[False][1], strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)


def _is_compiled_by_xla(model):
    """Whether an operation of the step says so when it runs."""
    import tensorflow as tf

    seen = []

    class Watching(attacks.PGD):
        def perturb(self, predict, images, labels, keys):
            function = tf.compat.v1.get_default_graph()
            while function is not None:
                attributes = getattr(function, "_attrs", None) or {}
                seen.append(attributes.get("_XlaMustCompile"))
                function = getattr(function, "outer_graph", None)
            return super().perturb(predict, images, labels, keys)

    watched = tiny.compiled(
        tiny.dense_model(),
        attack=Watching(0.1, 0.05, 1),
        jit_compile=model.jit_compile,
    )
    watched.train_on_batch(IMAGES, LABELS)
    return any(each is not None and each.b for each in seen)
