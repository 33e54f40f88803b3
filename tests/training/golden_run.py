"""The golden steps as a program, to run them under another backend.

python -m tests.training.golden_run problem.npz results.npz
"""

import sys

import keras
import numpy as np

from tests.training import tiny

SEED = 11
NUM_STEPS = 3


def problem():
    """Return weights, images, adversarial images and labels by name."""
    images, labels = tiny.data(6)
    weights = {
        each.path: tiny.array(each) for each in tiny.conv_model().weights
    }
    return {
        **weights,
        "images": images,
        "adversarial": tiny.nearby(images),
        "labels": labels,
    }


class _Weights(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.results = {}

    def on_epoch_end(self, epoch, logs=None):
        for each in self.model.weights:
            self.results[f"{epoch}:{each.path}"] = tiny.array(each)
        for name, value in logs.items():
            self.results[f"{epoch}:{name}"] = np.array(value)


def run(problem):
    """Take three steps; return weights and logs after each, by name."""
    model = tiny.conv_model()
    for each in model.weights:
        each.assign(problem[each.path])
    attack = tiny.GivenImages(problem["adversarial"])
    tiny.compiled(model, attack=attack, seed=SEED)
    weights = _Weights()
    # One batch is one epoch, so every step has an EOKD table of its own.
    model.fit(
        problem["images"],
        problem["labels"],
        batch_size=len(problem["labels"]),
        epochs=NUM_STEPS,
        shuffle=False,
        verbose=0,
        callbacks=[weights],
    )
    return weights.results


if __name__ == "__main__":
    np.savez(sys.argv[2], **run(dict(np.load(sys.argv[1]))))
