"""The contract of attacks that search: attempts, rounds, what is kept."""

import numpy as np
from keras import ops

from keras_neokd import attacks
from keras_neokd.attacks import search
from keras_neokd.attacks import targets
from tests import arrays
from tests.attacks import running


class Counting(search.SearchAttack):
    """Paints an image with the number of its attempt and round.

    An image is fooled as soon as the number reaches a hundredth of its label.
    """

    def __init__(self, num_restarts=3, objective=None):
        super().__init__(1.0, "linf", objective, num_restarts)

    def num_rounds(self):
        return 2

    def start(self, problem, attempt):
        number = ops.cast(attempt, "float32") / 10.0
        return {
            **search.fresh_state(problem.images),
            "images": 0.0 * problem.images + number,
        }

    def advance(self, problem, round_, state):
        images = state["images"] + 0.01
        needed = ops.cast(problem.labels, "float32") / 100.0 - 0.001
        fooled = ops.all(images[:, 0, 0] > needed[:, None], axis=1)
        return {
            **state,
            **search.keep_fooled(state, images, fooled),
            "images": images,
        }


def undecided(images, exits):
    """A model whose 31 logits are all zero."""
    flat = 0.0 * ops.reshape(images, (-1, 24))[:, :1]
    return [ops.concatenate([flat] * 31, axis=1) for _ in exits]


undecided.num_exits = 1


def test_an_image_keeps_what_the_first_round_found_that_fooled_it():
    # Attempts begin at 0.0, 0.1 and 0.2, and rounds add 0.01.
    attack = Counting(objective=running.NeverFooled())
    images = np.full((5, *running.SHAPE), 0.9, "float32")
    received = running.attacker(attack, undecided)(images, [1, 2, 3, 12, 30])
    arrays.close(received[:, 0, 0, 0], [0.01, 0.02, 0.11, 0.12, 0.9], atol=1e-6)
    assert (received == received[:, :1, :1, :1]).all()


def test_an_image_that_is_misclassified_already_comes_back_clean():
    # Of equal logits the first is the prediction: only label 0 is right.
    images = np.full((2, *running.SHAPE), 0.9, "float32")
    received = running.attacker(Counting(), undecided)(images, [0, 1])
    arrays.close(received[:, 0, 0, 0], [0.01, 0.9], atol=1e-6)


def test_info_says_which_images_are_fooled():
    predict = attacks.ExitLogits(undecided, 1)
    images = np.full((3, *running.SHAPE), 0.9, "float32")
    attack = Counting(objective=running.NeverFooled())
    _, info = attack.generate(predict, *running.tensors(images, [1, 30, 2]))
    arrays.equal(info["fooled"], [[1], [0], [1]])


def test_later_images_replace_earlier_ones_within_a_round():
    state = {
        "adversarial": arrays.tensor([[1.0], [2.0], [3.0]]),
        "fooled": ops.convert_to_tensor([True, True, False]),
    }
    new = search.keep_fooled(
        state,
        arrays.tensor([[-1.0], [-2.0], [-3.0]]),
        ops.convert_to_tensor([True, False, False]),
    )
    new = {name: ops.convert_to_numpy(each) for name, each in new.items()}
    assert new["adversarial"].ravel().tolist() == [-1, 2, 3]
    assert new["fooled"].tolist() == [True, True, False]
    assert new["active"].tolist() == [False, False, True]


def test_classes_are_ranked_by_the_mean_softmax_over_the_exits():
    # Means: 0.45, 0.26 and 0.29.
    predictions = ([[0.6, 0.02, 0.38]], [[0.3, 0.5, 0.2]])
    logits = tuple(arrays.tensor(np.log(each)) for each in predictions)
    # The true class comes last.
    for label, expected in ((0, [2, 1, 0]), (1, [0, 2, 1]), (2, [0, 1, 2])):
        labels = ops.convert_to_tensor([label])
        ranked = [
            int(targets.likely_class(logits, labels, rank)[0])
            for rank in range(3)
        ]
        assert ranked == expected


def test_classes_whose_probability_is_zero_in_float32_keep_their_order():
    row = [500.0, 0.0, 200.0, 100.0, 201.0]
    logits = (ops.convert_to_tensor([row]), ops.convert_to_tensor([row]))
    labels = ops.convert_to_tensor([0])
    ranked = [
        int(targets.likely_class(logits, labels, rank)[0]) for rank in range(5)
    ]
    assert ranked == [4, 2, 3, 1, 0]


def test_softmax_and_mean_logits_rank_differently():
    # A class that one exit excludes and the other is sure of.
    first, second = [[0.0, -20.0, 1.0]], [[0.0, 4.0, 1.0]]
    logits = tuple(ops.convert_to_tensor(each) for each in (first, second))
    label = ops.convert_to_tensor([0])
    assert int(targets.likely_class(logits, label, 0)[0]) == 1
    combined = attacks.AverageExits().combined_logits(logits)
    assert int(ops.argmax(combined[0, 1:])) + 1 == 2
