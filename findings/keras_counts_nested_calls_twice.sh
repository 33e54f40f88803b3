#!/bin/bash
# Keras: the configuration of a functional model numbers calls of a nested
# functional model in two ways. In "output_layers" the first call is 1, among
# the arguments of calls ("keras_history") it is 0; for every other layer both
# start at 0. Who takes the numbers as one numbering reads the first call where
# the second is meant, or finds none at all.
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
source = keras.Input((4,))
inner = keras.Model(source, keras.ops.tanh(source), name="inner")
plain = keras.layers.Activation("tanh", name="plain")
for layer in (inner, plain):
    inputs = keras.Input((4,))
    first, second = layer(inputs), layer(inputs + 1.0)
    negative = keras.layers.Identity(name="taker")(second)
    model = keras.Model(inputs, [first, negative])
    config = model.get_config()
    (taker,) = [each for each in config["layers"] if each["name"] == "taker"]
    argument = taker["inbound_nodes"][0]["args"][0]["config"]["keras_history"]
    as_output, as_argument = config["output_layers"][0][1], argument[1]
    print(
        f"{layer.name}: its first call, an output of the model, is number "
        f"{as_output}; its second, an argument of a call, is {as_argument}"
    )
    expected = (1, 1) if layer is inner else (0, 1)
    assert (as_output, as_argument) == expected, "the behaviour has changed"
PYTHON
# Seen with keras 3.15.1:
# inner: its first call, an output of the model, is number 1; its second, an
# argument of a call, is 1
# plain: its first call, an output of the model, is number 0; its second, an
# argument of a call, is 1
