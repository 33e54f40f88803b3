#!/usr/bin/env bash
# OpenVINO computes a float32 model in bfloat16 on processors that have it: the
# file, its inputs and its outputs all say float32, and the third digit of the
# results is another one. `INFERENCE_PRECISION_HINT` set to f32 gives float32.
#
# One would expect the precision that the model has, on every processor. Where
# bfloat16 is not among the capabilities there is nothing to see.
# Run: bash FILE
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet numpy==2.4.6 openvino==2026.4.1
cd "$folder"
cat > example.py <<'PYTHON_END'
import numpy as np
import openvino
import openvino.opset13 as operations

print("openvino", openvino.__version__)
rng = np.random.default_rng(0)
kernel = rng.normal(size=(16, 8, 3, 3)).astype("float32")
images = rng.random((1, 8, 16, 16), "float32")
given = operations.parameter(images.shape, np.float32)
convolution = operations.convolution(
    given, operations.constant(kernel), [1, 1], [0, 0], [0, 0], [1, 1]
)
model = openvino.Model([convolution], [given])
core = openvino.Core()
found = {}
for name, options in (
    ("by default", {}),
    ("f32 asked for", {"INFERENCE_PRECISION_HINT": "f32"}),
):
    compiled = core.compile_model(model, "CPU", options)
    found[name] = compiled(images)[0]
    precision = compiled.get_property("INFERENCE_PRECISION_HINT")
    print(name, precision, "output of type", found[name].dtype)
apart = np.abs(found["by default"] - found["f32 asked for"]).max()
apart /= np.abs(found["f32 asked for"]).max()
print(f"largest difference, of the largest output: {apart:.1e}")
capabilities = core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
print("bfloat16 is a capability:", "BF16" in capabilities)
if ("BF16" in capabilities) != (apart > 1e-4):
    raise SystemExit("CHANGED: the default precision is another one.")
PYTHON_END
"$folder/venv/bin/python" example.py 2> "$folder/log" || {
    tail -n 20 "$folder/log"
    exit 1
}

# Output seen (Linux, a processor with AVX512-BF16):
#   openvino 2026.4.1-22982-e213a147257-releases/2026/4
#   by default <Type: 'bfloat16'> output of type float32
#   f32 asked for <Type: 'float32'> output of type float32
#   largest difference, of the largest output: 2.3e-03
#   bfloat16 is a capability: True
