"""The two kinds of training step that a worker can take."""

import functools
import itertools
import tempfile

from apps import versions
from apps.benchmarking import arithmetic
from apps.benchmarking import convolutions
from apps.benchmarking import optimisations
from apps.benchmarking import threads
from apps.benchmarking import tracing
from apps.benchmarking.methods import METHODS

_LEARNING_RATE, _MOMENTUM, _WEIGHT_DECAY = 0.001, 0.9, 5e-4
_NUM_BATCHES = 4


class KerasStep:
    """Training step of keras_neokd.

    `train_on_batch` is what is timed. It returns when the step has finished,
    and takes as long as a batch of `fit` to within a hundredth; its checks of
    the data take 0.1 ms.

    Args:
        spec: dictionary of `processes.start`.
    """

    def __init__(self, spec):
        self._spec = spec
        threads.limit(spec["backend"], spec["threads"])
        import keras_neokd
        import keras_neokd.models

        self._library = keras_neokd
        self.versions = versions.of_modules("keras", spec["backend"])
        self._compile_options = {}
        if spec["without"] is not None:
            optimisations.take_out(spec["without"])
            removed = optimisations.OPTIMISATIONS[spec["without"]]
            self._compile_options = removed.compile_options

    def build(self):
        """Build and compile the model."""
        library, spec = self._library, self._spec
        constructors = {
            "small_cnn": library.models.SmallCNN.mnist,
            "msdnet_cifar10": library.models.MSDNet.cifar10,
            "msdnet_cifar100": library.models.MSDNet.cifar100,
        }
        attack = library.attacks.PGD(
            spec["epsilon"], spec["step_size"], spec["attack_steps"]
        )
        if spec["attack"] == "max_average":
            attack = library.attacks.MaxAverage(attack)
        construct = functools.partial(
            constructors[spec["model"]], **spec["model_options"]
        )
        self._model = construct()
        method = training_method(spec, self._model.num_exits, construct)
        self._model.compile(
            library.optimizers.TorchSGD(
                _LEARNING_RATE,
                momentum=_MOMENTUM,
                coupled_weight_decay=_WEIGHT_DECAY,
            ),
            method=method,
            attack=attack,
            **self._compile_options,
        )
        batches = _batches(spec)
        if method.num_examples is not None:
            batches = with_positions(batches, method.num_examples)
        self._batches = itertools.cycle(batches)

    def step(self):
        """Take one step and return the loss."""
        logs = self._model.train_on_batch(
            *next(self._batches), return_dict=True
        )
        return logs["loss"]

    def trace(self):
        """Return the number of operations traced for a step."""
        return tracing.count_operations(
            self._spec["backend"], self._model, *next(self._batches)
        )

    def arithmetic(self):
        """Return the multiply-adds that a step needs for an image."""
        return arithmetic.multiply_adds(
            self._model, self._spec["attack"], self._spec["attack_steps"]
        )

    def convolve(self):
        """Return the most multiply-adds per second of a convolution."""
        return convolutions.fastest_on_keras()


class EagerStep:
    """Training step of `apps.torch_baseline`, plain eager PyTorch.

    Args:
        spec: dictionary of `processes.start`.
    """

    def __init__(self, spec):
        import torch

        from apps import torch_baseline

        torch.set_num_threads(spec["threads"])
        torch.manual_seed(0)
        self._spec, self._torch, self._baseline = spec, torch, torch_baseline
        self.versions = versions.of_modules("torch")

    def build(self):
        """Build model and optimizer."""
        torch, spec = self._torch, self._spec
        self._format = {
            "contiguous": torch.contiguous_format,
            "channels_last": torch.channels_last,
        }[spec["memory_format"]]
        constructors = {
            "small_cnn": self._baseline.SmallCNN,
            "msdnet_cifar10": self._baseline.MSDNet,
            "msdnet_cifar100": functools.partial(
                self._baseline.MSDNet, num_classes=100, num_blocks=7
            ),
        }
        self._model = constructors[spec["model"]]()
        self._model.to(memory_format=self._format)
        self._optimizer = torch.optim.SGD(
            self._model.parameters(),
            _LEARNING_RATE,
            momentum=_MOMENTUM,
            weight_decay=_WEIGHT_DECAY,
        )
        num_classes = spec["num_classes"]
        # Drawn once per epoch and looked up by label, as in keras_neokd.
        self._supports = self._baseline.orthogonal_supports(
            torch.arange(num_classes), self._model.num_exits, num_classes
        )
        self._batches = itertools.cycle(
            [self._tensors(x, y) for x, y in _batches(spec)]
        )

    def _tensors(self, x, y):
        images = self._torch.from_numpy(x).permute(0, 3, 1, 2)
        labels = self._torch.from_numpy(y).long()
        return images.contiguous(memory_format=self._format), labels

    def step(self):
        """Take one step and return the loss."""
        x, y = next(self._batches)
        logs = self._baseline.train_step(
            self._model,
            self._optimizer,
            x,
            y,
            self._supports[y],
            attack=self._spec["attack"],
            attack_arguments={
                "epsilon": self._spec["epsilon"],
                "step_size": self._spec["step_size"],
                "num_steps": self._spec["attack_steps"],
                "truncated": self._spec["truncated"],
            },
            memory_format=self._format,
        )
        return logs["loss"]

    def convolve(self):
        """Return the most multiply-adds per second of a convolution."""
        return convolutions.fastest_in_torch(self._format)


def _batches(spec):
    """Return a few batches of random images and labels."""
    import numpy as np

    generator = np.random.default_rng(0)
    shape = (spec["batch_size"], *spec["image_shape"])
    return [
        (
            generator.random(shape, dtype="float32"),
            generator.integers(0, spec["num_classes"], shape[0]).astype(
                "int32"
            ),
        )
        for _ in range(_NUM_BATCHES)
    ]


def training_method(spec, num_exits, construct):
    """Return the training method of a spec.

    Args:
        spec: dictionary with `method`, a key of `METHODS`, and
            `num_examples`, the size of the data set or `None`.
        num_exits: number of exits of the network.
        construct: function without arguments that returns an untrained
            network, which is KDIGA's teacher.
    """
    import keras

    from apps import building_methods
    from configs import default

    wanted = METHODS[spec["method"]]
    config = default.get_config(wanted.variant)
    config.method.kdiga.update(wanted.kdiga)
    # The paper gives none for other numbers of exits than 3, 5 and 7; the
    # time of a step does not depend on them.
    config.method.exit_weights = (1.0,) * num_exits
    with tempfile.TemporaryDirectory() as folder:
        if "kdiga" in config.method.name.split("+"):
            path = f"{folder}/teacher.keras"
            keras.saving.save_model(construct(), path)
            config.method.kdiga.teacher_file = path
        return building_methods.build_method(
            config, num_exits, spec["num_examples"]
        )


def with_positions(batches, num_examples):
    """Say for each image where in a data set it stands.

    Args:
        batches: list of pairs of images and labels, of the same size.
        num_examples: size of the data set, at least that of a batch.

    Returns:
        List of pairs of images and dictionaries `label`, `index`.
    """
    import numpy as np

    positions = np.random.default_rng(0).permutation(num_examples)
    positions = positions.astype("int32")
    size = len(batches[0][1])
    return [
        (x, {"label": y, "index": np.roll(positions, -size * i)[:size]})
        for i, (x, y) in enumerate(batches)
    ]
