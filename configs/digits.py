"""SmallCNN on the digits that come with scikit-learn: the demonstration.

    python -m apps.train --config=configs/digits.py:neo_kd --workdir=runs/x
    python -m apps.evaluate --workdir=runs/x

Not in the paper. Network, method and attack are those of the paper's MNIST
rows; images are few and small, so epsilon and batches are smaller and a short
training is enough. No download.
"""

from . import default

# keras_neokd.data.DIGITS_EPSILON; configs hold plain values only.
EPSILON = 0.15


def get_config(variant="neo_kd"):
    return default.derive(
        variant,
        {
            "model": {
                "name": "small_cnn_mnist",
                "small_cnn_mnist": {"dropout": 0.5},
            },
            "data": {"name": "digits", "batch_size": 32},
            # PGD-7 crosses the ball almost twice, as on MNIST.
            "attack": {"epsilon": EPSILON, "step_size": EPSILON / 4},
            "optimizer": {"learning_rate": 0.01, "milestones": (5,)},
            "train": {"epochs": 7},
        },
    )
