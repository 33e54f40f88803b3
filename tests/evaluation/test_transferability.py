"""Transferability: golden maps by hand, several starts, other models."""

import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd import evaluation
from tests import arrays
from tests.evaluation import linear

# Two pixels a and b, two classes. An exit sees class 1 where weight . (a, b)
# exceeds a bound; PGD moves each pixel that it looks at by epsilon.
A = ((1, 0), 0.5)
B = ((0, 1), 0.5)
BOTH = ((1, 1), 1.0)
IMAGES = np.array(
    [[0.6, 0.65], [0.9, 0.6], [0.6, 0.55], [0.35, 0.4], [0.9, 0.4]], "float32"
).reshape(-1, 1, 2, 1)
LABELS = np.array([1, 1, 1, 0, 1])
PGD = attacks.PGD(0.2, 0.05, 8, random_start=False)


def seeing(*exits):
    """Return the model of some exits such as `A`."""
    weights = [np.stack([np.zeros(2), weight], axis=1) for weight, _ in exits]
    offsets = [(0.0, -bound) for _, bound in exits]
    return linear.model_of(linear.GivenExits(weights, offsets), (1, 2, 1))


@pytest.fixture(scope="module")
def model():
    return seeing(A, B, BOTH)


def test_the_map_of_three_exits_by_hand(model):
    result = evaluation.transferability(model, IMAGES, LABELS, PGD)
    # The last image is wrong at exit 2 already, and does not count.
    assert result.num_examples == 4
    assert result.sources == result.targets == model.exit_names
    expected = [
        # a falls to 0.4, 0.7 and 0.4, and rises to 0.55.
        [3 / 4, 0, 1 / 4],
        # b falls to 0.45, 0.4 and 0.35, and rises to 0.6.
        [0, 4 / 4, 1 / 4],
        [3 / 4, 4 / 4, 3 / 4],
    ]
    arrays.close(result.matrix, expected)
    assert result.off_diagonal_mean() == pytest.approx(2.25 / 6)
    # The mean of the three sigmoids, worked out for the same images.
    arrays.close(result.ensemble, [1 / 4, 1 / 4, 3 / 4])


def test_the_loss_of_the_attack_stays(model):
    # A loss that grows where the answer is right does no harm.
    def helpful(logits, labels, exit):
        return -attacks.SingleExit(0, loss="margin")((logits,), labels)

    attack = PGD.with_objective(attacks.AverageExits(loss=helpful))
    result = evaluation.transferability(model, IMAGES, LABELS, attack)
    arrays.equal(result.matrix, np.zeros((3, 3)))


def test_an_image_counts_where_any_start_fools():
    model, exits = seeing(A, B), np.array([(1, 0, 0.5), (0, 1, 0.5)])
    weak = attacks.PGD(0.2, 0.01, 1)
    kept, labels = IMAGES[:4], LABELS[:4]

    def fooled(exit_, start):
        attack = weak.with_objective(attacks.SingleExit(exit_))
        crafted = evaluation.adversarial_images(
            model, kept, labels, attack, seed=7 + start
        )
        seen = crafted.reshape(-1, 2) @ exits[:, :2].T > exits[:, 2]
        return seen != labels[:, None]

    starts = np.array([[fooled(i, start) for i in (0, 1)] for start in (0, 1)])
    expected = starts.any(axis=0).mean(axis=1)
    assert (expected != starts[0].mean(axis=1)).any()
    result = evaluation.transferability(model, kept, labels, weak, 2, seed=7)
    arrays.close(result.matrix, expected)


def test_a_subset_is_drawn_from_the_seed():
    model = seeing(A, B)
    many = np.concatenate([IMAGES] * 5)
    labels = np.tile(LABELS, 5)
    first, again, other = (
        evaluation.transferability(
            model, many, labels, PGD, subset=7, seed=seed
        )
        for seed in (0, 0, 1)
    )
    assert first.num_examples == other.num_examples == 7
    arrays.equal(first.matrix, again.matrix)
    assert (first.matrix != other.matrix).any()


def test_a_subset_larger_than_there_are_images_is_all_of_them():
    result = evaluation.transferability(
        seeing(A), IMAGES, LABELS, PGD, subset=1000
    )
    assert result.num_examples == 5


@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS[:, None], np.eye(2)[LABELS]],
    ids=["indices", "column", "one_hot"],
)
def test_a_single_exit_transfers_nowhere_whatever_the_labels(labels):
    result = evaluation.transferability(seeing(A), IMAGES, labels, PGD)
    arrays.close(result.matrix, [[3 / 5]])
    with pytest.raises(ValueError, match="expected two exits or models"):
        result.off_diagonal_mean()


def test_the_map_of_two_models_by_hand():
    models = {"one pixel": seeing(A, ((1, 0), 0.39)), "both": seeing(BOTH)}
    result = evaluation.transfer_between(models, IMAGES, LABELS, PGD)
    assert result.num_examples == 5
    assert result.sources == result.targets == ("one pixel", "both")
    # Of the five images, the first model's exits lose 3 and 1 to either
    # attack; a share is the mean of both exits.
    arrays.close(result.matrix, [[0.4, 0.2], [0.4, 0.8]])
    assert result.off_diagonal_mean() == pytest.approx(0.3)


def test_only_images_that_all_models_get_right_count():
    models = {"a": seeing(A), "b": seeing(B)}
    result = evaluation.transfer_between(models, IMAGES, LABELS, PGD)
    assert result.num_examples == 4
    arrays.close(result.matrix, [[3 / 4, 0], [0, 1]])


def test_no_image_that_is_right_everywhere(model):
    with pytest.raises(ValueError, match="No image is classified correctly"):
        evaluation.transferability(model, IMAGES, 1 - LABELS, PGD)


@pytest.mark.parametrize("attack", [attacks.UniformNoise(0.1), None])
def test_an_attack_that_cannot_be_aimed(model, attack):
    with pytest.raises(
        TypeError, match="can be aimed at one exit|received None"
    ):
        evaluation.transferability(model, IMAGES, LABELS, attack)


@pytest.mark.parametrize("name", ["num_starts", "subset"])
def test_numbers_below_one(model, name):
    with pytest.raises(ValueError, match=f"`{name}` needs an integer >= 1"):
        evaluation.transferability(model, IMAGES, LABELS, PGD, **{name: 0})
