r"""MSDNet on CIFAR-100 without attacks, as its PyTorch port trains it.

Huang et al., arXiv 1703.09844. The network for anytime prediction, 7 exits,
and the one for budgets, 5 exits that lie ever further apart:

    python -m apps.train --config=configs/msdnet_cifar100.py \
        --workdir=runs/anytime
    python -m apps.train --config=configs/msdnet_cifar100.py \
        --config.model.msdnet_cifar100.num_blocks=5 \
        --config.model.msdnet_cifar100.base=1 \
        --config.model.msdnet_cifar100.step=1 \
        --config.model.msdnet_cifar100.step_mode=lin_grow \
        --config.data.validation_size=5000 --workdir=runs/budgeted
    python -m apps.evaluate --workdir=runs/budgeted \
        --config.evaluate.attacks="()" \
        --config.evaluate.protocols="('budgeted',)" \
        --config.evaluate.budgeted.attack=clean

Settings of that code: 16 initial channels, batches of 64, 300 epochs, learning
rate 0.1, a tenth of it from half and from three quarters on, weight decay
1e-4, random crop and flip, the data set's mean and standard deviation. NEO-KD's
settings are those of `configs/cifar100.py`.

We have no results of this config yet.
"""

from . import default


def get_config(variant="clean_training"):
    return default.derive(
        variant,
        {
            "model.name": "msdnet_cifar100",
            "model.msdnet_cifar100.initial_channels": 16,
            "model.msdnet_cifar100.initialization": "torch_default",
            "model.msdnet_cifar100.normalization": (
                (0.5071, 0.4867, 0.4408),
                (0.2675, 0.2565, 0.2761),
            ),
            "data.name": "cifar100",
            "data.batch_size": 64,
            "data.augment": "crop_flip",
            "optimizer.weight_decay": 1e-4,
            "optimizer.milestones": (150, 225),
            "train.epochs": 300,
        },
    )
