"""Gradient alignment: against gradients by hand, for any kind of teacher."""

import keras
import numpy as np
import pytest

from keras_neokd import evaluation
from tests import arrays
from tests.evaluation import linear
from tests.reference import equations as reference
from tests.training import tiny

STUDENT = reference.LinearExits(2, linear.SHAPE, linear.NUM_CLASSES)
TEACHER = reference.LinearExits(3, linear.SHAPE, linear.NUM_CLASSES, scale=0.5)
IMAGES, LABELS = linear.images(), linear.LABELS


@pytest.fixture(scope="module")
def student():
    return linear.model_of(STUDENT)


@pytest.fixture(scope="module")
def teacher():
    return linear.model_of(TEACHER)


def align(student, teacher, *arguments, **options):
    return evaluation.gradient_alignment(
        student, teacher, IMAGES, LABELS, *arguments, **options
    )


def assert_equals_numpy(result, teacher_exit):
    wanted = TEACHER.gradient(IMAGES, LABELS, (teacher_exit,)).reshape(7, -1)
    norm = np.linalg.norm
    for exit_ in range(2):
        own = STUDENT.gradient(IMAGES, LABELS, (exit_,)).reshape(7, -1)
        cosine = (
            (own * wanted).sum(1) / norm(own, axis=1) / norm(wanted, axis=1)
        )
        for received, expected in (
            (result.distances, norm(own - wanted, axis=1)),
            (result.cosines, cosine),
            (result.student_norms, norm(own, axis=1)),
        ):
            arrays.close(received[:, exit_], expected, rtol=1e-3, atol=1e-5)
    arrays.close(
        result.teacher_norms, norm(wanted, axis=1), rtol=1e-3, atol=1e-5
    )
    arrays.close(
        result.mean_distance(), result.distances.mean(axis=0), rtol=1e-6
    )
    arrays.close(result.mean_cosine(), result.cosines.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 4, 256])
def test_the_numbers_are_those_of_numpy(student, teacher, batch_size):
    result = align(student, teacher, batch_size=batch_size)
    assert result.exit_names == ("exit_1", "exit_2")
    assert_equals_numpy(result, teacher_exit=2)


@pytest.mark.parametrize(("exit_", "index"), [(0, 0), ("exit_2", 1)])
def test_an_exit_of_a_teacher_is_named_or_counted(
    student, teacher, exit_, index
):
    assert_equals_numpy(align(student, teacher, exit_), index)


def test_a_teacher_may_be_any_keras_model(student, teacher):
    outputs = [teacher.exit_model(name).output for name in teacher.exit_names]
    single = keras.Model(teacher.input, outputs[1])
    assert_equals_numpy(align(student, single), 1)
    outputs = dict(zip(("one", "two", "three"), outputs, strict=True))
    several = keras.Model(teacher.input, outputs)
    assert_equals_numpy(align(student, several, "two"), 1)
    with pytest.raises(ValueError, match="expected a name, one of .*'two'"):
        align(student, several)


class Subclassed(keras.Model):
    """A teacher without a graph, with state that must not change."""

    def __init__(self):
        super().__init__()
        self.norm = keras.layers.BatchNormalization()
        self.flatten = keras.layers.Flatten()
        self.head = keras.layers.Dense(linear.NUM_CLASSES)

    def call(self, images, training=False):
        return self.head(self.flatten(self.norm(images, training=training)))


def test_a_teacher_without_a_graph_is_built_first(student):
    teacher = Subclassed()
    with pytest.raises(ValueError, match="is not built"):
        align(student, teacher)
    teacher(IMAGES)
    before = [tiny.array(each) for each in teacher.variables]
    result = align(student, teacher)
    assert np.isfinite(result.distances).all()
    tiny.assert_equal_states(teacher.variables, before)


def test_a_model_is_aligned_with_itself(student):
    for teacher in (student, student.exit_model("exit_2")):
        result = align(student, teacher)
        arrays.close(result.distances[:, 1], 0, atol=1e-6)
        arrays.close(result.cosines[:, 1], 1, rtol=1e-5)
        assert (result.cosines[:, 0] < 0.99).all()


def two_classes(weights, offsets=(0, 0)):
    """Return a model of two equal exits on one pixel row of three."""
    weights = np.array(weights).T
    exits = linear.GivenExits([weights] * 2, [offsets] * 2)
    return linear.model_of(exits, shape=(1, 3, 1))


def test_opposite_gradients_by_hand():
    # At x = 0 both models are undecided: gradient -1/2 (w_0 - w_1).
    student = two_classes([[1, 2, 2], [0, 0, 0]])
    teacher = two_classes([[0, 0, 0], [1, 2, 2]])
    images = np.zeros((1, 1, 3, 1), "float32")
    result = evaluation.gradient_alignment(student, teacher, images, [0])
    arrays.close(result.distances, [[3, 3]], rtol=1e-6)
    arrays.close(result.cosines, [[-1, -1]], rtol=1e-6)
    arrays.close(result.student_norms, [[1.5, 1.5]], rtol=1e-6)
    arrays.close(result.teacher_norms, [1.5], rtol=1e-6)


def test_tiny_gradients_keep_their_length_and_direction():
    # The square of exp(-69), about 1e-30, is 0 in float32.
    teacher = two_classes([[0, 0, 0], [1, 2, 2]])
    student = two_classes([[0, 0, 0], [1, 2, 2]], offsets=(69, 0))
    images = np.zeros((1, 1, 3, 1), "float32")
    result = evaluation.gradient_alignment(student, teacher, images, [0])
    arrays.close(result.student_norms, [[3 * np.exp(-69)] * 2], rtol=1e-4)
    arrays.close(result.cosines, [[1, 1]], rtol=1e-5)


def test_a_gradient_of_zero_has_no_cosine():
    flat = two_classes(np.zeros((2, 3)))
    other = two_classes([[1, 2, 2], [0, 0, 0]])
    images = np.zeros((2, 1, 3, 1), "float32")
    for student, teacher in ((flat, other), (other, flat)):
        result = evaluation.gradient_alignment(student, teacher, images, [0, 1])
        assert np.isnan(result.cosines).all()
        assert np.isnan(result.mean_cosine()).all()
        arrays.close(result.mean_distance(), 1.5, rtol=1e-6)


def test_the_mean_leaves_out_images_without_a_cosine():
    cosines = np.array([[0.5, np.nan], [np.nan, np.nan], [1.0, np.nan]])
    result = evaluation.GradientAlignmentResult(
        ("exit_1", "exit_2"), cosines, cosines, cosines, cosines[:, 0]
    )
    arrays.equal(result.mean_cosine(), [0.75, np.nan])


def dense(units):
    layers = [keras.layers.Flatten(), keras.layers.Dense(units)]
    return keras.Sequential([keras.Input(linear.SHAPE), *layers])


def test_a_teacher_that_does_not_fit_is_refused(student):
    message = r"expected logits of shape \(batch, 5\), received \(1, 6\)"
    with pytest.raises(ValueError, match=message):
        align(student, dense(6))


def test_broken_gradients_are_an_error(student):
    teacher = dense(5)
    teacher.set_weights([each * np.nan for each in teacher.get_weights()])
    with pytest.raises(ValueError, match="infinite gradients for 7 of 7"):
        align(student, teacher)
