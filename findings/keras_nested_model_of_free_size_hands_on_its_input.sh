#!/bin/bash
# Keras: a functional model that gives its input as one of its outputs can be
# nested in another while its sizes are fixed. With a free size (None) called
# on a fixed one, the call returns the very tensor it was given, whose history
# it overwrites, and the outer model "is part of a cycle".
# Ends with 0 while the behaviour is as described.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet keras==3.15.1 numpy==2.4.0 \
    jax==0.10.2
KERAS_BACKEND=jax "$folder/venv/bin/python" - <<'PYTHON'
import jax
import keras

print("keras", keras.__version__, "jax", jax.__version__)


def outer(size):
    source = keras.Input((size, 4))
    inner = keras.Model(source, [source, keras.ops.tanh(source)], name="inner")
    inputs = keras.Input((3, 4))
    x = keras.ops.relu(inputs)
    given, changed = inner(x)
    print(f"size {size}: the call returned its argument: {given is x}")
    return keras.Model(inputs, [given, changed])


outer(3)
try:
    outer(None)
except ValueError as error:
    print("size None:", error)
    assert "cycle" in str(error), "the behaviour has changed"
else:
    raise SystemExit("the behaviour has changed")
PYTHON
# Seen with keras 3.15.1:
# size 3: the call returned its argument: False
# size None: the call returned its argument: True
# size None: Tensor <KerasTensor shape=(None, 3, 4), ...> from operation
# 'inner' is part of a cycle.
