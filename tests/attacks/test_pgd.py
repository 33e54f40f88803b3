"""PGD against plain NumPy on exits that are linear in the pixels."""

import keras
import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_neokd import attacks
from keras_neokd.attacks.pgd import keep_better
from tests import arrays
from tests.attacks import running
from tests.reference import equations as reference

SHAPE, LABELS = running.SHAPE, running.LABELS[:6]
attacker, iterates_of = running.quick_attacker, running.iterates_of
EPSILON = {"linf": 0.15, "l2": 0.6}
STEP_SIZE = {"linf": 0.04, "l2": 0.2}


def two_exits():
    return reference.LinearExits(2, SHAPE, num_classes=5)


def pgd_of(norm="linf", **arguments):
    defaults = {
        "epsilon": EPSILON[norm],
        "step_size": STEP_SIZE[norm],
        "num_steps": 4,
        "norm": norm,
    }
    return attacks.PGD(**{**defaults, **arguments})


# The algorithm.


def moved_pixel(score, pgd, label=0):
    """Return what a pixel of 0.5 becomes; logits are 0 and its score."""

    def function(images, exits):
        pixel = ops.reshape(images, (-1, 1))
        return [ops.concatenate([pixel * 0.0, score(pixel)], axis=1)]

    predict = attacks.ExitLogits(function, num_exits=1)
    image = np.full((1, 1, 1, 1), 0.5, "float32")
    return float(ops.squeeze(pgd(predict, image, [label])))


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_one_step_by_hand(norm):
    # A step of 0.2 leaves the ball of 0.1.
    for label, step_size, expected in (
        (0, 0.05, 0.55),
        (1, 0.05, 0.45),
        (0, 0.2, 0.6),
    ):
        pgd = attacks.PGD(0.1, step_size, 1, norm, random_start=False)
        moved = moved_pixel(lambda pixel: 2.0 * pixel, pgd, label)
        assert moved == pytest.approx(expected)


@pytest.mark.parametrize("norm", ["linf", "l2"])
@pytest.mark.parametrize(("num_steps", "random_start"), [(1, False), (7, True)])
@pytest.mark.parametrize(
    ("objective", "exits"),
    [
        (attacks.AverageExits(), (0, 1)),
        (attacks.SingleExit(-1), (1,)),
        (attacks.AverageExits(loss="margin"), (0, 1)),
    ],
    ids=["average", "single", "margin"],
)
def test_attack_equals_plain_numpy(
    norm, num_steps, random_start, objective, exits
):
    model, images = two_exits(), running.some_images(6)
    attack = pgd_of(
        norm,
        num_steps=num_steps,
        random_start=random_start,
        objective=objective,
    )
    iterates = iterates_of(attack, model, images, LABELS, exits, 0, seed=3)
    adversarial = attacker(attack, model)(images, LABELS, seed=3)
    arrays.close(adversarial, iterates[-1], atol=1e-5)


def test_the_comparison_with_numpy_is_not_trivial():
    # Directions change between steps, and both projections act.
    model, images = two_exits(), running.some_images(6)
    for norm in ("linf", "l2"):
        attack = pgd_of(norm, num_steps=7)
        iterates = iterates_of(attack, model, images, LABELS, (0, 1), 0)
        signs = [
            np.sign(model.gradient(each, LABELS, (0, 1))) for each in iterates
        ]
        assert any((sign != signs[0]).any() for sign in signs)
        assert (iterates[-1] == 0).any() and (iterates[-1] == 1).any()
        attack = pgd_of(norm, num_steps=7, epsilon=1)
        freer = iterates_of(attack, model, images, LABELS, (0, 1), 0)
        assert abs(freer[-1] - iterates[-1]).max() > 0.1


def test_last_iterate_is_returned_even_where_an_earlier_one_was_better():
    # The score is highest at 0.55. Steps of 0.2 jump over it and back.
    for num_steps, expected in ((1, 0.7), (2, 0.5), (3, 0.7)):
        pgd = attacks.PGD(0.3, 0.2, num_steps, random_start=False)
        moved = moved_pixel(lambda pixel: -10.0 * (pixel - 0.55) ** 2, pgd)
        assert moved == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1e-6, 1e-15, 1e-30])
