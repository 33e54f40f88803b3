"""The networks that are trained, with their images and attack."""

import dataclasses
import operator

_NUM_BATCHES = 4
LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.001, 0.9, 5e-4


@dataclasses.dataclass(frozen=True)
class Workload:
    """One network with the images and attack of the paper.

    Attributes:
        constructor: dotted name, the same in `keras_neokd.models` and in
            `torch_baseline`.
        image_shape: height, width, channels.
        num_classes: classes of the labels.
        epsilon, step_size: radius and step of the attack, in pixel units.
    """

    constructor: str
    image_shape: tuple
    num_classes: int
    epsilon: float
    step_size: float

    def build(self, models, **options):
        """Return the network out of a module that has the constructor."""
        return operator.attrgetter(self.constructor)(models)(**options)

    def batches(self, batch_size):
        """Return a list of a few batches of random images and labels."""
        # NumPy would start threads before a process knows how many.
        import numpy as np

        generator = np.random.default_rng(0)
        shape = (batch_size, *self.image_shape)
        return [
            (
                generator.random(shape, dtype="float32"),
                generator.integers(0, self.num_classes, batch_size, "int32"),
            )
            for _ in range(_NUM_BATCHES)
        ]


WORKLOADS = {
    "small_cnn": Workload("SmallCNN.mnist", (28, 28, 1), 10, 0.3, 20 / 255),
    "msdnet_cifar10": Workload(
        "MSDNet.cifar10", (32, 32, 3), 10, 8 / 255, 2 / 255
    ),
    "msdnet_cifar100": Workload(
        "MSDNet.cifar100", (32, 32, 3), 100, 8 / 255, 2 / 255
    ),
}
