"""APGD against plain NumPy on exits that are quadratic in the pixels."""

import pytest

from keras_neokd import attacks
from keras_neokd.attacks import apgd
from tests import arrays
from tests.attacks import running
from tests.attacks import search_reference
from tests.marks import slow

NORMS = ("linf", "l2")
# Of some images, all or some of the classes are out of reach.
EPSILON = {"linf": 0.15, "l2": 0.5}
NUM_STEPS = 30
CHECKPOINTS = (6, 11, 15, 18, *range(20, 31))


def apgd_of(norm, kind=attacks.APGD, **arguments):
    defaults = {
        "epsilon": EPSILON[norm],
        "num_steps": NUM_STEPS,
        "norm": norm,
    }
    return kind(**{**defaults, **arguments})


def expected_images(attack, examples, targets=()):
    """What the reference returns, and the number of the attempt that fooled.

    With `targets`, each restart has one attempt for each of these ranks.
    """

    def attempt(example, number):
        if targets:
            rank = targets[number % len(targets)]
            example.target = example.likely_classes()[rank]
        return search_reference.apgd(
            example,
            attack.epsilon,
            attack.num_steps,
            attack.norm,
            apgd.checkpoints(attack.num_steps),
            number,
            attack.rho,
        )

    num_attempts = attack.num_restarts * max(len(targets), 1)
    return running.expected(examples, attempt, num_attempts)


# Step sizes.


@pytest.mark.parametrize(
    ("num_steps", "expected"),
    [
        (100, [22, 41, 57, 70, 80, 87, 93, 99]),
        (50, [11, 21, 30, 38, 45]),
        (30, list(CHECKPOINTS)),
        (10, list(range(2, 11))),
        (1, [1]),
    ],
)
def test_steps_may_be_halved_at_the_iterations_of_auto_attack(
    num_steps, expected
):
    assert apgd.checkpoints(num_steps) == expected


# The algorithm.


@pytest.mark.parametrize(
    ("norm", "loss", "epsilon"),
    [
        ("linf", "cross_entropy", 0.3),
        slow("l2", "cross_entropy", 0.5),
        ("l2", "dlr", 0.2),
    ],
)
def test_a_run_to_its_end_equals_plain_numpy(norm, loss, epsilon):
    model, images, labels = running.batch()
    if loss == "cross_entropy":
        # The ratio of a class that is far behind has no gradient.
        labels = running.LABELS
    objective = running.NeverFooled(loss=loss)
    attack = apgd_of(norm, epsilon=epsilon, objective=objective)
    expected = [
        search_reference.apgd(each, epsilon, NUM_STEPS, norm, CHECKPOINTS)
        for each in running.examples(
            model, images, labels, seed=3, loss=loss, success="never"
        )
    ]

    state = running.final_state(attack, model, images, labels, seed=3)

    for name, ours in (
        ("step", "step_size"),
        ("best", "best"),
        ("best_x", "best_images"),
        ("x", "images"),
    ):
        arrays.close(
            state[ours],
            [each[name] for each in expected],
            rtol=1e-4,
            atol=1e-5,
            err_msg=name,
        )
    # The number of halvings differs from image to image.
    assert len({each["step"] for each in expected}) > 1


@pytest.mark.parametrize(
    ("norm", "success"),
    [
        ("linf", "all"),
        ("l2", "any"),
        slow("linf", "any"),
        slow("l2", "all"),
    ],
)
def test_what_comes_back_equals_plain_numpy(norm, success):
    model, images, labels = running.batch()
    attack = apgd_of(norm, objective=attacks.AverageExits(success=success))
    expected, winners = expected_images(
        attack, running.examples(model, images, labels, success=success)
    )

    received = running.attacker(attack, model)(images, labels)

    arrays.close(received, expected, atol=2e-5)
    # Some resist, and come back clean; some do not.
    assert set(winners) == {None, 0}


def test_an_image_is_left_alone_after_the_ten_iterations_that_fool_it():
    model, images, labels = running.batch()
    ten = running.attacker(apgd_of("linf", num_steps=10, rho=0), model)
    more = running.attacker(apgd_of("linf", num_steps=11, rho=0), model)

    after_ten, after_more = ten(images, labels), more(images, labels)

    # Both have the same checkpoints up to then.
    assert apgd.checkpoints(11)[:9] == apgd.checkpoints(10)
    fooled = (after_ten != images).any(axis=(1, 2, 3))
    assert 0 < fooled.sum() < len(images)
    arrays.equal(after_more[fooled], after_ten[fooled])


@pytest.mark.parametrize("norm", ["linf", slow("l2")])
def test_restarts_go_on_with_the_images_that_resist(norm):
    model, images, labels = running.batch()
    attack = apgd_of(norm, num_steps=2, num_restarts=5)
    expected, winners = expected_images(
        attack, running.examples(model, images, labels)
    )
    assert len(set(winners)) > 2

    received = running.attacker(attack, model)(images, labels)

    arrays.close(received, expected, atol=1e-5)


def test_share_of_rises_below_which_the_step_is_halved():
    model, images, _ = running.batch()
    steps = {}
    for rho in (0, 1):
        attack = attacks.APGD(
            0.3, 4, rho=rho, objective=running.NeverFooled(loss="margin")
        )
        state = running.final_state(attack, model, images, running.LABELS)
        steps[rho] = state["step_size"]
    # Every iteration is a checkpoint; a share of 1 is never exceeded.
    arrays.close(steps[1], 0.6 / 2**4)
    assert (steps[0] > steps[1]).all()


# Targets.


@pytest.mark.parametrize(
    ("norm", "loss", "num_targets"),
    [
        ("linf", "dlr", 9),
        ("linf", "margin", 2),
        ("l2", "margin", None),
        slow("l2", "dlr", 1),
    ],
)
def test_targets_are_the_likely_wrong_classes_in_turn(norm, loss, num_targets):
    model, images, labels = running.batch()
    # Nine targets, or all, are the four wrong classes of five.
    ranks = range(4)[:num_targets]
    attack = apgd_of(
        norm,
        attacks.TargetedAPGD,
        num_steps=5,
        num_targets=num_targets,
        num_restarts=2,
        loss=loss,
    )
    expected, winners = expected_images(
        attack,
        running.examples(model, images, labels, loss=f"targeted_{loss}"),
        ranks,
    )
    if len(ranks) > 1:
        assert len(set(winners)) > 2

    received = running.attacker(attack, model)(images, labels)

    assert attack.num_attempts(5) == 2 * len(ranks)
    arrays.close(received, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("attack", "num_classes", "message"),
    [
        (
            attacks.TargetedAPGD(0.1),
            3,
            "TargetedAPGD needs at least 4 classes, received a model of 3. "
            "Use loss='margin'",
        ),
        (
            attacks.APGD(0.1, objective=attacks.AverageExits(loss="dlr")),
            2,
            "loss='dlr' needs at least 3 classes, received a model of 2",
        ),
        (
            attacks.MaxAverage(attacks.TargetedAPGD(0.1)),
            3,
            "TargetedAPGD needs at least 4 classes",
        ),
    ],
    ids=repr,
)
def test_too_few_classes_for_a_loss_are_refused(attack, num_classes, message):
    model = running.two_exits(num_classes)
    predict = attacks.ExitLogits(model, 2)
    with pytest.raises(ValueError, match=message):
        attack(predict, running.some_images(2), [0, 1])
    attack.validate(2, num_classes + 1)
