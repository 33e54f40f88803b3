"""Torchattacks and pyautoattack on one exit."""

import warnings

import keras
import numpy as np
import pytest

from tests.external import easy

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        keras.config.backend() != "torch",
        reason="these tools know PyTorch, not this backend",
    ),
]


@pytest.fixture(scope="module")
def model():
    return easy.easy_model()


@pytest.fixture
def given(model):
    """Images, labels, and both as the tools take them."""
    import torch

    images, labels = easy.examples(model)
    channels_first = np.ascontiguousarray(np.moveaxis(images, 3, 1))
    return images, labels, torch.tensor(channels_first), torch.tensor(labels)


def imported(name):
    # What the tools warn about on import is theirs to cure.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


def channels_last(tensor):
    return np.moveaxis(tensor.detach().cpu().numpy(), 1, 3)


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("name", ["PGD", "APGD", "FAB", "Square", "CW"])
def test_torchattacks(model, given, name, ensemble):
    torchattacks = imported("torchattacks")
    images, labels, *tensors = given
    settings = {
        "PGD": {"eps": easy.EPSILON, "alpha": 0.1, "steps": 10},
        "APGD": {"eps": easy.EPSILON, "steps": 10},
        "FAB": {"eps": easy.EPSILON, "steps": 5, "n_classes": 8},
        "Square": {"eps": easy.EPSILON, "n_queries": 50},
        "CW": {"c": 10, "steps": 30, "lr": 0.05},
    }[name]
    classifier = easy.classifier_of(
        model, ensemble=ensemble, channels_first=True
    )
    attack = getattr(torchattacks, name)(classifier, **settings)
    adversarial = channels_last(attack(*tensors))
    # CW has no ball.
    epsilon = None if name == "CW" else easy.EPSILON
    easy.assert_fooled(model, images, labels, adversarial, ensemble, epsilon)


def test_pyautoattack(model, given):
    pyautoattack = imported("pyautoattack")
    images, labels, *tensors = given
    attack = pyautoattack.AutoAttack(
        easy.classifier_of(model, channels_first=True),
        eps=easy.EPSILON,
        version="custom",
        attacks=["apgd-ce", "square"],
        seed=0,
    )
    adversarial, _ = attack.run_standard_evaluation(*tensors)
    easy.assert_fooled(model, images, labels, channels_last(adversarial))
