#!/usr/bin/env bash
# OpenVINO makes one model of all signatures of a SavedModel, if none is called
# `serving_default`. Outputs of one signature get names of another: here the
# index of an exit is called `exit_2_1`, and logits are called `exit_3_1`.
#
# One would expect an error, or the names of each signature. Run: bash FILE
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet \
    numpy==2.4.6 tensorflow==2.21.0 openvino==2026.4.1
cd "$folder"
cat > example.py <<'PYTHON_END'
import numpy as np
import openvino
import tensorflow as tf

print("tensorflow", tf.__version__, "openvino", openvino.__version__)
signature = [tf.TensorSpec((None, 4), tf.float32, name="images")]
weights = tf.constant(np.arange(12, dtype="float32").reshape(4, 3))


@tf.function(input_signature=signature)
def all_exits(images):
    logits = images @ weights
    return {"exit_1": logits, "exit_2": logits + 1, "exit_3": logits + 2}


@tf.function(input_signature=signature)
def early_exit(images):
    logits = images @ weights + 3
    index = tf.argmax(logits, axis=1, output_type=tf.int32)
    return {
        "confidence": tf.reduce_max(logits, axis=1),
        "exit_index": index,
        "logits": logits,
    }


signatures = {"all_exits": all_exits, "early_exit": early_exit}
tf.saved_model.save(
    tf.Module(),
    "saved_model",
    signatures={k: v.get_concrete_function() for k, v in signatures.items()},
)
model = openvino.convert_model("saved_model")
found = {
    each.any_name: (each.element_type.get_type_name(), str(each.partial_shape))
    for each in model.outputs
}
for name, described in sorted(found.items()):
    print(" ", name, *described)
integers = [name for name, (kind, _) in found.items() if kind == "i32"]
if len(found) == 3:
    raise SystemExit("CHANGED: one signature alone is converted.")
if integers == ["exit_index"]:
    raise SystemExit("CHANGED: the outputs have their own names.")
print("the index of the exit is called", integers[0])
PYTHON_END
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" -W ignore \
    example.py 2> "$folder/log" || { tail -n 20 "$folder/log"; exit 1; }

# Output seen (Linux, two CPU cores):
#   tensorflow 2.21.0 openvino 2026.4.1-22982-e213a147257-releases/2026/4
#     confidence f32 [?]
#     exit_1 f32 [?,3]
#     exit_2 f32 [?,3]
#     exit_2_1 i32 [?]
#     exit_3 f32 [?,3]
#     exit_3_1 f32 [?,3]
#   the index of the exit is called exit_2_1
