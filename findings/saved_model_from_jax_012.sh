#!/usr/bin/env bash
# Keras on JAX 0.12 exports a SavedModel that TensorFlow 2.21 loads and cannot
# call: both steps succeed without an error, and the first call fails, because
# JAX writes StableHLO 1.18 and this TensorFlow reads up to 1.13.
#
# One would expect an error of `export`, or of `tf.saved_model.load` at the
# latest. Seen with Python 3.13. Run: PYTHON=python3.13 bash FILE
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.13}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
    jax==0.12.0.1 jaxlib==0.12.0.1 keras==3.15.1 numpy==2.5.5 tensorflow==2.21.0
cd "$folder"
cat > example.py <<'PYTHON_END'
import platform

import jax
import keras
import numpy as np
import tensorflow as tf

print("python", platform.python_version(), "jax", jax.__version__)
print("tensorflow", tf.__version__, "keras", keras.__version__)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
images = np.ones((3, 4), "float32")
print("the model answers with shape", model.predict(images, verbose=0).shape)
model.export("saved_model", verbose=False)
print("exported without an error")
loaded = tf.saved_model.load("saved_model")
print("loaded without an error, signatures", sorted(loaded.signatures))
try:
    loaded.serve(images)
except tf.errors.InvalidArgumentError as error:
    lines = [line for line in str(error).splitlines() if "StableHLO" in line]
    print("the first call fails:", *lines, sep="\n  ")
    assert any("failed to deserialize" in line for line in lines), str(error)
else:
    raise SystemExit("CHANGED: the first call works.")
PYTHON_END
# Messages of TensorFlow's C++ side go to a file, shown if something else fails.
KERAS_BACKEND=jax TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore \
    example.py 2> "$folder/log" || { tail -n 20 "$folder/log"; exit 1; }

# Output seen (Linux, two CPU cores):
#   python 3.13.0 jax 0.12.0.1
#   tensorflow 2.21.0 keras 3.15.1
#   the model answers with shape (3, 2)
#   exported without an error
#   loaded without an error, signatures ['serve', 'serving_default']
#   the first call fails:
#     <unknown>:0: note: loc("shape_assertion"): in bytecode version 6 produced by: StableHLO_v1.18.0
#     <unknown>:0: error: failed to deserialize portable artifact using StableHLO_v1.13.7
