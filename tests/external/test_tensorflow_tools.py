"""Foolbox and the Adversarial Robustness Toolbox on one exit."""

import warnings

import keras
import numpy as np
import pytest

from tests.external import easy

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        keras.config.backend() != "tensorflow",
        reason="these tools know TensorFlow, not this backend",
    ),
]


@pytest.fixture(scope="module")
def model():
    return easy.easy_model()


def imported(name):
    # What the tools warn about on import is theirs to cure.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name)


@pytest.mark.parametrize("ensemble", [False, True])
def test_foolbox(model, ensemble):
    foolbox = imported("foolbox")
    import tensorflow as tf

    images, labels = easy.examples(model)
    classifier = easy.classifier_of(model, ensemble=ensemble)
    target = foolbox.TensorFlowModel(classifier, bounds=(0, 1))
    attack = foolbox.attacks.LinfPGD(steps=10)
    _, adversarial, _ = attack(
        target, tf.constant(images), tf.constant(labels), epsilons=easy.EPSILON
    )
    easy.assert_fooled(model, images, labels, adversarial.numpy(), ensemble)


@pytest.mark.parametrize("ensemble", [False, True])
def test_art(model, ensemble):
    estimators = imported("art.estimators.classification")
    evasion = imported("art.attacks.evasion")
    images, labels = easy.examples(model)
    target = estimators.TensorFlowV2Classifier(
        model=easy.classifier_of(model, ensemble=ensemble),
        nb_classes=model.num_classes,
        input_shape=images.shape[1:],
        loss_object=keras.losses.SparseCategoricalCrossentropy(
            from_logits=True
        ),
        clip_values=(0.0, 1.0),
    )
    attack = evasion.ProjectedGradientDescent(
        target,
        eps=easy.EPSILON,
        eps_step=easy.EPSILON / 4,
        max_iter=10,
        verbose=False,
    )
    adversarial = attack.generate(images, y=np.eye(8)[labels])
    easy.assert_fooled(model, images, labels, adversarial, ensemble)
