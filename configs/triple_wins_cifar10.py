r"""ResNet-38 on CIFAR-10 with the training of triple-wins (arXiv 2002.10025).

    python -m apps.train --config=configs/triple_wins_cifar10.py \
        --workdir=runs/triple_wins
    python -m apps.evaluate --workdir=runs/triple_wins

Settings of its published code: half of each cross-entropy, batches of 128,
learning rate 0.1, weight decay 1e-4, random crop and flip, epsilon 0.03137 and
steps of 0.00784, PGD-10 in training and PGD-20 in evaluation, attacks in
training crafted in training mode. Its 64,000 steps, with a tenth of the rate
from steps 32,000 and 48,000 on, are 164 epochs of 391, with a tenth from epochs
82 and 123 on.

The network has the layers of its ResNet-38, three groups of six residual
blocks, and exits of ours: one after each group, where triple-wins has two
branches of its own within each group besides the end, 7 exits in all.

We have no results of this config yet.
"""

from . import default


def get_config(variant="triple_wins"):
    return default.derive(
        variant,
        {
            "model.name": "resnet_cifar10",
            "model.resnet_cifar10.stage_blocks": (6, 6, 6),
            "model.resnet_cifar10.stage_filters": (16, 32, 64),
            "model.resnet_cifar10.exits": (1, 2, 3),
            "data.name": "cifar10",
            "data.augment": "crop_flip",
            "attack.epsilon": 0.03137,
            "attack.step_size": 0.00784,
            "attack.num_steps": 10,
            "attack.training_mode": True,
            "optimizer.weight_decay": 1e-4,
            "optimizer.milestones": (82, 123),
            "train.epochs": 164,
            "evaluate.num_steps": 20,
        },
    )
