r"""MSDNet with 5 exits on ImageNet: Table 5 of NEO-KD.

The paper fine-tunes a pretrained network. The public ones are weights files
of PyTorch; see docs/models.md for those with other numbers of layers. Without
one the network begins with random weights, for which 10 epochs are far too few.

    python -m apps.import_weights --config=configs/imagenet.py \
        --file=msdnet.pth.tar --output=imagenet.keras
    python -m apps.train --config=configs/imagenet.py:neo_kd \
        --config.model.weights=imagenet.keras \
        --config.data.dir=ILSVRC2012 --workdir=runs/imagenet
    python -m apps.evaluate --workdir=runs/imagenet \
        --config.evaluate.num_examples=5000

Settings of section 4.1 and appendix A (arXiv 2311.00428): epsilon 2/255, step
two thirds of it, PGD-7 max-average attack in training, fine-tuning for 10
epochs at a constant learning rate of 0.001; gamma is 1, 1, 1, 1.5, 1.5. The
paper does not give the batch size; 128 is that of its other rows. Nor does it
give the treatment of images: as MSDNet's published code does, a random part
and mirroring in training, the centre of 224 x 224 of the image resized to 256
in evaluation, and the usual mean and standard deviation, in the model.

Published adversarial test accuracy in %, PGD-50, top-1 (the paper's numbers):

    max-average attack     1      2      3      4      5   mean
    Adv. w/o Distill   26.10  31.71  31.94  30.22  32.30  30.45
    NEO-KD             27.89  32.61  32.99  32.74  35.63  32.37

    average attack         1      2      3      4      5   mean
    Adv. w/o Distill   18.20  24.21  28.24  28.73  28.50  25.58
    NEO-KD             22.42  28.62  31.77  32.78  34.30  29.98
"""

from . import default


def get_config(variant="neo_kd"):
    return default.derive(
        variant,
        {
            "model.name": "msdnet_imagenet",
            "model.msdnet_imagenet.initial_channels": 32,
            "model.msdnet_imagenet.growth_rate": 16,
            "model.msdnet_imagenet.initialization": "torch_default",
            # What published networks were trained with.
            "model.msdnet_imagenet.normalization": (
                (0.485, 0.456, 0.406),
                (0.229, 0.224, 0.225),
            ),
            "data.name": "imagenet2012",
            "data.image_size": 224,
            "data.resize": 256,
            "data.augment": "random_part_flip",
            "attack.epsilon": 2 / 255,
            "attack.step_size": 2 / 3 * 2 / 255,
            "optimizer.learning_rate": 0.001,
            "train.epochs": 10,
        },
    )
