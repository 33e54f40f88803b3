"""Anytime accuracy: against `model.evaluate`, NumPy and scikit-learn."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import attacks
from keras_neokd import evaluation
from tests import arrays
from tests.refusals import bad
from tests.training import tiny

IMAGES, LABELS = tiny.data(21)


@pytest.fixture(scope="module")
def model():
    """A model with everything that differs between training and inference."""
    model = tiny.dense_model(norm=True, dropout=0.5)
    return tiny.compiled(
        model,
        validation_attack=start_free_pgd(),
        metrics=[keras.metrics.SparseTopKCategoricalAccuracy(3, name="top_3")],
    )


def start_free_pgd():
    return tiny.pgd(2, random_start=False)


def anytime(model, **arguments):
    return evaluation.anytime(
        model, IMAGES, LABELS, **{"batch_size": 8, **arguments}
    )


@pytest.fixture(scope="module")
def evaluator(model):
    return evaluation.Evaluator(model, batch_size=8)


@pytest.fixture(scope="module")
def clean(evaluator):
    return evaluator.anytime(IMAGES, LABELS)


@pytest.fixture(scope="module")
def attacked(model):
    return anytime(model, attack=start_free_pgd())


def test_accuracy_equals_that_of_evaluate(model, clean, attacked):
    logs = tiny.evaluate(model, IMAGES, LABELS, batch_size=8)
    assert clean.exit_names == tiny.NAMES
    for kind, result in (("clean", clean), ("adversarial", attacked)):
        for k, metric in ((1, "accuracy"), (3, "top_3")):
            expected = [logs[f"{name}_{kind}_{metric}"] for name in tiny.NAMES]
            arrays.close(result.accuracy(k), expected, atol=1e-6)
        assert result.accuracy().mean() == pytest.approx(
            logs[f"{kind}_accuracy"], abs=1e-6
        )
    assert attacked.accuracy().mean() < clean.accuracy().mean()


def test_ranks_equal_a_sort_of_the_predictions(model, clean):
    predictions = model.predict(IMAGES, verbose=0)
    for i, name in enumerate(tiny.NAMES):
        order = np.argsort(-predictions[name], axis=1)
        ranks = np.argmax(order == LABELS[:, None], axis=1)
        arrays.equal(clean.ranks[:, i], ranks)
    assert clean.num_classes == 8
    assert clean.info == {}


@pytest.mark.parametrize("k", [1, 2, 5, 7])
def test_top_k_accuracy_equals_scikit_learn(model, clean, k):
    metrics = pytest.importorskip("sklearn.metrics")
    predictions = model.predict(IMAGES, verbose=0)
    expected = [
        metrics.top_k_accuracy_score(
            LABELS, predictions[name], k=k, labels=np.arange(8)
        )
        for name in tiny.NAMES
    ]
    arrays.close(clean.accuracy(k), expected)


@pytest.mark.parametrize("k", [8, 9])
def test_as_many_guesses_as_classes_say_nothing(clean, k):
    with pytest.raises(ValueError, match=rf"Top-{k} accuracy of 8 classes"):
        clean.accuracy(k)


@pytest.mark.parametrize(("k", "error"), [(0, ValueError), (1.5, TypeError)])
def test_k_is_a_positive_integer(clean, k, error):
    with pytest.raises(error, match="`k` needs an integer"):
        clean.accuracy(k)


class Answers(keras.layers.Layer):
    """Answers with fixed logits, chosen by the first pixel of the image."""

    def __init__(self, table, **arguments):
        super().__init__(**arguments)
        self.table = np.asarray(table, "float32")

    def call(self, images):
        row = ops.cast(images[:, 0, 0, 0] * len(self.table), "int32")
        return ops.take(ops.convert_to_tensor(self.table), row, axis=0)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.table.shape[1])


@pytest.fixture
def answering():
    """Build a model from one table of logits per exit, and its images."""

    def build(*tables):
        inputs = keras.Input((2, 2, 1))
        model = tiny.MultiExitModel(
            inputs, [Answers(table)(inputs) for table in tables]
        )
        count = len(tables[0])
        images = np.zeros((count, 2, 2, 1), "float32")
        images[:, 0, 0, 0] = (np.arange(count) + 0.5) / count
        return model, images

    return build


def test_ties_count_as_argmax_counts_them(answering):
    tied = [[1, 1, 1, 0], [0, 1, 1, 1]]
    model, images = answering(tied, tied)
    for label, ranks in ((0, [0, 3]), (1, [1, 0]), (2, [2, 1]), (3, [3, 2])):
        result = evaluation.anytime(model, images, [label] * 2)
        arrays.equal(result.ranks[:, 0], ranks)
        expected = np.argmax(tied, axis=1) == label
        assert result.accuracy()[0] == expected.mean()
    # Constant logits: nobody gets a class for free.
    model, images = answering([[0, 0, 0, 0]] * 4, [[0, 0, 0, 0]] * 4)
    result = evaluation.anytime(model, images, np.arange(4))
    arrays.equal(result.accuracy(), [0.25, 0.25])
    arrays.equal(result.accuracy(3), [0.75, 0.75])


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_broken_logits_of_any_class_and_exit_are_an_error(answering, broken):
    good = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    bad = [[1, 0, 0], [0, 1, 0], [0, broken, 1]]
    model, images = answering(good, bad)
    message = "returned NaN or infinite logits for 1 of 3 images"
    for labels in ([0, 1, 2], [0, 1, 1], [0, 1, 0]):
        with pytest.raises(ValueError, match=message):
            evaluation.anytime(model, images, labels)


@pytest.mark.parametrize("batch_size", [1, 8, 20, 21, 256])
def test_every_image_is_counted_whatever_the_batch_size(
    model, clean, batch_size
):
    result = anytime(model, batch_size=batch_size)
    assert result.ranks.shape == (21, 3)
    arrays.equal(result.ranks, clean.ranks)


def test_attacks_do_not_depend_on_the_batch_size(model):
    attack = attacks.MaxAverage(tiny.pgd(2))
    arguments = {"attack": attack, "seed": 3}
    small, large = (
        evaluation.adversarial_images(
            model, IMAGES, LABELS, batch_size=size, **arguments
        )
        for size in (8, 21)
    )
    assert small.shape == IMAGES.shape
    # Float32 rounding may differ between batch sizes, and so flip a sign.
    same = np.abs(small - large).reshape(21, -1).max(axis=1) < 1e-6
    assert same.mean() > 0.9
    result = anytime(model, **arguments)
    share = result.info["selected_share"]
    assert share.shape == (21, 3)
    arrays.equal(share.sum(axis=1), 1)


def test_noise_is_that_of_seed_and_position(model):
    evaluator = evaluation.Evaluator(model, tiny.NoiseImages(), batch_size=8)
    first, again, other = (
        evaluator.anytime(IMAGES, LABELS, seed).info["noise"]
        for seed in (0, 0, 1)
    )
    arrays.equal(first, again)
    assert len(np.unique(first)) == 21
    assert np.abs(first - other).min() > 0
    alone = anytime(model, attack=tiny.NoiseImages(), batch_size=21)
    arrays.equal(first, alone.info["noise"])


def test_crafted_images_are_the_ones_that_are_scored(model, attacked):
    crafted = evaluation.adversarial_images(
        model, IMAGES, LABELS, start_free_pgd(), 8
    )
    assert np.abs(crafted - IMAGES).max() <= 0.1 + 1e-6
    result = evaluation.anytime(model, crafted, LABELS, batch_size=8)
    arrays.equal(result.ranks, attacked.ranks)


def test_new_weights_are_seen_without_a_new_model(model, clean, evaluator):
    before = model.get_weights()
    model.set_weights([np.zeros_like(each) for each in before])
    # Equal logits everywhere: class 0 is the answer.
    for found in (anytime(model), evaluator.anytime(IMAGES, LABELS)):
        arrays.close(found.accuracy(), (LABELS == 0).mean())
    model.set_weights(before)
    arrays.equal(anytime(model).accuracy(), clean.accuracy())


@pytest.mark.parametrize(
    ("images", "labels"),
    [
        (IMAGES, LABELS.tolist()),
        (IMAGES, LABELS[:, None]),
        (IMAGES, np.eye(8)[LABELS]),
        (IMAGES.astype("float64"), LABELS),
    ],
    ids=["list", "column", "one_hot", "float64"],
)
def test_all_forms_of_data_are_the_same(evaluator, clean, images, labels):
    arrays.equal(evaluator.anytime(images, labels).ranks, clean.ranks)


def test_epsilon_0_is_allowed_and_clean(model, clean):
    result = anytime(model, attack=attacks.PGD(0.0, 0.1, 1))
    arrays.equal(result.ranks, clean.ranks)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        bad("does not say how strong", attack="pgd"),
        bad("`attack` needs", TypeError, attack=0.1),
        bad(
            "Exit index 7 does not exist",
            attack=tiny.pgd(objective=attacks.SingleExit(7)),
        ),
    ],
)
def test_attacks_that_do_not_fit_are_refused(model, arguments, error, message):
    with pytest.raises(error, match=message):
        anytime(model, **arguments)


def test_crafting_needs_an_attack(model):
    with pytest.raises(TypeError, match="`attack` needs"):
        evaluation.adversarial_images(model, IMAGES, LABELS, None)


def test_its_name_until_version_0_1_still_works():
    assert evaluation.craft is evaluation.adversarial_images
    assert evaluation.Evaluator.craft is evaluation.Evaluator.adversarial_images
