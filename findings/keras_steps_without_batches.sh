#!/usr/bin/env bash
# Keras 3 on TensorFlow counts one optimizer step too many in every epoch over
# a tf.data.Dataset whose length it does not know, such as one from a generator
# or with a filter: it finds the end by running a training step without a
# batch, and in that step the count is raised before reading fails. Learning
# rate schedules and Adam's bias correction follow the count, so the same
# batches train to other weights than with a known length, PyTorch or JAX.
# A good engineer expects the same numbers, whether or not the length is known.
#
# Exits with 0 while the behaviour is as described, else with 1.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet keras==3.15.1 tensorflow-cpu==2.21.0

cat > "$folder/steps.py" <<'PYTHON'
import os
import sys
import warnings

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import keras
import numpy as np
import tensorflow as tf

warnings.simplefilter("ignore")
print("keras", keras.__version__, "tensorflow", tf.__version__)
x = np.random.default_rng(0).random((8, 4)).astype("float32")
y = x.sum(axis=1, keepdims=True)


def known():
    return tf.data.Dataset.from_tensor_slices((x, y)).batch(4)


def unknown():
    return known().filter(lambda *batch: True)


def trained(dataset):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    rate = keras.optimizers.schedules.PiecewiseConstantDecay([3], [0.1, 0.0])
    model.compile(keras.optimizers.Adam(rate), "mse")
    losses = model.fit(dataset, epochs=3, shuffle=False, verbose=0)
    return int(model.optimizer.iterations), losses.history["loss"]


print("2 batches, 3 epochs: 6 steps")
results = {}
for name, dataset in (("known", known()), ("unknown", unknown())):
    steps, losses = results[name] = trained(dataset)
    print(f"{name} length: {steps} steps counted, losses {losses}")
as_described = (
    results["known"][0] == 6
    and results["unknown"][0] == 9
    and results["known"][1] != results["unknown"][1]
)
print("as described" if as_described else "the behaviour has changed")
sys.exit(0 if as_described else 1)
PYTHON
"$folder/venv/bin/python" "$folder/steps.py"