@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_length_of_a_step_does_not_depend_on_the_size_of_the_gradient(
    norm, scale
):
    # Confident models have tiny gradients; they must not look robust for it.
    model = reference.LinearExits(2, SHAPE, num_classes=5, scale=scale)
    images = 0.4 + 0.2 * running.some_images(6)
    attack = pgd_of(norm, num_steps=1, random_start=False)
    change = attacker(attack, model)(images, LABELS) - images
    if norm == "linf":
        lengths = abs(change).max(axis=(1, 2, 3))
    else:
        lengths = reference.lengths(change).ravel()
    arrays.close(lengths, STEP_SIZE[norm], rtol=1e-3)


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_an_image_without_gradient_stays_and_others_move(norm):
    # A saturated softmax has a gradient of exactly 0. Compilers may merge
    # divisions, and 0 / 0 would be a broken image.
    def function(images, exits):
        pixel = ops.reshape(images, (-1, 1))
        bright = ops.maximum(pixel, 0.4)
        return [ops.concatenate([0.0 * bright, bright], axis=1)]

    function.num_exits = 1
    images = np.array([0.2, 0.6], "float32").reshape((2, 1, 1, 1))
    attack = pgd_of(norm, epsilon=0.1, step_size=0.05, random_start=False)
    for is_compiled in (False, True):
        attacked = running.attacker(attack, function, is_compiled=is_compiled)
        adversarial = attacked(images, [0, 0]).ravel()
        arrays.close(adversarial, [0.2, 0.7], atol=1e-6)


# Random start.


def starts(norm, count=400, epsilon=0.3):
    """Starts around grey images: a model without gradient stays there."""
    images = np.full((count, *SHAPE), 0.5, "float32")

    def flat(images, exits):
        still = ops.sum(0.0 * images, axis=(1, 2, 3))
        return [ops.stack([still, still], axis=1)]

    flat.num_exits = 1
    attack = attacks.PGD(epsilon, 0.01, 1, norm=norm)
    return attacker(attack, flat)(images, np.zeros(count)) - images


def test_linf_start_is_uniform_in_the_ball():
    noise = starts("linf")
    assert stats.kstest(noise.ravel() / 0.6 + 0.5, "uniform").pvalue > 1e-3


def test_l2_start_has_a_uniform_direction_and_a_uniform_length():
    noise = starts("l2").reshape(400, -1)
    lengths = np.linalg.norm(noise, axis=1)
    assert stats.kstest(lengths / 0.3, "uniform").pvalue > 1e-3
    directions = noise / lengths[:, None]
    # Mean 0, variance 1/24; standard errors 0.01 and 0.0006 per pixel.
    assert abs(directions.mean(axis=0)).max() < 0.04
    arrays.close(directions.var(axis=0), 1 / 24, atol=0.012)
    assert abs(stats.spearmanr(lengths, directions[:, 0]).statistic) < 0.2


def test_start_is_clipped_before_the_first_gradient():
    # A model may be undefined outside [0, 1]: it must never be asked there.
    model, images = two_exits(), running.some_images(6)
    images[:3] = np.round(images[:3])

    def checked(images, exits):
        outside = ops.any(ops.logical_or(images < 0, images > 1))
        penalty = ops.where(outside, np.nan, 0.0)
        return [logits + penalty for logits in model(images, exits)]

    checked.num_exits = 2
    for norm in ("linf", "l2"):
        attack = pgd_of(norm, num_steps=2, num_restarts=2)
        adversarial = attacker(attack, checked)(images, LABELS)
        assert np.isfinite(adversarial).all()


# Restarts.


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_restarts_keep_the_best_one_of_each_example(norm):
    model, images = two_exits(), running.some_images(6)
    attack = pgd_of(norm, num_steps=1, num_restarts=4)
    restarts = [
        iterates_of(attack, model, images, LABELS, (0, 1), restart, seed=5)[-1]
        for restart in range(4)
    ]
    scores = np.array([model.score(each, LABELS, (0, 1)) for each in restarts])
    winners = scores.argmax(axis=0)
    assert len(set(winners)) > 1
    expected = [restarts[winner][i] for i, winner in enumerate(winners)]
    adversarial = attacker(attack, model)(images, LABELS, seed=5)
    arrays.close(adversarial, expected, atol=1e-5)


def test_the_better_image_is_kept_and_anything_is_better_than_nan():
    images, values = keep_better(
        arrays.tensor([[1.0], [2.0], [3.0], [4.0]]),
        arrays.tensor([0.5, 0.5, np.nan, 0.5]),
        arrays.tensor([[-1.0], [-2.0], [-3.0], [-4.0]]),
        arrays.tensor([0.6, 0.5, -9.0, np.nan]),
    )
    assert ops.convert_to_numpy(images).ravel().tolist() == [-1, 2, -3, 4]
    arrays.close(values, [0.6, 0.5, -9.0, 0.5])


# Randomness.


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_attack_depends_on_the_seed_and_on_nothing_hidden(norm):
    model, images = two_exits(), running.some_images(6)
    attacked = attacker(pgd_of(norm, num_steps=1, num_restarts=2), model)
    first = attacked(images, LABELS, seed=1)
    keras.utils.set_random_seed(99)
    again = attacked(images, LABELS, seed=1)
    other = attacked(images, LABELS, seed=2)
    arrays.equal(again, first)
    assert (other != first).any(axis=(1, 2, 3)).all()


