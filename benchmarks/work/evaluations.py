"""Evaluations of one exit under attack: ours, and with other tools.

Each step k attacks all images once with seed k and returns which of them stay
correct, a 0 or 1 for each. Ours need public names of the library only.
"""

import keras
import numpy as np

from benchmarks.work.attacks import ATTACKS
from benchmarks.work.attacks import correct_answers
from benchmarks.work.attacks import on_exit
from keras_neokd import evaluation


class _Evaluation:
    """A model, images and an attack.

    Args:
        model: `.keras` file of a `MultiExitModel`.
        images: `.npz` file with `images` and `labels`.
        attack: a key of `ATTACKS`.
        exit: name of the exit.
        batch_size: images at a time.
        **changes: arguments of the attack to replace, see `on_exit`.
    """

    def __init__(self, model, images, attack, exit, batch_size, **changes):
        self.model = keras.saving.load_model(model, compile=False)
        self.exit = self.model.exit_index(exit)
        self.attack = on_exit(ATTACKS[attack], self.exit, **changes)
        with np.load(images) as arrays:
            self.images, self.labels = arrays["images"], arrays["labels"]
        self.batch_size, self.seed = batch_size, -1
        self.prepare()

    def prepare(self):
        """Compile or convert what an evaluation needs."""

    def step(self):
        """Attack all images once."""
        self.seed += 1
        batches = range(0, len(self.labels), self.batch_size)
        parts = [slice(first, first + self.batch_size) for first in batches]
        return np.concatenate(
            [self.correct(self.images[i], self.labels[i]) for i in parts]
        )

    def correct(self, images, labels):
        """Return which images of a batch stay correct, an array."""
        raise NotImplementedError

    def facts(self):
        """Return nothing more."""
        return {}


class KerasEvaluation(_Evaluation):
    """Attack with keras_neokd."""

    def prepare(self):
        """Make the evaluator, which compiles once."""
        self._evaluator = evaluation.Evaluator(
            self.model, self.attack, self.batch_size
        )

    def step(self):
        """Attack all images once."""
        self.seed += 1
        result = self._evaluator.anytime(self.images, self.labels, self.seed)
        return result.ranks[:, self.exit] == 0


class TorchEvaluation(_Evaluation):
    """Attack with torchattacks or pyautoattack, on the model itself."""

    def prepare(self):
        """Turn everything into tensors."""
        import torch

        self.network = self.build_network()
        moved = np.ascontiguousarray(np.moveaxis(self.images, 3, 1))
        self.images = torch.from_numpy(moved)
        self.labels = torch.from_numpy(self.labels).long()

    def build_network(self):
        """Return the attacked classifier, a `torch.nn.Module`."""
        from keras_neokd.serving.adapters import as_single_output

        return as_single_output(self.model, self.exit, channels_first=True)

    def correct(self, images, labels):
        """Return which images of a batch stay correct, an array."""
        return correct_answers(
            self.attack, self.network, images, labels, self.seed
        )


class PlainTorchEvaluation(TorchEvaluation):
    """Attack the last exit of a SmallCNN as a plain PyTorch network.

    That is what the tools are made for, so nothing of Keras slows them down.
    """

    def build_network(self):
        """Return the network; its logits are compared with the model's."""
        return plain_network(self.model, self.images[:16])


class FoolboxEvaluation(PlainTorchEvaluation):
    """Attack the plain PyTorch network with foolbox."""

    def prepare(self):
        """Make foolbox' model and attack."""
        import foolbox

        super().prepare()
        self._target = foolbox.PyTorchModel(
            self.network, bounds=(0, 1), device="cpu"
        )
        self._pgd = foolbox.attacks.LinfPGD(
            abs_stepsize=self.attack.step_size, steps=self.attack.num_steps
        )

    def correct(self, images, labels):
        """Return which images of a batch stay correct, an array."""
        *_, fooled = self._pgd(
            self._target, images, labels, epsilons=self.attack.epsilon
        )
        return ~fooled.numpy()


def plain_network(model, images):
    """Return the path of a `SmallCNN` to its last exit, in PyTorch.

    Args:
        model: a `keras_neokd.models.SmallCNN` for MNIST.
        images: some images to compare both on.

    Returns:
        A `torch.nn.Module` in evaluation mode, channels first.

    Raises:
        ValueError: if the model is another one.
    """
    import torch

    from benchmarks import torch_baseline

    network = torch_baseline.SmallCNN()
    torch_baseline.load(
        network,
        {
            variable.path: keras.ops.convert_to_numpy(variable)
            for variable in model.weights
        },
    )
    network.eval()
    network.forward = network.last_exit
    moved = np.ascontiguousarray(np.moveaxis(images, 3, 1))
    with torch.no_grad():
        theirs = network(torch.from_numpy(moved)).numpy()
    ours = model.exit_model(-1).predict(images, verbose=0)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)
    return network
