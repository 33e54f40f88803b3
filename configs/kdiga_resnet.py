"""KDIGA from a robust ResNet-34 to a ResNet-18, on CIFAR-10.

The teacher, trained against attacks, then the student on clean images:

    python -m apps.train --config=configs/kdiga_resnet.py:trades \
        --config.model.resnet_cifar10.depth=34 --workdir=runs/teacher
    python -m apps.train --config=configs/kdiga_resnet.py:kdiga \
        --config.method.kdiga.teacher_file=runs/teacher/model.keras \
        --workdir=runs/student
    python -m apps.evaluate --workdir=runs/student

Other teachers: `:adversarial_training`. Other students: `:kd` is the same
without alignment, `:kdiga_author_2021` has the weights of the authors' code
of that year, each with its own section (`--config.method.kd.teacher_file`), and
with `--config.model.resnet_cifar10.exits="(2, 3, 4)"` the student has three
exits.

Settings of the repository of the paper's first author (Shao et al., arXiv
2110.12072): 200 epochs of batch 128, learning rate 0.1, a tenth of it from
epochs 100 and 150 on, weight decay 2e-4, random crop and flip; epsilon 8/255
and PGD-10 with step 1.6/255 where a training has an attack. Its evaluation is
PGD-20 with epsilon 8/255, 4/255 and 1/255 and steps of a tenth of it:

    python -m apps.evaluate --workdir=runs/student \
        --config.attack.step_size=0.003137 --results=runs/student/8.json
    python -m apps.evaluate --workdir=runs/student \
        --config.evaluate.epsilon=0.015686 --config.attack.step_size=0.001569 \
        --results=runs/student/4.json

There the teacher is a WideResNet-34-10 trained with TRADES, and students are
MobileNetV2, ResNet-18 and WideResNets. We have no results of this config yet.
"""

from . import default


def get_config(variant="kdiga"):
    return default.derive(
        variant,
        {
            "model.name": "resnet_cifar10",
            "model.resnet_cifar10.depth": 18,
            "data.name": "cifar10",
            "data.augment": "crop_flip",
            "attack.step_size": 1.6 / 255,
            "attack.num_steps": 10,
            "optimizer.weight_decay": 2e-4,
            "optimizer.milestones": (100, 150),
            "train.epochs": 200,
            "evaluate.attacks": ("average",),
            "evaluate.num_steps": 20,
        },
    )
