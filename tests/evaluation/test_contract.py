"""Rules for every measurement: the model stays, bad data are refused."""

import keras
import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd import evaluation
from tests.training import tiny

IMAGES, LABELS = tiny.data(21)


def certify(*data, **options):
    draws = {"num_selection": 5, "num_estimation": 20}
    return evaluation.certify(*data, sigma=0.4, **draws, **options)


def gradient_alignment(model, *data, seed=0, **options):
    if seed:
        pytest.skip("Nothing is drawn at random.")
    teacher = tiny.dense_model()
    return evaluation.gradient_alignment(model, teacher, *data, **options)


def local_linearity(*data, **options):
    return evaluation.local_linearity(*data, 0.1, num_steps=2, **options)


def anytime(*data, **options):
    return evaluation.anytime(*data, tiny.pgd(2), **options)


def search(*data, **options):
    return evaluation.search(*data, attacks.Square(0.1, 2), **options)


for_every_measurement = pytest.mark.parametrize(
    "measure", [anytime, certify, gradient_alignment, local_linearity, search]
)


@for_every_measurement
def test_the_model_stays_as_it_was(measure):
    model = tiny.dense_model(norm=True, dropout=0.5)
    before = tiny.snapshot(model)
    measure(model, IMAGES, LABELS)
    tiny.assert_equal_states(before, tiny.snapshot(model))


@for_every_measurement
def test_a_model_that_gives_nan_is_an_error(measure):
    model = tiny.dense_model()
    model.set_weights([each * np.nan for each in model.get_weights()])
    with pytest.raises(
        ValueError,
        match="infinite (logits|losses|gradients) for "
        "(21 of 21 images|image 0)",
    ):
        measure(model, IMAGES, LABELS)


@for_every_measurement
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": IMAGES + 1}, r"pixels in \[0, 1\]"),
        ({"images": IMAGES * np.nan}, "finite pixels"),
        ({"images": IMAGES[:, :4]}, r"\(batch, 8, 8, 1\)"),
        ({"images": IMAGES[:0], "labels": LABELS[:0]}, "no images"),
        ({"labels": LABELS + 8}, "class indices from 0 to 7"),
        ({"labels": LABELS[:5]}, "21 images and 5 labels"),
        ({"labels": None}, "Labels are needed"),
        ({"batch_size": 0}, "`batch_size` needs an integer >= 1"),
        ({"seed": -1}, "`seed` needs an integer"),
    ],
)
def test_bad_data_and_numbers_are_refused_in_words(measure, arguments, message):
    given = {"images": IMAGES, "labels": LABELS, **arguments}
    data = given.pop("images"), given.pop("labels")
    with pytest.raises(ValueError, match=message):
        measure(tiny.dense_model(), *data, **given)


@for_every_measurement
def test_only_multi_exit_models_are_measured(measure):
    model = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Flatten()])
    with pytest.raises(TypeError, match="Only a MultiExitModel"):
        measure(model, IMAGES, LABELS)
