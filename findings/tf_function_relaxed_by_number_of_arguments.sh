#!/usr/bin/env bash
# tf.function(reduce_retracing=True) cannot be called with another number of
# positional arguments than before, although the Python function takes any
# number: the second call ends in IndexError, from the code that looks for a
# signature which both calls share. Without `reduce_retracing`, or with the
# tensors in one list, each number is traced by itself, as one would expect.
#
# Exits with 0 while the behaviour is as described, else with 1.
set -euo pipefail

folder="$(mktemp -d)"
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3.11}" -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet tensorflow-cpu==2.21.0
cd "$folder"
TF_CPP_MIN_LOG_LEVEL=3 "$folder/venv/bin/python" - 2> "$folder/log" <<'PYTHON' \
    || { tail -n 20 "$folder/log"; exit 1; }
import tensorflow as tf

print("tensorflow", tf.__version__)


def total(*tensors):
    return tf.add_n(tf.nest.flatten(tensors))


def answers(function, as_list):
    """Call a function with one tensor, then with two."""
    found = []
    for count in (1, 2):
        tensors = [tf.constant(1.0)] * count
        try:
            value = function(tensors) if as_list else function(*tensors)
            found.append(float(value))
        except IndexError as error:
            found.append(f"IndexError: {error}")
    return found


seen = {
    "plain": answers(tf.function(total), False),
    "reduce_retracing": answers(
        tf.function(total, reduce_retracing=True), False
    ),
    "reduce_retracing, a list": answers(
        tf.function(total, reduce_retracing=True), True
    ),
}
for name, each in seen.items():
    print(f"{name}: one tensor {each[0]}, two tensors {each[1]}")
assert seen == {
    "plain": [1.0, 2.0],
    "reduce_retracing": [1.0, "IndexError: list index out of range"],
    "reduce_retracing, a list": [1.0, 2.0],
}, "The behaviour has changed."
PYTHON

# Output seen (Linux, Python 3.11):
#   tensorflow 2.21.0
#   plain: one tensor 1.0, two tensors 2.0
#   reduce_retracing: one tensor 1.0, two tensors IndexError: list index out of range
#   reduce_retracing, a list: one tensor 1.0, two tensors 2.0
