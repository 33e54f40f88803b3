"""Which precision a device convolves fast in: the one place that knows.

The answer for a device is `backend.convolves_16_bits`, a rule for what is known
to be slow, and a measurement for all others.
"""

import functools
import math
import statistics
import time

import keras
import numpy as np
from keras import ops

from keras_neokd import backend

# Images `(batch, rows, columns, channels)` between the layers of the paper's
# networks; an accelerator needs more of them to be at work. Passes of each
# precision, and how many times as fast bfloat16 has to be.
_ON_PROCESSORS, _ON_ACCELERATORS = (64, 16, 16, 32), (256, 32, 32, 64)
_PASSES, _FASTER = 9, 1.2


def slow_layers(model):
    """Return the names of layers that Keras convolves far too slowly with.

    These are its convolutions in 16 bits where `backend.convolves_16_bits`
    says no; attacks run most of them in float32, the training pass does not.

    Args:
        model: a `keras.Model`.
    """
    if backend.convolves_16_bits():
        return []
    kinds = (
        keras.layers.Conv2D,
        keras.layers.Conv2DTranspose,
        keras.layers.DepthwiseConv2D,
        keras.layers.SeparableConv2D,
    )
    found = []
    for layer in getattr(model, "layers", ()):
        in_16_bits = layer.compute_dtype in ("bfloat16", "float16")
        is_ours = hasattr(layer, "is_plain_conv2d")
        if isinstance(layer, kinds) and in_16_bits and not is_ours:
            found.append(layer.name)
        found += slow_layers(layer)
    return found


def known_to_be_slow():
    """Return why 16 bits gain nothing here, a clause, or `None` if unknown."""
    if backend.convolves_16_bits():
        return None
    return "this device convolves 16 bits in float32"


def measured_dtype():
    """Return the precision in which this device attacks convolutions faster.

    Returns:
        Tuple of `"float32"` or `"bfloat16"`, and a clause that says why. It is
        bfloat16 if its median pass, of a few that are timed once per process,
        is at least 1.2 times as fast as the fastest in float32: noise speaks
        for float32, which loses nothing.
    """
    seconds = seconds_of_passes()
    fastest = min(seconds["float32"])
    ratio = fastest / statistics.median(seconds["bfloat16"])
    dtype = "bfloat16" if ratio >= _FASTER else "float32"
    # Rounded down: 1.199 is less than 1.2.
    shown = math.floor(100 * ratio) / 100
    return dtype, f"bfloat16 was measured {shown:.2f} times as fast"


@functools.cache
def seconds_of_passes():
    """Return how long gradients of images of two convolutions take.

    Returns:
        Dict from `"float32"` and `"bfloat16"` to a list of seconds; the passes
        take turns.
    """
    has_accelerator = backend.has_accelerator()
    shape = _ON_ACCELERATORS if has_accelerator else _ON_PROCESSORS
    generator = np.random.default_rng(0)
    images = ops.convert_to_tensor(generator.random(shape, dtype="float32"))
    kernel = generator.normal(0, 0.1, (3, 3, shape[-1], shape[-1]))
    passes = {
        dtype: _gradient_pass(kernel, dtype)
        for dtype in ("float32", "bfloat16")
    }
    for run in passes.values():  # The first one compiles.
        ops.convert_to_numpy(run(images))
    seconds = {dtype: [] for dtype in passes}
    for _ in range(_PASSES):
        for dtype, run in passes.items():
            start = time.perf_counter()
            ops.convert_to_numpy(run(images))
            seconds[dtype].append(time.perf_counter() - start)
    return seconds


def _gradient_pass(kernel, dtype):
    """Return a compiled function of images: a number made of the gradient."""
    kernel = ops.cast(ops.convert_to_tensor(kernel, "float32"), dtype)
    bias = ops.zeros((kernel.shape[-1],), dtype)

    def values(images):
        x = ops.cast(images, dtype)
        for _ in range(2):
            x = backend.convolve(
                x, kernel, bias, (1, 1), "same", (1, 1), relu=True
            )
        return ops.sum(ops.cast(x, "float32"), axis=(1, 2, 3))

    def run(images):
        gradient = backend.value_and_input_gradient(values, images)[1]
        return ops.sum(ops.abs(gradient))

    return backend.compile_function(run, [])
