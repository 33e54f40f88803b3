#!/usr/bin/env bash
# Whether TensorFlow can differentiate a dilated convolution on a CPU depends
# on the kind of processor. The forward pass runs everywhere; the gradient for
# the images comes from oneDNN, which TensorFlow turns on by itself only where
# it finds the newer vector instructions (AVX-512 VNNI and the like). On other
# x86 processors the same program ends in "Current CPU implementations do not
# yet support dilation rates larger than 1", unless TF_ENABLE_ONEDNN_OPTS=1 is
# set; the variable is usually described as one for speed and rounding.
# Here both settings are chosen by hand, so that any x86 processor shows it.
#
# Exits with 0 while the behaviour is as described, else with 1.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet tensorflow-cpu==2.21.0

cat > "$folder/dilated.py" <<'PYTHON'
import os

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"

import tensorflow as tf

images = tf.random.stateless_uniform((2, 12, 12, 3), seed=(0, 1))
kernel = tf.random.stateless_uniform((3, 3, 3, 4), seed=(0, 2))
with tf.GradientTape() as tape:
    tape.watch(images)
    outputs = tf.nn.conv2d(images, kernel, 1, "SAME", dilations=2)
print("outputs", outputs.shape)
try:
    print("gradient", tape.gradient(outputs, images).shape)
except tf.errors.InvalidArgumentError as error:
    print("refused:", "dilation rates larger than 1" in str(error))
PYTHON
result=""
for setting in 0 1; do
    said="$(TF_ENABLE_ONEDNN_OPTS=$setting "$folder/venv/bin/python" \
        "$folder/dilated.py" 2> /dev/null | tail -n 1)"
    echo "tensorflow 2.21.0, TF_ENABLE_ONEDNN_OPTS=$setting: $said"
    result="$result$said;"
done
expected="refused: True;gradient (2, 12, 12, 3);"
if [[ "$result" != "$expected" ]]; then
    echo "the behaviour has changed"
    exit 1
fi
echo "as described"
