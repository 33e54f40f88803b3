"""Convolutions in 16 bits on devices that are slow at them, and the timing."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import backend
from keras_neokd.backend import speed
from keras_neokd.models.convolution import Convolution
from tests.training import tiny


def inputs(dtype):
    """Return images, a kernel and a bias."""
    rng = np.random.default_rng(0)
    shapes = (2, 6, 6, 4), (3, 3, 4, 5), (5,)
    return [
        ops.cast(rng.normal(size=shape).astype("float32"), dtype)
        for shape in shapes
    ]


def convolve(images, kernel, bias):
    return backend.convolve(
        images, kernel, bias, (1, 1), "same", (1, 1), relu=True
    )


def convolution(images, kernel, bias):
    del bias
    return backend.convolution(images, kernel, (1, 1), "valid", (1, 1))


def test_jax_on_processors_alone_has_no_16_bit_convolutions():
    expected = keras.config.backend() != "jax" or backend.has_accelerator()
    assert backend.convolves_16_bits() == expected


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("function", [convolve, convolution])
def test_they_are_computed_in_float32_and_rounded_once(
    function, dtype, monkeypatch
):
    given = inputs(dtype)
    exact = function(*(ops.cast(each, "float32") for each in given))
    monkeypatch.setattr(backend, "convolves_16_bits", lambda: False)
    result = function(*given)
    assert keras.backend.standardize_dtype(result.dtype) == dtype
    np.testing.assert_array_equal(
        tiny.array(ops.cast(result, "float32")),
        tiny.array(ops.cast(ops.cast(exact, dtype), "float32")),
    )


@pytest.mark.skipif(keras.config.backend() != "jax", reason="JAX's programs")
@pytest.mark.parametrize("function", [convolve, convolution])
def test_jax_gives_xla_no_convolution_in_16_bits(function):
    import jax

    def loss(*given):
        return ops.sum(ops.cast(function(*given), "float32"))

    # A line of this program says what an operation takes and gives.
    gradient = jax.jit(jax.value_and_grad(loss))
    program = gradient.lower(*inputs("bfloat16")).as_text()
    lines = [
        line for line in program.splitlines() if "stablehlo.convolution" in line
    ]
    assert len(lines) > 1 and "x4xbf16>" in program
    if not backend.has_accelerator():
        assert not [line for line in lines if "bf16" in line]


def model_of(layer):
    x = keras.Input((8, 8, 3))
    return keras.Model(x, layer(x))


def test_layers_that_keras_is_slow_at_are_found(monkeypatch):
    layers = keras.layers
    slow = layers.Conv2D(2, 3, dtype="mixed_bfloat16", name="slow")
    nested = model_of(model_of(slow))
    assert speed.slow_layers(nested) == (
        [] if backend.convolves_16_bits() else ["slow"]
    )
    monkeypatch.setattr(backend, "convolves_16_bits", lambda: False)
    assert speed.slow_layers(nested) == ["slow"]
    for fast in (
        layers.Conv2D(2, 3),
        Convolution(2, 3, dtype="mixed_bfloat16"),
        layers.Dense(2, dtype="mixed_bfloat16"),
    ):
        assert speed.slow_layers(model_of(fast)) == []
    flat = layers.Flatten()(nested.output)
    logits = layers.Dense(tiny.NUM_CLASSES, dtype="float32")(flat)
    model = MultiExitModel(nested.input, [logits])
    # A warning is an error in these tests.
    with pytest.raises(
        UserWarning, match="'slow' the first of 1, .*five times"
    ):
        tiny.compiled(model, method="adversarial_training")


def test_passes_of_both_precisions_are_timed_once(monkeypatch):
    monkeypatch.setattr(backend, "convolves_16_bits", lambda: True)
    speed.seconds_of_passes.cache_clear()
    seconds = speed.seconds_of_passes()
    assert set(seconds) == {"float32", "bfloat16"}
    for each in seconds.values():
        assert len(each) == 9 and min(each) > 0
    assert speed.seconds_of_passes() is seconds


@pytest.mark.parametrize(
    ("in_float32", "in_bfloat16", "dtype", "ratio"),
    [
        ([1.3, 1.25, 2.0], [1.1, 1.0, 1.0], "bfloat16", "1.25"),
        ([1.3, 1.125, 2.0], [1.1, 1.0, 1.0], "float32", "1.12"),
        # The fastest of bfloat16 does not count, nor the slowest of float32.
        ([1.3, 9.0, 9.0], [0.1, 1.2, 1.2], "float32", "1.08"),
        # What is less than 1.2 must not look like it.
        ([1.199], [1.0], "float32", "1.19"),
        ([1.2], [1.0], "bfloat16", "1.20"),
    ],
)
def test_what_is_clearly_faster_is_chosen(
    in_float32, in_bfloat16, dtype, ratio, monkeypatch
):
    seconds = {"float32": in_float32, "bfloat16": in_bfloat16}
    monkeypatch.setattr(speed, "seconds_of_passes", lambda: seconds)
    expected = f"bfloat16 was measured {ratio} times as fast"
    assert speed.measured_dtype() == (dtype, expected)
