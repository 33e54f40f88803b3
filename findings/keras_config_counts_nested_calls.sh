#!/usr/bin/env bash
# Keras counts the calls of a nested model in two ways within one configuration.
#
# A functional model calls the nested model "head" twice and names both results
# as outputs. In `get_config()`, the arguments of later layers refer to these
# calls as 0 and 1, as they do for any layer, while `output_layers` refers to
# them as 1 and 2: there the call that built the nested model is counted, too.
# For a plain layer both count from 0. `from_config` knows, and restores the
# model; a tool that reads graphs from the configuration takes the result of
# the first call for that of the second.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
    keras==3.15.1 jax==0.10.2 numpy==2.4.6
cd "$folder"
KERAS_BACKEND=jax "$folder/venv/bin/python" - <<'PYTHON'
import keras


def numbering(head):
    """Return how outputs, and arguments of a later layer, name the calls."""
    images = keras.Input((3,))
    first = head(keras.layers.Dense(3)(images))
    second = head(keras.layers.Dense(3)(images))
    after = keras.layers.Dense(2, name="after")
    model = keras.Model(images, [first, second, after(first), after(second)])
    config = model.get_config()
    outputs = [call for name, call, _ in config["output_layers"][:2]]
    (layer,) = (each for each in config["layers"] if each["name"] == "after")
    arguments = [
        node["args"][0]["config"]["keras_history"][1]
        for node in layer["inbound_nodes"]
    ]
    return {"outputs": outputs, "arguments": arguments}


inner = keras.Input((3,))
nested = keras.Model(inner, keras.layers.Dense(2)(inner), name="head")
seen = {
    "plain layer": numbering(keras.layers.Dense(2, name="head")),
    "nested model": numbering(nested),
}
print("keras", keras.__version__)
for kind, each in seen.items():
    print(f"{kind}: as outputs {each['outputs']}, as arguments {each['arguments']}")
expected = {
    "plain layer": {"outputs": [0, 1], "arguments": [0, 1]},
    "nested model": {"outputs": [1, 2], "arguments": [0, 1]},
}
assert seen == expected, f"The behaviour has changed: {seen}"
PYTHON
