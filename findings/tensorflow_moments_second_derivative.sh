#!/usr/bin/env bash
# The variance of tf.nn.moments, and with it keras.ops.moments and Keras'
# BatchNormalization in training, has a wrong second derivative: its mean is
# held fixed (stop_gradient), which a first derivative does not notice. What
# trains on input gradients through batch norm (gradient penalties, alignment of
# input gradients) follows another loss than under JAX and PyTorch, without a
# word. tf.math.reduce_variance and keras.ops.var are right.
#
# By hand: of (x, y) the variance is (x - y)^2 / 4, its matrix of second
# derivatives [[0.5, -0.5], [-0.5, 0.5]].
#
# Exits with 0 while the behaviour is as described, else with 1.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
    tensorflow-cpu==2.21.0 keras==3.15.1 jax==0.10.2
cd "$folder"
export TF_CPP_MIN_LOG_LEVEL=3
"$folder/venv/bin/python" - 2> "$folder/log" <<'PYTHON' \
    || { tail -n 20 "$folder/log"; exit 1; }
import os
import subprocess
import sys

os.environ["KERAS_BACKEND"] = "tensorflow"
import keras
import tensorflow as tf
from keras import ops

print("tensorflow", tf.__version__, "keras", keras.__version__)


def second_derivatives(variance):
    pair = tf.Variable([0.0, 1.0])
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            value = variance(pair)
        gradient = inner.gradient(value, pair)
    second = outer.jacobian(gradient, pair)
    return gradient.numpy().tolist(), second.numpy().tolist()


seen = {
    "tf.math.reduce_variance": second_derivatives(tf.math.reduce_variance),
    "keras.ops.var": second_derivatives(ops.var),
    "tf.nn.moments": second_derivatives(lambda x: tf.nn.moments(x, 0)[1]),
    "keras.ops.moments": second_derivatives(lambda x: ops.moments(x, 0)[1]),
}
for name, (first, second) in seen.items():
    print(f"{name}: first {first}, second {second}")
first, right = [-0.5, 0.5], [[0.5, -0.5], [-0.5, 0.5]]
held = [[1.0, 0.0], [0.0, 1.0]]
assert seen == {
    "tf.math.reduce_variance": (first, right),
    "keras.ops.var": (first, right),
    "tf.nn.moments": (first, held),
    "keras.ops.moments": (first, held),
}, "The behaviour has changed."

# The same through the layer: squares of the input gradient of a weighted sum
# of normalized numbers, differentiated by the inputs. (A layer in front weighs
# these squares in a network; their plain sum would hide the difference.)
program = """
import keras
import numpy as np
from keras import ops
x = np.array([[0.0], [1.0], [3.0]], "float32")
weights = ops.convert_to_tensor([[1.0], [-2.0], [2.0]])
scale = ops.convert_to_tensor([[1.0], [2.0], [3.0]])
layer = keras.layers.BatchNormalization(epsilon=0.1)
layer.build((None, 1))
def normalized(x):
    if keras.backend.backend() == "jax":
        values = layer.trainable_variables, layer.non_trainable_variables
        values = [[each.value for each in some] for some in values]
        return layer.stateless_call(*values, x, training=True)[0]
    return layer(x, training=True)
def loss(x):
    return ops.sum(normalized(x) * weights)
if keras.backend.backend() == "jax":
    import jax
    size = lambda x: ops.sum(scale * jax.grad(loss)(x) ** 2)
    found = jax.grad(size)(x)
else:
    import tensorflow as tf
    x = tf.constant(x)
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            value = loss(x)
        size = ops.sum(scale * inner.gradient(value, x) ** 2)
    found = outer.gradient(size, x)
print(*(f"{float(each):.3f}" for each in np.ravel(found)))
"""
found = {
    backend: subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    for backend in ("jax", "tensorflow")
}
print("BatchNormalization:", found)
assert found == {
    "jax": ["1.419", "5.374", "-6.793"],
    "tensorflow": ["1.551", "5.506", "-6.661"],
}, "The behaviour has changed."
PYTHON

# Output seen (Linux, Python 3.11):
#   tensorflow 2.21.0 keras 3.15.1
#   tf.math.reduce_variance: first [-0.5, 0.5], second [[0.5, -0.5], [-0.5, 0.5]]
#   keras.ops.var: first [-0.5, 0.5], second [[0.5, -0.5], [-0.5, 0.5]]
#   tf.nn.moments: first [-0.5, 0.5], second [[1.0, 0.0], [0.0, 1.0]]
#   keras.ops.moments: first [-0.5, 0.5], second [[1.0, 0.0], [0.0, 1.0]]
#   BatchNormalization: {'jax': ['1.419', '5.374', '-6.793'],
#       'tensorflow': ['1.551', '5.506', '-6.661']}
