"""The kinds of attack that a worker can run: ours and those of others.

All attack the last exit of the same model with the same images. `step` runs
one evaluation, images to accuracy, and returns the share that stays correct.
"""

from apps import versions
from apps.benchmarking import threads


class _Attack:
    """Load the model and the images.

    Args:
        spec: dictionary of `processes.start_attack`.
    """

    def __init__(self, spec):
        threads.limit(spec["backend"], spec["threads"])
        import keras_neokd.evaluation

        self._library, self._spec = keras_neokd, spec
        self.versions = versions.of_modules(*self.packages, spec["backend"])

    def _problem(self):
        """Return the model, images and labels."""
        from apps import building
        from apps import model_files
        from apps import run_config
        from apps import workdir

        run = workdir.Workdir(self._spec["run"])
        model = model_files.load(run.model)
        test = building.load_data(run_config.read(run), model).test
        count = self._spec["num_examples"]
        return model, *test.arrays(count)


class KerasAttack(_Attack):
    """Attack with keras_neokd."""

    packages = ("keras",)

    def build(self):
        """Load everything and compile what can be compiled beforehand."""
        model, self._images, self._labels = self._problem()
        attacks, spec = self._library.attacks, self._spec
        last = attacks.SingleExit(-1)
        if spec["attack"] == "pgd":
            attack = attacks.PGD(
                spec["epsilon"],
                spec["step_size"],
                spec["num_steps"],
                objective=last,
            )
        else:
            attack = attacks.APGD(
                spec["epsilon"], spec["num_steps"], objective=last
            )
        self._evaluator = self._library.evaluation.Evaluator(
            model, attack, spec["batch_size"]
        )

    def step(self):
        """Attack all images once; return the share that stays correct."""
        result = self._evaluator.anytime(self._images, self._labels)
        return result.accuracy()[-1]


class _OtherTool(_Attack):
    """Attack batch by batch with a tool that knows one batch."""

    def step(self):
        """Attack all images once; return the share that stays correct."""
        size = self._spec["batch_size"]
        correct = 0
        for first in range(0, len(self._labels), size):
            rows = slice(first, first + size)
            correct += self._count(self._images[rows], self._labels[rows])
        return correct / len(self._labels)

    def _to_torch(self):
        """Return the network; images and labels become tensors."""
        import torch

        from apps.benchmarking import native

        model, images, labels = self._problem()
        self._images = native.channels_first(images)
        self._labels = torch.from_numpy(labels).long()
        return native.last_exit(model, images[:16])


class Torchattacks(_OtherTool):
    """Attack a plain PyTorch network with torchattacks."""

    packages = ("torchattacks",)

    def build(self):
        """Load everything."""
        import torchattacks

        spec = self._spec
        self._network = self._to_torch()
        if spec["attack"] == "pgd":
            self._attack = torchattacks.PGD(
                self._network,
                eps=spec["epsilon"],
                alpha=spec["step_size"],
                steps=spec["num_steps"],
            )
        else:
            self._attack = torchattacks.APGD(
                self._network, eps=spec["epsilon"], steps=spec["num_steps"]
            )

    def _count(self, images, labels):
        import torch

        adversarial = self._attack(images, labels)
        with torch.no_grad():
            answers = self._network(adversarial).argmax(1)
        return int((answers == labels).sum())


class Foolbox(_OtherTool):
    """Attack a PyTorch network, or a Keras model on TensorFlow."""

    packages = ("foolbox",)

    def build(self):
        """Load everything."""
        import foolbox

        spec = self._spec
        self._attack = foolbox.attacks.LinfPGD(
            abs_stepsize=spec["step_size"], steps=spec["num_steps"]
        )
        if spec["backend"] == "torch":
            self._model = foolbox.PyTorchModel(
                self._to_torch(), bounds=(0, 1), device="cpu"
            )
            return
        import tensorflow as tf

        from keras_neokd.adapters import as_single_output

        model, images, labels = self._problem()
        self._images = tf.convert_to_tensor(images)
        self._labels = tf.convert_to_tensor(labels, tf.int64)
        self._model = foolbox.TensorFlowModel(
            as_single_output(model), bounds=(0, 1), device="cpu:0"
        )

    def _count(self, images, labels):
        _, _, fooled = self._attack(
            self._model, images, labels, epsilons=self._spec["epsilon"]
        )
        return len(labels) - int(fooled.numpy().sum())


PROGRAMS = {
    "keras_neokd": KerasAttack,
    "torchattacks": Torchattacks,
    "foolbox": Foolbox,
}
