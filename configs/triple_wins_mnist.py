r"""SmallCNN with 3 exits on MNIST as triple-wins trains it (arXiv 2002.10025).

    python -m apps.train --config=configs/triple_wins_mnist.py \
        --workdir=runs/triple_wins
    python -m apps.evaluate --workdir=runs/triple_wins

NEO-KD takes the network and the attacks from there and has its own settings,
in `configs/mnist.py`. Here are those of triple-wins' published code: half of
each cross-entropy, batches of 256, learning rate 0.033, epsilon 0.3 and steps
of 0.01, PGD-40 in training and evaluation, attacks in training crafted with
dropout on. Its 13,100 steps, with a tenth of the rate from steps 11,700 and
12,900 on, are 56 epochs of 235, with a tenth from epochs 50 and 55 on. Images
are not augmented.

We have no results of this config yet.
"""

from . import default


def get_config(variant="triple_wins"):
    return default.derive(
        variant,
        {
            "model.small_cnn_mnist.dropout": 0.5,
            "data.name": "mnist",
            "data.batch_size": 256,
            "attack.epsilon": 0.3,
            "attack.step_size": 0.01,
            "attack.num_steps": 40,
            "attack.training_mode": True,
            "optimizer.learning_rate": 0.033,
            "optimizer.milestones": (50, 55),
            "train.epochs": 56,
            "evaluate.num_steps": 40,
        },
    )
