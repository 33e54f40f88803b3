"""A small problem on which torchattacks' answers are on record.

The network is fixed by a formula, so that every backend attacks the same one;
labels are what it says. `tests/external/test_parity.py` computes the record
again where torchattacks is installed.
"""

import keras
import numpy as np

from benchmarks.work.attacks import ATTACKS
from benchmarks.work.attacks import on_exit
from keras_neokd import MultiExitModel
from keras_neokd import attacks

SHAPE = (6, 6, 1)
NUM_EXAMPLES = 200
EPSILON = 0.05
EPSILON_L2 = 0.25
NUM_STEPS = 20
NUM_QUERIES = 100
SEEDS = range(3)

# Share of the images that stay correct, mean over SEEDS: torchattacks 3.5.1 on
# PyTorch 2.13.
RECORDED = {
    "apgd_ce": 0.3233,
    "apgd_dlr": 0.23,
    "apgd_ce_l2": 0.33,
    "apgd_t": 0.2283,
    "fab": 0.235,
    "fab_l2": 0.23,
    "fab_t": 0.235,
    "square": 0.565,
    "square_l2": 0.52,
    "cw": 0.23,
}

OURS = {
    name: on_exit(
        ATTACKS[name],
        0,
        epsilon=EPSILON_L2 if name.endswith("l2") else EPSILON,
        num_steps=NUM_STEPS,
        num_queries=NUM_QUERIES,
    )
    for name in RECORDED
}
OURS["cw"] = attacks.CW(c=0.3, objective=attacks.SingleExit(0))


def build_model():
    """Return a network of one exit with weights from a formula."""
    inputs = keras.Input(SHAPE)
    hidden = keras.layers.Dense(32, "relu")
    head = keras.layers.Dense(10)
    flat = keras.layers.Flatten()(inputs)
    model = MultiExitModel(inputs, [head(hidden(flat))])
    rng = np.random.default_rng(5)
    for layer, (rows, columns) in ((hidden, (36, 32)), (head, (32, 10))):
        scale = np.sqrt(2 / rows)
        layer.set_weights(
            [rng.normal(0, scale, (rows, columns)), np.zeros(columns)]
        )
    return model


def examples(model):
    """Return images, and as labels what the network says."""
    images = np.random.default_rng(6).random((NUM_EXAMPLES, *SHAPE), "float32")
    logits = model.predict(images, verbose=0)["exit_1"]
    return images, logits.argmax(axis=1).astype("int32")
