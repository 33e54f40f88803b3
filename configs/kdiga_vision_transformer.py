"""KDIGA from a robust ResNet-34 to a pre-trained vision transformer, CIFAR-10.

The teacher, trained against attacks; the student, first on labels alone, then
with the teacher:

    python -m apps.train --config=configs/kdiga_resnet.py:trades \
        --config.model.resnet_cifar10.depth=34 --workdir=runs/teacher
    python -m apps.train \
        --config=configs/kdiga_vision_transformer.py:clean_training \
        --workdir=runs/pretrained
    python -m apps.train --config=configs/kdiga_vision_transformer.py:kdiga \
        --config.model.weights=runs/pretrained/model.keras \
        --config.method.kdiga.teacher_file=runs/teacher/model.keras \
        --workdir=runs/student
    python -m apps.evaluate --workdir=runs/student

Teacher and student may be of any architecture, as long as they take the same
images and know the same classes. A student of another number of classes, or
with more exits than the pre-trained one: see docs/models.md.

Settings are those of configs/kdiga_resnet.py but the learning rate, chosen
here: plain SGD with 0.1 is too fast for a transformer. The tiny size has 12
blocks with tokens of 192 numbers and 4 x 4 patches. We have no results of this
config yet.
"""

from . import kdiga_resnet


def get_config(variant="kdiga"):
    config = kdiga_resnet.get_config(variant)
    config.update_from_flattened_dict(
        {
            "model.name": "vision_transformer_cifar10",
            "model.vision_transformer_cifar10.size": "tiny",
            "optimizer.learning_rate": 0.01,
        }
    )
    return config
