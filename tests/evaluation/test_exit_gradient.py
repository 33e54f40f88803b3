"""Gradient of one exit's cross-entropy: against NumPy in closed form."""

import pytest
from keras import ops

from keras_neokd.evaluation.batches import exit_gradient
from tests import arrays
from tests.evaluation import linear
from tests.reference import equations as reference

EXITS = reference.LinearExits(2, linear.SHAPE, linear.NUM_CLASSES)


@pytest.mark.parametrize("exit_", [0, 1])
def test_each_image_has_the_gradient_of_its_own_cross_entropy(exit_):
    model, images = linear.model_of(EXITS), linear.images()
    found = exit_gradient(
        model.exit_logits(),
        exit_,
        ops.convert_to_tensor(images),
        ops.convert_to_tensor(linear.LABELS),
    )
    arrays.close(
        ops.stop_gradient(found),
        EXITS.gradient(images, linear.LABELS, (exit_,)),
        rtol=1e-4,
        atol=1e-6,
    )
