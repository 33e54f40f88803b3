"""Checks of arguments and data: what passes, and every message."""

import fractions
import math

import numpy as np
import pytest
from keras import ops

from keras_neokd import checks
from keras_neokd import evaluation
from keras_neokd.exit_policy import ExitPolicy
from keras_neokd.inference import EarlyExitPredictor
from tests.training import tiny

# Numbers.


@pytest.mark.parametrize(
    "value",
    [
        *(0, 2, 0.5, fractions.Fraction(1, 2)),
        *(np.float16(0.5), np.float32(0.5), np.int8(3), np.int64(3)),
    ],
)
def test_real_numbers_become_floats(value):
    checked = checks.number("epsilon", value, minimum=0)
    assert type(checked) is float
    assert checked == float(value)


def test_bounds_of_numbers():
    assert checks.number("weight", 0.0, minimum=0) == 0
    assert checks.number("weight", -5) == -5
    assert checks.number("step_size", 1e-12, above=0) == 1e-12
    assert checks.number("area", 1, above=0, maximum=1) == 1


@pytest.mark.parametrize(
    ("value", "bounds", "error", "message"),
    [
        (-0.1, {"minimum": 0}, ValueError, "a finite number >= 0, received -0"),
        (0, {"above": 0}, ValueError, "a finite number > 0, received 0"),
        (
            1.5,
            {"above": 0, "maximum": 1},
            ValueError,
            "a finite number > 0 and <= 1, received 1.5",
        ),
        (math.nan, {}, ValueError, "a finite number, received nan"),
        (math.inf, {"minimum": 0}, ValueError, ">= 0, received inf"),
        (-math.inf, {"above": 0}, ValueError, "> 0, received -inf"),
        ("0.1", {}, TypeError, "a number, received '0.1' of type str"),
        (None, {}, TypeError, "a number, received None of type NoneType"),
        (True, {}, TypeError, "a number, received True of type bool"),
        (1j, {}, TypeError, "a number, received 1j of type complex"),
        (np.array(0.1), {}, TypeError, r"a number, received array\(0.1\)"),
        (1, {"below": 1}, ValueError, "a finite number < 1, received 1"),
        (10**400, {}, ValueError, r"a finite number, received 10000.*\.\.\."),
        pytest.param(
            *(10**5000, {}, ValueError, "an integer of more than 4,300 dig"),
            id="unwritable",
        ),
        (1e39, {}, ValueError, r"a finite number, received 1e\+39"),
        (-1e-39, {}, ValueError, "received -1e-39, which is 0 in float32"),
        ([0.1], {}, TypeError, "of type list"),
    ],
)
def test_other_numbers_are_refused(value, bounds, error, message):
    with pytest.raises(error, match=rf"^`epsilon` needs .*{message}"):
        checks.number("epsilon", value, **bounds)


# Integers.


@pytest.mark.parametrize("value", [1, 7, np.int32(2), np.uint8(2), np.array(3)])
def test_integers_become_python_integers(value):
    checked = checks.integer("num_steps", value, minimum=1)
    assert type(checked) is int
    assert checked == value


@pytest.mark.parametrize(
    ("value", "error", "message"),
    [
        (0, ValueError, "needs an integer >= 1, received 0"),
        (-3, ValueError, "needs an integer >= 1, received -3"),
        (1.0, TypeError, "needs an integer, received 1.0 of type float"),
        (True, TypeError, "needs an integer, received True of type bool"),
        ("7", TypeError, "needs an integer, received '7' of type str"),
        (None, TypeError, "needs an integer, received None of type NoneType"),
    ],
)
def test_other_integers_are_refused(value, error, message):
    with pytest.raises(error, match=f"^`num_steps` {message}"):
        checks.integer("num_steps", value, minimum=1)


@pytest.mark.parametrize("value", [2**31, 10**5000], ids=["large", "huge"])
def test_integers_are_those_of_int32(value):
    assert checks.integer("seed", 2**31 - 1, minimum=0) == 2**31 - 1
    with pytest.raises(ValueError, match="`seed` needs an integer <= 21474836"):
        checks.integer("seed", value, minimum=0)


# Lengths in pixels.


@pytest.mark.parametrize("value", [0, 2.0**-24, 0.3, np.float32(0.3)])
def test_lengths_in_pixels_are_0_or_change_a_pixel(value):
    assert checks.pixel_change("epsilon", value, minimum=0) == value


@pytest.mark.parametrize("value", [2.0**-25, 1e-12])
def test_a_length_that_changes_no_pixel_is_refused(value):
    # What the bound is about: the addition is lost.
    assert np.float32(1) + np.float32(value) == 1
    with pytest.raises(ValueError, match="`step_size` .*2\\*\\*-24.*received"):
        checks.pixel_change("step_size", value, above=0)


# Booleans.


@pytest.mark.parametrize("value", [True, False, np.bool_(True)])
def test_booleans_pass(value):
    checked = checks.boolean("ensemble", value)
    assert type(checked) is bool
    assert checked == value


@pytest.mark.parametrize(
    "value", ["no", "False", "", 0, 1, 1.0, None, [], np.array([True])]
)
def test_what_python_takes_as_true_or_false_is_refused(value):
    message = "^`ensemble` needs True or False, received .* of type"
    with pytest.raises(TypeError, match=message):
        checks.boolean("ensemble", value)


# Sequences.


@pytest.mark.parametrize(
    "values",
    [(1, 2), [1, 2], np.array([1, 2]), range(1, 3), iter([1, 2])],
    ids=lambda values: type(values).__name__,
)
def test_sequences_become_tuples(values):
    assert checks.sequence("exits", values, "integers") == (1, 2)


@pytest.mark.parametrize(
    "values", [3, None, "12", b"12", {1, 2}, {1: 2}, np.array(3)]
)
def test_what_has_no_order_is_no_sequence(values):
    message = "^`exits` needs a sequence with integers, received .* of type"
    with pytest.raises(TypeError, match=message):
        checks.sequence("exits", values, "integers")


# Thresholds and confidences.


def test_thresholds_are_numbers_from_0_to_1_or_infinity():
    rounded = float(np.nextafter(np.float32(1), np.float32(2)))
    assert checks.thresholds([0, 1, rounded]) == (0, 1, rounded)
    for infinite in (None, math.inf, np.float32(np.inf)):
        assert checks.thresholds([infinite]) == (math.inf,)
    with pytest.raises(
        ValueError, match="from 0 to 1, or infinity.*received 50"
    ):
        checks.thresholds([0.5, 50])


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.1, 1.1, 50])
def test_confidences_are_softmax_probabilities(value):
    checks.confidences(np.array([[0.5, 1.0]]))
    checks.confidences(np.zeros((0, 2)))
    with pytest.raises(ValueError, match="needs softmax probabilities, from 0"):
        checks.confidences(np.array([[0.5, value]], "float32"))


# Choices.


def test_known_choices_pass():
    assert checks.choice("teacher", "all", ("none", "all")) == "all"


@pytest.mark.parametrize("value", ["ALL", None, 3, ["all"], np.array(["all"])])
@pytest.mark.parametrize("known", [("none", "all"), {"none": 0, "all": 1}])
def test_unknown_choices_list_the_known_ones(value, known):
    with pytest.raises(ValueError) as caught:
        checks.choice("teacher", value, known)
    message = str(caught.value)
    assert f"Unknown `teacher` {value!r}" in message
    assert "expected one of ['none', 'all']" in message


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
