"""The worst of several attacks: order, first success, what is refused."""

import numpy as np
import pytest
from keras import ops

from keras_neokd import attacks
from keras_neokd.base import randomness
from tests import arrays
from tests.attacks import running
from tests.reference import equations as reference

SHAPE = (2, 1, 1)


class Paint(attacks.Attack):
    """Gives all pixels of an image one grey."""

    def __init__(self, grey, epsilon=1.0):
        super().__init__(epsilon)
        self.grey = grey

    def perturb(self, predict, images, labels, keys):
        return 0.0 * images + self.grey, {}


class Noise(attacks.Attack):
    """Gives all pixels of an image a random grey."""

    def perturb(self, predict, images, labels, keys):
        drawn = randomness.uniform(keys)
        return 0.0 * images + ops.reshape(drawn, (-1, 1, 1, 1)), {}


def greys(images, exits):
    """Two exits that see class 1 in images brighter than 0.3 and than 0.6."""
    bright = ops.mean(images, axis=(1, 2, 3))
    zeros = 0.0 * bright
    exit_logits = (bright - 0.3, bright - 0.6)
    return [ops.stack([zeros, exit_logits[i]], axis=1) for i in exits]


greys.num_exits = 2


def attacked(attack, greys_of_images, labels, seed=0):
    images = np.zeros((len(labels), *SHAPE), "float32")
    images += np.reshape(greys_of_images, (-1, 1, 1, 1)).astype("float32")
    received = running.attacker(attack, greys)(images, labels, seed=seed)
    assert (received == received[:, :1]).all()
    return received[:, 0, 0, 0]


def test_an_image_keeps_what_the_first_attack_that_fooled_it_made():
    attack = attacks.WorstCase([Paint(0.5), Paint(0.7), Paint(0.8)])
    # 0.5 fools the first exit only; labels of 1 are fooled by none.
    received = attacked(attack, [0.1, 0.2, 0.95], [0, 0, 1])
    arrays.close(received, [0.7, 0.7, 0.95], atol=1e-6)


def test_success_is_that_of_the_worst_case_and_not_of_its_attacks():
    any_exit = attacks.AverageExits(success="any")
    for objective, expected in (
        (any_exit, 0.5),
        (attacks.SingleExit(0), 0.5),
        (attacks.SingleExit(1), 0.7),
        (None, 0.7),
    ):
        attack = attacks.WorstCase([Paint(0.5), Paint(0.7)], objective)
        arrays.close(attacked(attack, [0.1], [0]), [expected], atol=1e-6)


def test_an_image_that_is_misclassified_already_comes_back_clean():
    attack = attacks.WorstCase([Paint(0.7)])
    # With 0.5, one exit is still right.
    received = attacked(attack, [0.9, 0.5], [0, 0])
    arrays.close(received, [0.9, 0.7], atol=1e-6)


def test_the_ball_is_that_of_each_attack():
    attack = attacks.WorstCase([Paint(1.0, 0.1), Paint(1.0, 0.4)])
    assert attack.epsilon == 0.4
    received = attacked(attack, [0.55, 0.3], [0, 0])
    arrays.close(received, [0.65, 0.7], atol=1e-6)


def test_info_says_which_images_are_fooled():
    predict = attacks.ExitLogits(greys, 2)
    images = np.zeros((2, *SHAPE), "float32")
    attack = attacks.WorstCase([Paint(0.7)])
    _, info = attack.generate(predict, *running.tensors(images, [0, 1]))
    arrays.equal(info["fooled"], [[1], [1]])
    _, info = attack.generate(predict, *running.tensors(images + 1, [0, 1]))
    arrays.equal(info["fooled"], [[1], [0]])


def test_members_of_nested_worst_cases_are_tried_one_by_one():
    inner = attacks.WorstCase(
        [Paint(0.5), Paint(0.65)], attacks.AverageExits(success="any")
    )
    nested = attacks.WorstCase([Paint(0.2), inner, Paint(0.8)])
    assert [each.grey for each in nested.members] == [0.2, 0.5, 0.65, 0.8]
    # By its own measure, the inner one would stop at 0.5.
    arrays.close(attacked(nested, [0.1], [0]), [0.65], atol=1e-6)


def test_each_attack_has_random_numbers_of_its_own_and_one_has_those_alone():
    keys = reference.bits(4, np.arange(30))
    first = reference.uniform(reference.bits(keys, 0))
    second = reference.uniform(reference.bits(keys, 1))
    pair = np.where(first > 0.6, first, np.where(second > 0.6, second, 0.1))
    alone = reference.uniform(keys)
    for attack, expected in (
        (attacks.WorstCase([Noise(1.0), Noise(1.0)]), pair),
        (attacks.WorstCase([Noise(1.0)]), np.where(alone > 0.6, alone, 0.1)),
    ):
        received = attacked(attack, [0.1] * 30, [0] * 30, seed=4)
        arrays.close(received, expected, atol=1e-6)


def test_a_ball_of_any_size_if_one_attack_has_none():
    assert attacks.WorstCase([attacks.CW(), attacks.CW(epsilon=1)]).epsilon is (
        None
    )


@pytest.mark.parametrize(
    ("attack", "num_exits", "num_classes", "message"),
    [
        (
            attacks.WorstCase([Paint(1)], attacks.SingleExit(2)),
            2,
            10,
            "Exit index 2 does not exist",
        ),
        (
            attacks.WorstCase(
                [attacks.WorstCase([attacks.TargetedAPGD(0.1)]), Paint(1)]
            ),
            2,
            3,
            "TargetedAPGD needs at least 4 classes",
        ),
    ],
    ids=["exit", "classes"],
)
def test_models_that_do_not_fit_are_refused(
    attack, num_exits, num_classes, message
):
    with pytest.raises(ValueError, match=message):
        attack.validate(num_exits, num_classes)
    attack.validate(num_exits + 1, num_classes + 1)
