r"""MSDNet with 5 exits on ImageNet without attacks, from random weights.

    python -m apps.train --config=configs/msdnet_imagenet.py \
        --config.data.dir=data --workdir=runs/pretrained
    python -m apps.train --config=configs/imagenet.py:neo_kd \
        --config.model.weights=runs/pretrained/model.keras \
        --config.data.dir=data --workdir=runs/imagenet

What comes out is what `configs/imagenet.py` fine-tunes, where no published
weights are to be used. Settings of MSDNet's PyTorch port: batches of 256, 90
epochs, learning rate 0.1, a tenth of it every 30 epochs, weight decay 1e-4.

We have no results of this config yet.
"""

from . import imagenet


def get_config(variant="clean_training"):
    config = imagenet.get_config(variant)
    config.update_from_flattened_dict(
        {
            "data.batch_size": 256,
            "optimizer.learning_rate": 0.1,
            "optimizer.weight_decay": 1e-4,
            "optimizer.milestones": (30, 60),
            "train.epochs": 90,
        }
    )
    return config
