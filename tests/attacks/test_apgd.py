"""APGD against plain NumPy on exits that are quadratic in the pixels."""

import pytest

from keras_neokd import attacks
from keras_neokd.attacks import apgd
from tests import arrays
from tests.attacks import running
from tests.marks import slow
from tests.reference import searches

NORMS = ("linf", "l2")
# Of some images, all or some of the classes are out of reach.
EPSILON = {"linf": 0.15, "l2": 0.5}
NUM_STEPS = 30
CHECKPOINTS = (6, 11, 15, 18, *range(20, 31))


def apgd_of(norm, kind=attacks.APGD, **arguments):
    defaults = {"epsilon": EPSILON[norm], "num_steps": NUM_STEPS, "norm": norm}
    return kind(**{**defaults, **arguments})


def attempt_of(attack, targets=()):
    """The reference's attempt. Each restart has one for each rank."""

    def attempt(example, number=0):
        if targets:
            rank = targets[number % len(targets)]
            example.target = example.likely_classes()[rank]
        return searches.apgd(
            example,
            attack.epsilon,
            attack.num_steps,
            attack.norm,
            apgd.checkpoints(attack.num_steps),
            number,
            attack.rho,
        )

    return attempt


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
    names = {"step": "step_size", "best": "best", "best_x": "best_images"}
    ends = running.assert_ends(
        attack,
        attempt_of(attack),
        (model, images, labels),
        {**names, "x": "images"},
        seed=3,
        rtol=1e-4,
        loss=loss,
    )
    # The number of halvings differs from image to image.
    assert len({each["step"] for each in ends}) > 1


@pytest.mark.parametrize(
    ("norm", "success"),
    [("linf", "all"), ("l2", "any"), slow("linf", "any"), slow("l2", "all")],
)
def test_what_comes_back_equals_plain_numpy(norm, success):
    attack = apgd_of(norm, objective=attacks.AverageExits(success=success))
    winners = running.assert_found(
        attack, attempt_of(attack), running.batch(), 1, 2e-5, success=success
    )
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
    attack = apgd_of(norm, num_steps=2, num_restarts=5)
    winners = running.assert_found(
        attack, attempt_of(attack), running.batch(), num_attempts=5
    )
    assert len(set(winners)) > 2


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
    assert attack.num_attempts(5) == 2 * len(ranks)
    winners = running.assert_found(
        attack,
        attempt_of(attack, ranks),
        running.batch(),
        2 * len(ranks),
        loss=f"targeted_{loss}",
    )
    assert len(ranks) == 1 or len(set(winners)) > 2


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
