"""Evaluations of one exit under attack: ours, and with other tools.

Each step k attacks all images once with seed k and returns which of them stay
correct, a 0 or 1 for each. Ours need public names of the library only.
"""

import keras
import numpy as np

import keras_neokd.attacks
from benchmarks.work import attacks
from keras_neokd import evaluation


class KerasEvaluation:
    """Attack with keras_neokd.

    Args:
        model: `.keras` file of a `MultiExitModel`.
        images: `.npz` file with `images` and `labels`.
        attack: a key of `ATTACKS`.
        exit: name of the exit.
        batch_size: images at a time.
        **changes: arguments of the attack to replace, see `on_exit`.
    """

    def __init__(self, model, images, attack, exit, batch_size, **changes):
        self._model = keras.saving.load_model(model, compile=False)
        self._exit = self._model.exit_index(exit)
        attack = attacks.ATTACKS[attack]
        self._attack = attacks.on_exit(attack, self._exit, **changes)
        with np.load(images) as arrays:
            self._images, self._labels = arrays["images"], arrays["labels"]
        self._batch_size, self._seed = batch_size, -1
        self._prepare()

    def _prepare(self):
        self._evaluator = evaluation.Evaluator(
            self._model, self._attack, self._batch_size
        )

    def step(self):
        """Attack all images once."""
        self._seed += 1
        return self._correct()

    def _correct(self):
        result = self._evaluator.anytime(self._images, self._labels, self._seed)
        return result.ranks[:, self._exit] == 0


class TorchEvaluation(KerasEvaluation):
    """Attack with torchattacks or pyautoattack, on the model itself."""

    def _prepare(self):
        import torch

        self._network = self._build_network()
        images = torch.from_numpy(_channels_first(self._images))
        labels, size = torch.from_numpy(self._labels).long(), self._batch_size
        if isinstance(self._attack, keras_neokd.attacks.AutoAttack):
            # It makes batches of 250, anew after each of its attacks.
            size = len(images)
        pairs = zip(images.split(size), labels.split(size), strict=True)
        self._batches = list(pairs)

    def _build_network(self):
        from keras_neokd.serving.adapters import as_single_output

        return as_single_output(self._model, self._exit, channels_first=True)

    def _correct(self):
        parts = [self._correct_of(*each) for each in self._batches]
        return np.concatenate(parts)

    def _correct_of(self, images, labels):
        return attacks.correct_answers(
            self._attack, self._network, images, labels, self._seed
        )


class PlainTorchEvaluation(TorchEvaluation):
    """Attack an exit of a SmallCNN as a plain PyTorch network.

    That is what the tools are made for, so nothing of Keras slows them down.
    """

    def _build_network(self):
        return plain_network(self._model, self._images[:16], self._exit)


class FoolboxEvaluation(PlainTorchEvaluation):
    """Attack the plain PyTorch network with foolbox."""

    def _prepare(self):
        import foolbox

        super()._prepare()
        self._target = foolbox.PyTorchModel(
            self._network, bounds=(0, 1), device="cpu"
        )
        self._pgd = foolbox.attacks.LinfPGD(
            abs_stepsize=self._attack.step_size, steps=self._attack.num_steps
        )

    def _correct_of(self, images, labels):
        *_, fooled = self._pgd(
            self._target, images, labels, epsilons=self._attack.epsilon
        )
        return ~fooled.numpy()


def plain_network(model, images, exit):
    """Return the path of a `SmallCNN` to an exit, in PyTorch.

    Args:
        model: a `keras_neokd.models.SmallCNN` for MNIST.
        images: some images to compare both on.
        exit: index of the exit.

    Returns:
        A `torch.nn.Module` in evaluation mode, channels first.

    Raises:
        ValueError: if the model is another one.
    """
    import torch

    from benchmarks import torch_baseline

    network = torch_baseline.SmallCNN()
    weights = {
        variable.path: keras.ops.convert_to_numpy(variable)
        for variable in model.weights
    }
    torch_baseline.load(network, weights)
    network.eval()
    forward = network.forward
    network.forward = lambda x: forward(x, exit)[0]
    with torch.no_grad():
        theirs = network(torch.from_numpy(_channels_first(images))).numpy()
    ours = model.exit_model(exit).predict(images, verbose=0)
    np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)
    return network


def _channels_first(images):
    return np.ascontiguousarray(np.moveaxis(images, 3, 1))
