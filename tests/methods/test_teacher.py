"""Teachers: any Keras model, one of several outputs, what is refused."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_neokd.methods.teacher import Teacher
from tests import arrays
from tests.methods import teachers
from tests.training import tiny

IMAGES, LABELS = map(ops.convert_to_tensor, tiny.data())


@pytest.mark.parametrize(
    ("kind", "exit_", "seed"),
    [
        ("one", -1, 1),
        ("list", -1, 2),
        ("list", 0, 1),
        ("dict", "early", 1),
        ("dict", "late", 2),
        ("exits", -1, 2),
        ("exits", 0, 1),
        ("exits", "exit_1", 1),
        ("exits", "exit_2", 2),
    ],
)
def test_one_of_several_outputs_teaches(kind, exit_, seed):
    found = Teacher(teachers.network(kind), exit_)
    found.check(tiny.dense_model())
    expected = teachers.single(seed=seed)
    arrays.close(found.logits(IMAGES), expected(IMAGES), rtol=1e-6)
    plain = Teacher(expected).input_gradient(IMAGES, LABELS)
    gradient = found.input_gradient(IMAGES, LABELS)
    arrays.close(gradient, plain, rtol=1e-4, atol=1e-7)
    assert np.abs(arrays.array(gradient)).max() > 1e-3


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: "teacher.keras", TypeError, "needs a keras.Model.*load_model"),
        (lambda: len, TypeError, "`teacher` needs a keras.Model"),
        (lambda: layers.Dense(8), TypeError, "of type Dense"),
        (lambda: keras.Sequential(), ValueError, "is not built"),
        (lambda: keras.Sequential([layers.Dense(8)]), ValueError, "not built"),
        (
            lambda: teachers.single(units=9),
            ValueError,
            r"expected logits of shape \(batch, 8\), received \(1, 9\)",
        ),
        (
            lambda: teachers.single(shape=(9, 8, 1)),
            ValueError,
            r"expected input shape \(batch, 8, 8, 1\), received.*9, 8, 1",
        ),
        (
            lambda: teachers.single(activation="softmax"),
            ValueError,
            "returns probabilities",
        ),
        (
            lambda: teachers.single(activation="sigmoid"),
            ValueError,
            "returns probabilities.*without the last sigmoid",
        ),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(make, error, message):
    with pytest.raises(error, match=message):
        Teacher(make()).check(tiny.dense_model())


@pytest.mark.parametrize(
    ("kind", "exit_", "message"),
    [
        ("list", 2, "an index from 0 to 1"),
        ("list", "exit_1", "an index from 0 to 1"),
        ("dict", -1, "expected a name, one of.*'early'.*'late'"),
        ("exits", 2, "no exit 2"),
        ("exits", "late", "has no exit 'late'"),
        ("one", 1, "has one output.*leave it at -1"),
    ],
)
def test_an_exit_that_the_teacher_lacks_is_refused(kind, exit_, message):
    with pytest.raises(ValueError, match=message):
        Teacher(teachers.network(kind), exit_).check(tiny.dense_model())
