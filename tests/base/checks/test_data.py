"""Checks of data: what passes, and every message."""

import numpy as np
import pytest
from keras import ops

from keras_neokd import evaluation
from keras_neokd.base import checks
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.serving.predictor import EarlyExitPredictor
from tests.training import tiny

# Confidences.


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.1, 50])
def test_confidences_are_softmax_probabilities(value):
    checks.confidences(np.array([[0.5, 1.0]]))
    checks.confidences(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="needs softmax probabilities, from 0"):
        checks.confidences(np.array([[0.5, value]], "float32"))


# Labels as tensors.


@pytest.mark.parametrize(
    "labels",
    [
        np.array([2, 0, 1], "int64"),
        np.array([2, 0, 1], "uint8"),
        np.array([2.0, 0.0, 1.0], "float32"),
        np.array([[2], [0], [1]], "int32"),
        np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], "float32"),
        np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]], "int32"),
    ],
)
def test_every_form_of_labels_becomes_int32_indices(labels):
    indices = ops.convert_to_numpy(
        checks.class_indices(ops.convert_to_tensor(labels))
    )
    assert indices.dtype == np.int32
    np.testing.assert_array_equal(indices, [2, 0, 1])


def test_a_batch_of_one_keeps_its_axis():
    for labels in ([3], [[3]], [[0, 0, 0, 1]]):
        indices = checks.class_indices(ops.convert_to_tensor(labels))
        np.testing.assert_array_equal(ops.convert_to_numpy(indices), [3])


@pytest.mark.parametrize("shape", [(), (2, 3, 4)])
def test_labels_of_other_ranks_are_refused(shape):
    with pytest.raises(ValueError) as caught:
        checks.class_indices(ops.zeros(shape, dtype="int32"))
    message = str(caught.value)
    assert "(batch,) with class indices or (batch, classes) one-hot" in message
    assert "for all exits" in message
    assert f"Received shape {shape}" in message


# Images and labels as arrays.


def images(*shape, fill=0.5):
    return np.full(shape, fill, "float32")


@pytest.mark.parametrize(
    ("pixels", "labels", "image_shape", "num_classes"),
    [
        (images(2, 4, 5, 3), None, None, None),
        (images(2, 4, 5, 3), np.array([0, 9]), (4, 5, 3), 10),
        (images(2, 4, 5, 3), [0, 9], (None, None, 3), 10),
        (images(2, 4, 5, 3), np.array([[0], [9]]), (4, 5, 3), 10),
        (images(2, 4, 5, 3), np.eye(10)[[0, 9]], (4, 5, 3), 10),
        (images(2, 4, 5, 3), np.array([0.0, 9.0]), (4, 5, 3), 10),
        (images(2, 4, 5, 3), np.array([0, 10**6]), None, None),
        (images(0, 4, 5, 3), np.zeros(0, int), (4, 5, 3), 10),
        (images(1, 2, 2, 1, fill=0.0), np.array([0]), None, 2),
        (images(1, 2, 2, 1, fill=1.0), np.array([1]), None, 2),
    ],
)
def test_good_data_passes(pixels, labels, image_shape, num_classes):
    checks.images_and_labels(pixels, labels, image_shape, num_classes)


def with_pixel(value):
    pixels = images(3, 4, 5, 3)
    pixels[1, 2, 3, 0] = value
    return pixels


@pytest.mark.parametrize(
    ("pixels", "image_shape", "message"),
    [
        (
            images(4, 5, 3),
            None,
            r"\(batch, height, width, channels\), received",
        ),
        (
            images(2, 4, 5),
            (4, 5, 3),
            r"\(batch, 4, 5, 3\), received \(2, 4, 5\)",
        ),
        (
            images(2, 5, 4, 3),
            (4, 5, 3),
            r"\(batch, 4, 5, 3\), received \(2, 5, 4, 3\)",
        ),
        (
            images(2, 4, 5, 1),
            (None, None, 3),
            r"\(batch, height, width, 3\), received \(2, 4, 5, 1\)",
        ),
        (np.float32(0.5), None, r"received \(\)"),
        (with_pixel(np.nan), None, "NaN or infinity in 1 of 3 images"),
        (with_pixel(np.inf), None, "NaN or infinity in 1 of 3 images"),
        (with_pixel(-np.inf), None, "NaN or infinity in 1 of 3 images"),
        (with_pixel(-0.25), None, r"\[0, 1\], .* from -0.25 to 0.5"),
        (
            with_pixel(255),
            None,
            r"from 0.5 to 255.0. Divide 8-bit images by 255",
        ),
        (with_pixel(1.5), None, "keras.layers.Normalization"),
        (images(2, 0, 0, 3), None, r"one pixel .* received shape \(2, 0, 0, 3"),
        (images(0, 0, 0, 3), (None, None, 3), "at least one pixel"),
        (images(2, 4, 5, 0), None, "one channel"),
        (with_pixel(-1), None, "from -1.0 to 0.5. Move any mean"),
        # What rounding or resizing leaves.
        (
            with_pixel(1 + 1e-6),
            None,
            r"rounding or resizing: clip the images.*clip\(images, 0, 1\)\.$",
        ),
        (with_pixel(1.01), None, "from 0.5 to 1.0099.*clip the images"),
        (with_pixel(-0.01), None, "from -0.0099.*clip the images"),
    ],
)
def test_bad_images_are_refused(pixels, image_shape, message):
    with pytest.raises(ValueError, match=f"^Images need .*{message}"):
        checks.images_and_labels(pixels, None, image_shape)


