"""TRADES: its inner loss, and what it asks of the attack."""

import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd import losses
from keras_neokd import methods
from tests import arrays
from tests.methods import crafting
from tests.reference import equations as reference
from tests.training import tiny


def divergence(images, exits=(0, 1, 2)):
    clean = crafting.STUDENT.logits(crafting.IMAGES.astype("float64"))
    values = reference.kl_of_logits(clean, crafting.STUDENT.logits(images))
    return values[:, list(exits)].mean(axis=1)


@pytest.mark.parametrize("exits", [None, (0, 2)])
def test_the_attack_climbs_the_divergence_from_a_small_normal_start(exits):
    method = methods.TRADES()
    attack = attacks.PGD(
        crafting.EPSILON,
        crafting.STEP_SIZE,
        1,
        objective=attacks.AverageExits(exits),
    )
    found = crafting.craft(method, attack, crafting.context(method))
    start = crafting.normal_start()
    expected = crafting.ascend(
        lambda images: divergence(images, exits or (0, 1, 2)), start
    )
    arrays.close(found, expected, atol=1e-5)


def test_max_average_compares_its_candidates_by_the_divergence():
    method = methods.TRADES()
    pgd = attacks.PGD(crafting.EPSILON, crafting.STEP_SIZE, 1)
    given = crafting.context(method)
    found = crafting.craft(method, attacks.MaxAverage(pgd), given)
    keys = arrays.tensor(crafting.KEYS, "int32")
    scores = []
    for exit_ in range(3):
        # The candidates one by one, with the random numbers they have there.
        alone = methods.TRADES().training_attack(
            attacks.MaxAverage(pgd, exits=(exit_,)), given
        )
        candidate, _ = alone.generate(
            given.predict, given.images, given.labels, keys
        )
        scores.append(divergence(tiny.array(candidate).astype("float64")))
    arrays.close(
        divergence(found.astype("float64")), np.max(scores, axis=0), atol=1e-5
    )


def test_equal_predictions_have_no_divergence():
    logits = arrays.tensor([[80.0, -80.0, 0.0]])
    value = losses.kl_between(logits, logits)
    arrays.close(value, [0.0], atol=1e-6)


@pytest.mark.parametrize(
    "method",
    [
        methods.TRADES(),
        methods.TEAT(8, 5),
        methods.NKD(exit_weights=tiny.GAMMA) + methods.TRADES(),
    ],
)
def test_an_attack_without_a_replaceable_loss_is_refused(method):
    images, _ = tiny.data()
    with pytest.raises(TypeError, match="loss can be replaced.*GivenImages"):
        tiny.compiled(
            tiny.dense_model(), method=method, attack=tiny.GivenImages(images)
        )


@pytest.mark.parametrize(
    "other",
    [methods.TRADES(), methods.TEAT(8, 5), methods.TEAT(8, 5, "trades")],
)
def test_two_inner_losses_do_not_add_up(other):
    with pytest.raises(ValueError, match="TEAT.*TRADES|different names"):
        methods.TEAT(8, 5) + methods.NKD() + other
