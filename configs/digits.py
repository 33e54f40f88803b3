"""SmallCNN on the digits that come with scikit-learn: the demonstration.

    python -m apps.train --config=configs/digits.py:neo_kd --workdir=runs/x
    python -m apps.evaluate --workdir=runs/x

Not in the paper. Network, method and attack are those of the paper's MNIST
rows; images are few and small, so epsilon and batches are smaller and a short
training is enough. No download.
"""

from keras_neokd import data

from . import default


def get_config(variant="neo_kd"):
    epsilon = data.DIGITS_EPSILON
    return default.derive(
        variant,
        {
            "model.small_cnn_mnist.dropout": 0.5,
            "data.batch_size": 32,
            # PGD-7 crosses the ball almost twice, as on MNIST.
            "attack.epsilon": epsilon,
            "attack.step_size": epsilon / 4,
            "optimizer.learning_rate": 0.01,
            "optimizer.milestones": (5,),
            "train.epochs": 7,
        },
    )