@pytest.mark.parametrize(
    ("labels", "num_classes", "message"),
    [
        ([0, 1, 2], 10, "same number of examples, received 2 images and 3"),
        ([0, 10], 10, "from 0 to 9, received values from 0 to 10"),
        ([-1, 0], 10, "from 0 to 9, received values from -1 to 0"),
        ([-1, 0], None, "from 0 or more, received values from -1 to 0"),
        ([0.0, 1.5], 10, "fractional values such as 1.5"),
        ([0.0, np.nan], 10, "fractional values such as nan"),
        (np.zeros((2, 3, 4)), 10, r"one-hot, received \(2, 3, 4\)"),
        ([[0], [10]], 10, "from 0 to 9, received values from 0 to 10"),
        (np.eye(5)[[0, 1]], 10, "need 10 columns, one per class, received 5"),
        ([[0.5, 0.5], [0, 1]], 2, "need to be one-hot.*Soft labels are not"),
        ([[1, 1], [0, 1]], 2, "need to be one-hot"),
        ([[0, 0], [0, 1]], None, "need to be one-hot"),
    ],
)
def test_bad_labels_are_refused(labels, num_classes, message):
    with pytest.raises(ValueError, match=f"[Ll]abels.* {message}"):
        checks.images_and_labels(
            images(2, 4, 5, 3), np.array(labels), None, num_classes
        )


def test_one_label_without_a_batch_axis_is_refused():
    with pytest.raises(ValueError, match="Labels need shape"):
        checks.images_and_labels(images(1, 4, 5, 3), np.array(3))


def test_names_in_place_of_class_indices_are_refused():
    with pytest.raises((TypeError, ValueError), match="Labels need class"):
        checks.images_and_labels(images(2, 4, 5, 3), np.array(["cat", "dog"]))


@pytest.mark.parametrize(
    "values",
    [
        np.full((2, 4, 5, 3), 0.5 + 2j),
        np.full((2, 4, 5, 3), 0.5, "complex64"),
        np.full((2, 4, 5, 3), None),
        np.full((2, 4, 5, 3), "0.5"),
    ],
)
def test_what_is_no_real_number_is_refused_as_images(values):
    with pytest.raises(TypeError, match="^Images need real numbers, rec.*type"):
        checks.images_and_labels(values)


def test_complex_labels_and_weights_are_refused():
    labels = np.array([0, 1 + 1j])
    with pytest.raises(TypeError, match="Labels need .* type complex128"):
        checks.images_and_labels(images(2, 4, 5, 3), labels)
    with pytest.raises(TypeError, match="weights need real .* type complex128"):
        checks.sample_weights(labels, 2)


def test_complex_tensors_are_refused():
    values = ops.convert_to_tensor(np.ones((2, 4, 5, 3), "complex64"))
    with pytest.raises(TypeError, match="real numbers, .*complex64"):
        checks.real_numbers("Images", values)


@pytest.fixture(scope="module")
def model():
    model = tiny.dense_model()
    model.compile(tiny.sgd(), method=tiny.neo_kd(), attack=tiny.pgd())
    return model


ENTRANCES = {
    "fit": lambda model, x, y: model.fit(x, y, verbose=0),
    "evaluate": lambda model, x, y: model.evaluate(x, y, verbose=0),
    "attack": lambda model, x, y: tiny.pgd()(model.exit_logits(), x, y),
    "measurement": evaluation.anytime,
    "early exit": lambda model, x, y: EarlyExitPredictor(
        model, ExitPolicy((0.5, 0.5))
    )(x),
}


@pytest.mark.parametrize("entrance", list(ENTRANCES))
def test_no_entrance_drops_an_imaginary_part(model, entrance):
    x, y = tiny.data(2)
    enter = ENTRANCES[entrance]
    with pytest.raises(TypeError, match="Images need real numbers"):
        enter(model, x + 2j, y)
    if entrance != "early exit":
        with pytest.raises(TypeError, match="Labels need .* type complex"):
            enter(model, x, y + 2j)
