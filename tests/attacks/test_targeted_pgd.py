"""PGD on differences of logits: towards one wrong class after the other."""

import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd.attacks.targeted_pgd import TargetedPGD
from tests import arrays
from tests.attacks import running
from tests.reference import equations as reference

EPSILON = 0.07


@pytest.fixture(scope="module")
def batch():
    """Logits are linear: PGD ends in the corner that its target asks for."""
    model = reference.LinearExits(2, running.SHAPE, 5)
    images = running.some_images(64)
    return model, images, model.logits(images, 0).argmax(axis=1)


def corner(model, image, label, target):
    uphill = model.weights[0][:, target] - model.weights[0][:, label]
    moved = image + EPSILON * np.sign(uphill).reshape(image.shape)
    return np.clip(moved, 0, 1)


def expected(batch, num_targets):
    """Return images, and which target in order of likelihood fooled each."""
    found, winners = [], []
    for image, label in zip(*batch[1:], strict=True):
        logits = batch[0].logits(image[None], 0)[0]
        likely = [each for each in np.argsort(-logits) if each != label]
        corners = [
            corner(batch[0], image, label, each)
            for each in likely[:num_targets]
        ]
        fooled = batch[0].logits(corners, 0).argmax(axis=1) != label
        winners.append(int(fooled.argmax()) if fooled.any() else None)
        found.append(corners[winners[-1]] if fooled.any() else image)
    return np.array(found), winners


@pytest.mark.parametrize("num_targets", [1, 9])
def test_classes_are_tried_from_the_most_likely_one(batch, num_targets):
    model, images, labels = batch
    attack = TargetedPGD(
        EPSILON,
        0.25 * EPSILON,
        num_steps=9,
        num_restarts=2,
        num_targets=num_targets,
        objective=attacks.SingleExit(0),
    )
    images_found, winners = expected(batch, num_targets)
    received = running.attacker(attack, model)(images, labels)
    arrays.close(received, images_found, atol=1e-5)
    # Some resist, and where there are several classes a later one helps.
    assert None in winners
    assert ({*winners} - {None, 0} != set()) == (num_targets > 1)


def test_restarts_start_elsewhere(batch):
    model, images, labels = batch
    # One step from inside: where it ends depends on where it started.
    settings = {"num_steps": 1, "objective": attacks.SingleExit(0)}
    once, more = (
        TargetedPGD(EPSILON, 0.25 * EPSILON, num_restarts=count, **settings)
        for count in (1, 6)
    )
    fooled = [
        (running.attacker(each, model)(images, labels) != images)
        .any(axis=(1, 2, 3))
        .sum()
        for each in (once, more)
    ]
    assert 0 < fooled[0] < fooled[1]