# Cost.


def test_tracing_does_not_grow_with_the_number_of_steps():
    calls = {}
    for num_restarts, num_steps in ((1, 2), (1, 20), (3, 2), (6, 20)):
        attack = pgd_of(num_steps=num_steps, num_restarts=num_restarts)
        calls[num_restarts, num_steps] = running.calls_of_tracing(
            attack, two_exits(), running.some_images(6), LABELS
        )
    if keras.config.backend() == "torch":
        # PyTorch runs eagerly: each call is a forward pass. Restarts add one
        # pass each for their score.
        assert calls == {
            (1, 2): 2,
            (1, 20): 20,
            (3, 2): 3 * 2 + 3,
            (6, 20): 6 * 20 + 6,
        }
    else:
        assert calls[1, 2] == calls[1, 20] <= 3
        assert calls[3, 2] == calls[6, 20] <= 10


def test_attack_is_the_same_compiled_and_eager():
    compiled, eager = (
        running.attacker(pgd_of("l2"), two_exits(), is_compiled=is_compiled)(
            running.some_images(6), LABELS, seed=2
        )
        for is_compiled in (True, False)
    )
    arrays.close(compiled, eager, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("objective", "exits"),
    [
        (attacks.SingleExit(0), (0,)),
        (attacks.SingleExit(-1), (2,)),
        (attacks.AverageExits(), (0, 1, 2)),
        (attacks.AverageExits((2, 0)), (2, 0)),
    ],
    ids=repr,
)
def test_only_the_attacked_exits_are_computed(objective, exits):
    model = reference.LinearExits(3, SHAPE, num_classes=5)
    attack = pgd_of(objective=objective, num_restarts=2)
    attacker(attack, model)(running.some_images(6), LABELS)
    assert set(model.calls) == {exits}


# Models through which no gradient flows.


def rounding(images, exits):
    """A model that rounds its pixels."""
    flat = ops.reshape(ops.round(images), (-1, 24))
    return [flat[:, :5] for _ in exits]


def cut_off(images, exits):
    """A model whose logits are cut off from its pixels."""
    flat = ops.reshape(ops.stop_gradient(images), (-1, 24))
    return [flat[:, :5] for _ in exits]


@pytest.mark.parametrize(
    ("function", "reporting"),
    [(rounding, ("tensorflow",)), (cut_off, ("tensorflow", "torch"))],
)
def test_a_missing_gradient_is_reported_where_the_backend_can_tell(
    function, reporting
):
    attack = pgd_of(random_start=False)
    predict = attacks.ExitLogits(function, num_exits=1)
    images = running.some_images(6)
    if keras.config.backend() in reporting:
        with pytest.raises(ValueError, match="No gradient reaches the images"):
            attack(predict, images, LABELS)
    else:
        # The backend calls the gradient zero, so the images stay.
        adversarial = attack(predict, images, LABELS)
        arrays.equal(adversarial, images)


# Steps that do nothing, or most likely not what was meant.


@pytest.mark.parametrize("step_size", [1e-46, 1e-30, 1e-9])
def test_a_step_that_changes_no_pixel_is_refused(step_size):
    with pytest.raises(ValueError, match="`step_size` .*in float32"):
        attacks.PGD(0.1, step_size, 10)


@pytest.mark.parametrize(
    ("epsilon", "step_size"),
    [
        (0.3, 20 / 255),  # NEO-KD's MNIST.
        (8 / 255, 2 / 255),  # NEO-KD's CIFAR.
        (2 / 255, 2 / 3 * 2 / 255),  # NEO-KD's ImageNet.
        (0.3, 0.01),  # Triple-wins.
        (8 / 255, 8 / 255),  # FGSM.
        (8 / 255, 1.25 * 8 / 255),  # FGSM from a random start (Wong et al.).
        (8 / 255, 2 * 8 / 255),  # The first step of APGD.
        (8 / 255, 2.5 * 8 / 255),  # Madry et al.'s rule with one step.
        (0, 0.1),  # No ball, for evaluation.
    ],
)
def test_published_steps_pass(epsilon, step_size):
    assert attacks.PGD(epsilon, step_size, 1).step_size == step_size


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_a_step_far_longer_than_the_ball_is_warned_about(norm):
    with pytest.warns(UserWarning, match="step_size=1.7 is 17 times epsilon=0"):
        attacks.PGD(0.1, 1.7, 10, norm)


def test_a_text_is_no_random_start():
    with pytest.raises(ValueError, match="Unknown `random_start` 'no'"):
        attacks.PGD(0.1, 0.1, 1, random_start="no")
    with pytest.raises(TypeError, match="`random_start` needs True or False"):
        attacks.PGD(0.1, 0.1, 1, random_start=1)
