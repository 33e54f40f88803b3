"""The max-average attack (Eq. 2) against brute force in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import attacks
from tests import arrays
from tests.attacks import running
from tests.reference import equations as reference

LABELS = running.LABELS


def three_exits():
    return reference.LinearExits(3, running.SHAPE, num_classes=5)


def some_images():
    return running.some_images(seed=9)


def pgd_of(**arguments):
    defaults = {"epsilon": 0.15, "step_size": 0.04, "num_steps": 4}
    return attacks.PGD(**{**defaults, **arguments})


def attacker(attack, model):
    """Return a function to images and shares."""
    return running.quick_attacker(attack, model, "selected_share")


def candidates_of(pgd, model, images, labels, exits, seed=0):
    """One candidate per exit, each from its own start, in plain NumPy."""
    iterates = (
        running.iterates_of(pgd, model, images, labels, (i,), i, 0, seed=seed)
        for i in exits
    )
    return [each[-1] for each in iterates]


def choose(model, candidates, labels, exits):
    """Per example the candidate with the largest mean cross-entropy."""
    scores = [model.score(each, labels, exits) for each in candidates]
    winners = np.argmax(scores, axis=0)
    chosen = [candidates[winner][i] for i, winner in enumerate(winners)]
    return np.array(chosen), winners


@pytest.mark.parametrize(
    ("pgd", "exits"),
    [
        (pgd_of(), None),
        (pgd_of(), (2, 1)),
        (pgd_of(), (1,)),
        (pgd_of(), (-1, 0)),
        (pgd_of(random_start=False), None),
        (pgd_of(epsilon=0.6, step_size=0.2, norm="l2"), None),
        (pgd_of(objective=attacks.AverageExits(loss="margin")), None),
    ],
    ids=["linf", "two", "one", "negative", "clean start", "l2", "margin"],
)
def test_each_image_keeps_the_candidate_that_hurts_all_exits_most(pgd, exits):
    model, images = three_exits(), some_images()
    indices = tuple(i % 3 for i in exits or (0, 1, 2))
    expected, winners = choose(
        model,
        candidates_of(pgd, model, images, LABELS, indices, seed=4),
        LABELS,
        indices,
    )
    if exits is None:
        assert len(set(winners)) > 1
    adversarial, share = attacker(attacks.MaxAverage(pgd, exits), model)(
        images, LABELS, seed=4
    )
    arrays.close(adversarial, expected, atol=1e-5)
    arrays.equal(share, np.eye(len(indices))[winners])


def test_of_equal_candidates_the_first_wins():
    class EqualExits(reference.LinearExits):
        def __call__(self, images, exits):
            return super().__call__(images, (0,) * len(exits))

    model = EqualExits(3, running.SHAPE, num_classes=5)
    attack = attacks.MaxAverage(pgd_of(random_start=False), exits=(1, 2, 0))
    adversarial, share = attacker(attack, model)(some_images(), LABELS)
    single, _ = choose(
        model,
        candidates_of(attack.attack, model, some_images(), LABELS, (0,)),
        LABELS,
        (0,),
    )
    arrays.equal(share, np.eye(3)[np.zeros(8, int)])
    arrays.close(adversarial, single, atol=1e-5)


def test_of_different_candidates_with_equal_losses_the_first_wins():
    # Constant logits: every candidate is its own random start.
    def constant(images, exits):
        still = ops.sum(0.0 * images, axis=(1, 2, 3))
        return [ops.stack([still, still], axis=1) for _ in exits]

    constant.num_exits = 3
    images, labels = some_images(), np.zeros(8, "int32")
    pgd = pgd_of(num_steps=1)
    adversarial, share = attacker(
        attacks.MaxAverage(pgd, exits=(1, 2, 0)), constant
    )(images, labels)
    keys = reference.bits(reference.bits(0, np.arange(8)), 1)
    first = reference.random_start(
        images.astype("float64"), reference.bits(keys, 0), 0.15, "linf"
    )
    arrays.close(adversarial, first, atol=1e-6)
    arrays.equal(share, np.eye(3)[np.zeros(8, int)])


@pytest.mark.parametrize(
    "attack",
    [
        attacks.PGD(0, 0.1, 4, num_restarts=2),
        attacks.PGD(0, 0.1, 4, "l2", num_restarts=2),
        attacks.MaxAverage(pgd_of(epsilon=0)),
    ],
)
def test_epsilon_zero_returns_the_clean_images(attack):
    images = some_images()
    attacked = running.quick_attacker(attack, three_exits())
    arrays.equal(attacked(images, LABELS), images)


@pytest.mark.parametrize("exits", [None, (2, 0)])
def test_gradients_need_one_exit_and_scores_the_chosen_ones(exits):
    model = three_exits()
    attack = attacks.MaxAverage(pgd_of(), exits)
    attacker(attack, model)(some_images(), LABELS)
    chosen = (0, 1, 2) if exits is None else exits
    assert set(model.calls) == {chosen, *((i,) for i in chosen)}
    assert model.calls.count(chosen) == 1


def test_tracing_does_not_grow_with_the_number_of_steps():
    calls = {}
    for num_steps in (2, 20):
        attack = attacks.MaxAverage(pgd_of(num_steps=num_steps))
        calls[num_steps] = running.calls_of_tracing(
            attack, three_exits(), some_images(), LABELS
        )
    if keras.config.backend() == "torch":
        # PyTorch runs eagerly: L single attacks, and their scores.
        assert calls == {2: 3 * 2 + 1, 20: 3 * 20 + 1}
    else:
        assert calls[20] == calls[2] <= 12


def test_shares_belong_to_the_attacked_exits():
    assert attacks.MaxAverage(pgd_of()).logged(3) == {
        "selected_share": (0, 1, 2)
    }
    assert attacks.MaxAverage(pgd_of(), exits=(-1, 0)).logged(3) == {
        "selected_share": (2, 0)
    }
    assert pgd_of().logged(3) == {}
