"""The max-average attack (Eq. 2) against brute force in NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.base import randomness
from tests import numpy_reference as reference

SHAPE = (4, 3, 2)
LABELS = np.array([0, 1, 2, 3, 4, 0, 1, 2])


def three_exits():
    return reference.LinearExits(3, SHAPE, num_classes=5)


def some_images(count=8):
    rng = np.random.default_rng(9)
    return rng.uniform(size=(count, *SHAPE)).astype("float32")


def pgd_of(**arguments):
    defaults = {"epsilon": 0.15, "step_size": 0.04, "num_steps": 4}
    return attacks.PGD(**{**defaults, **arguments})


def attacker(attack, model):
    """Return a function of (images, labels, index, seed) as NumPy arrays.

    It attacks with the keys of (seed, index) and returns images and shares.
    JAX needs it compiled to be fast, TensorFlow to be slow.
    """
    predict = attacks.ExitLogits(model, model.num_exits)

    def generate(images, labels, keys):
        adversarial, info = attack.generate(predict, images, labels, keys)
        return adversarial, info["selected_share"]

    if keras.config.backend() == "jax":
        generate = backend.compile_function(generate, [])

    def attacked(images, labels, index=None, seed=0):
        index = range(len(images)) if index is None else index
        results = generate(*tensors(images, labels, index, seed))
        return [ops.convert_to_numpy(each) for each in results]

    return attacked


def tensors(images, labels, index, seed):
    """Images, labels and keys."""
    keys = randomness.host_bits(seed, np.asarray(index)).view("int32")
    return (
        ops.convert_to_tensor(images),
        ops.convert_to_tensor(np.asarray(labels, "int32")),
        ops.convert_to_tensor(keys),
    )


def candidates_of(pgd, model, images, labels, exits, seed=0):
    """One candidate per exit, each from its own start, in plain NumPy."""
    candidates = []
    for exit_ in exits:
        keys = reference.bits(seed, np.arange(len(images)))
        keys = reference.bits(reference.bits(keys, exit_), 0)
        start = images.astype("float64")
        if pgd.random_start:
            start = reference.random_start(images, keys, pgd.epsilon, pgd.norm)
        iterates = reference.pgd(
            model,
            images.astype("float64"),
            labels,
            (exit_,),
            start,
            pgd.epsilon,
            pgd.step_size,
            pgd.num_steps,
            pgd.norm,
            pgd.objective.loss,
        )
        candidates.append(iterates[-1])
    return candidates


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

    np.testing.assert_allclose(adversarial, expected, atol=1e-5)
    np.testing.assert_array_equal(share, np.eye(len(indices))[winners])


def test_no_single_attack_has_a_larger_mean_loss():
    model, images = three_exits(), some_images()
    attacked = attacker(attacks.MaxAverage(pgd_of()), model)
    adversarial, _ = attacked(images, LABELS)
    reached = model.score(adversarial, LABELS, (0, 1, 2))
    for each in candidates_of(pgd_of(), model, images, LABELS, (0, 1, 2)):
        score = model.score(each, LABELS, (0, 1, 2))
        assert (reached >= score - 1e-5).all()


def test_of_equal_candidates_the_first_wins():
    class EqualExits(reference.LinearExits):
        def __call__(self, images, exits):
            return super().__call__(images, (0,) * len(exits))

    model = EqualExits(3, SHAPE, num_classes=5)
    attack = attacks.MaxAverage(pgd_of(random_start=False), exits=(1, 2, 0))
    adversarial, share = attacker(attack, model)(some_images(), LABELS)
    single, _ = choose(
        model,
        candidates_of(attack.attack, model, some_images(), LABELS, (0,)),
        LABELS,
        (0,),
    )

    np.testing.assert_array_equal(share, np.eye(3)[np.zeros(8, int)])
    np.testing.assert_allclose(adversarial, single, atol=1e-5)


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
    np.testing.assert_allclose(adversarial, first, atol=1e-6)
    np.testing.assert_array_equal(share, np.eye(3)[np.zeros(8, int)])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_images_stay_in_the_ball_and_in_the_pixel_range(norm):
    images = np.round(some_images() * 2) / 2
    attack = attacks.MaxAverage(pgd_of(norm=norm, epsilon=0.3, step_size=0.6))

    adversarial, share = attacker(attack, three_exits())(images, LABELS)

    assert attack.epsilon == 0.3 and attack.norm == norm
    assert adversarial.min() >= 0 and adversarial.max() <= 1
    change = adversarial.astype("float64") - images
    size = abs(change) if norm == "linf" else reference.lengths(change)
    assert size.max() <= 0.3 + 1e-6
    np.testing.assert_array_equal(share.sum(axis=1), np.ones(8))
    assert set(np.unique(share)) <= {0, 1}


def test_epsilon_zero_returns_the_clean_images():
    images = some_images()
    attack = attacks.MaxAverage(pgd_of(epsilon=0))
    adversarial, _ = attacker(attack, three_exits())(images, LABELS)
    np.testing.assert_array_equal(adversarial, images)


def test_attack_on_a_batch_equals_attacks_on_its_parts():
    model, images = three_exits(), some_images()
    attacked = attacker(attacks.MaxAverage(pgd_of()), model)
    whole, shares = attacked(images, LABELS)
    for part in ([0, 1, 2, 3], [7, 2, 5, 4]):
        alone, share = attacked(images[part], LABELS[part], part)
        np.testing.assert_allclose(alone, whole[part], rtol=0, atol=1e-6)
        np.testing.assert_array_equal(share, shares[part])


# Cost.


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
        model = three_exits()
        attack = attacks.MaxAverage(pgd_of(num_steps=num_steps))
        predict = attacks.ExitLogits(model, 3)

        def generate(*arguments, attack=attack, predict=predict):
            return attack.generate(predict, *arguments)[0]

        compiled = backend.compile_function(generate, [])
        compiled(*tensors(some_images(), LABELS, range(8), 0))
        calls[num_steps] = len(model.calls)
    if keras.config.backend() == "torch":
        # PyTorch runs eagerly: L single attacks, and their scores.
        assert calls == {2: 3 * 2 + 1, 20: 3 * 20 + 1}
    else:
        assert calls[20] == calls[2] <= 12


# What training logs.


def test_shares_belong_to_the_attacked_exits():
    assert attacks.MaxAverage(pgd_of()).logged(3) == {
        "selected_share": (0, 1, 2)
    }
    assert attacks.MaxAverage(pgd_of(), exits=(-1, 0)).logged(3) == {
        "selected_share": (2, 0)
    }
    assert pgd_of().logged(3) == {}
