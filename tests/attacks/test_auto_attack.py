"""AutoAttack: which attacks, in which order, with which settings."""

import numpy as np
import pytest

from keras_neokd import attacks
from tests import arrays
from tests.attacks import running


def kinds(attack):
    return [type(each).__name__ for each in attack.members]


def test_standard_are_four_attacks_of_one_attempt_each():
    attack = attacks.AutoAttack(0.1)
    ce, targeted, fab, square = attack.members
    assert kinds(attack) == ["APGD", "TargetedAPGD", "TargetedFAB", "Square"]
    assert ce.objective.loss == "cross_entropy"
    assert targeted.loss == "dlr"
    assert square.objective.loss == "margin"
    assert not square.rescale_schedule
    assert square.num_queries == 5_000
    assert targeted.num_targets == fab.num_targets == 9
    assert ce.num_steps == targeted.num_steps == fab.num_steps == 100
    for each in attack.members:
        assert each.num_restarts == 1
        assert (each.epsilon, each.norm) == (0.1, "linf")
    assert (attack.epsilon, attack.norm) == (0.1, "linf")


def test_plus_are_six_attacks_the_untargeted_with_five_restarts():
    attack = attacks.AutoAttack(0.1, "plus")
    assert kinds(attack) == [
        "APGD",
        "APGD",
        "FAB",
        "Square",
        "TargetedAPGD",
        "TargetedFAB",
    ]
    losses = [each.objective.loss for each in attack.members[:2]]
    assert losses == ["cross_entropy", "dlr"]
    restarts = [each.num_restarts for each in attack.members]
    assert restarts == [5, 5, 5, 1, 1, 1]


def test_margins_are_the_standard_ones_and_two_on_differences_of_logits():
    attack = attacks.AutoAttack(0.1, "margins", 7, 30, 2)
    standard = attacks.AutoAttack(0.1, "standard", 7, 30, 2)
    # In front, as the random numbers of a member are those of its place.
    assert list(map(repr, attack.members[:4])) == list(
        map(repr, standard.members)
    )
    nearest, targeted = attack.members[4:]
    assert kinds(attack)[4:] == ["PGD", "TargetedPGD"]
    assert nearest.objective.loss == "margin"
    assert targeted.num_targets == 2
    # A start towards each of two classes.
    assert targeted.num_attempts(10) == 2
    assert (nearest.num_restarts, targeted.num_restarts) == (4, 1)
    for each in (nearest, targeted):
        assert each.step_size == pytest.approx(0.025)
        assert each.num_steps == 7


@pytest.mark.parametrize("epsilon", [0, 2**-24])
def test_margins_of_a_ball_that_is_hardly_one(epsilon):
    assert attacks.AutoAttack(epsilon, "margins").epsilon == epsilon


def test_what_resists_margins_resists_the_standard_attack():
    model, images = running.two_exits(), running.some_images(64)
    labels = running.predicted(model, images)
    # The standard one is so short that there is something left to find.
    settings = {"num_steps": 2, "num_queries": 2, "num_targets": 1}
    fooled = {}
    for version in ("standard", "margins"):
        attack = attacks.AutoAttack(0.3, version, **settings)
        received = running.attacker(attack, model)(images, labels)
        fooled[version] = (received != images).any(axis=(1, 2, 3))
        if version == "standard":
            expected = received
    assert (fooled["margins"] >= fooled["standard"]).all()
    assert fooled["margins"].sum() > fooled["standard"].sum()
    # What the standard attack finds is kept.
    kept = fooled["standard"]
    np.testing.assert_allclose(received[kept], expected[kept], atol=1e-5)


def test_paper_is_fifty_steps_towards_all_classes():
    attack = attacks.AutoAttack.paper()
    ce, targeted, fab, square = attack.members
    assert kinds(attack) == ["APGD", "TargetedAPGD", "TargetedFAB", "Square"]
    assert ce.num_steps == targeted.num_steps == fab.num_steps == 50
    assert square.num_queries == 5_000
    assert targeted.num_attempts(100) == fab.num_attempts(100) == 99
    assert attack.epsilon == 0.03
    assert attacks.AutoAttack.paper(0.1).epsilon == 0.1


def test_exits_and_success_reach_every_attack():
    objective = attacks.AverageExits((0, 2), success="any")
    attack = attacks.AutoAttack(0.1, "plus", objective=objective)
    assert attack.objective is objective
    for each in attack.members:
        assert each.objective.exits == (0, 2)
        assert each.objective.success == "any"
    paper = attacks.AutoAttack.paper(objective=attacks.SingleExit(1))
    assert all(each.objective.exit == 1 for each in paper.members)


def test_settings_reach_the_attacks_they_are_of():
    attack = attacks.AutoAttack(0.2, "standard", 7, 30, 2, "margin", "l2")
    ce, targeted, fab, square = attack.members
    assert ce.num_steps == targeted.num_steps == fab.num_steps == 7
    assert targeted.num_targets == fab.num_targets == 2
    assert targeted.loss == "margin"
    assert square.num_queries == 30
    assert {each.norm for each in attack.members} == {"l2"}


def test_what_comes_back_is_clean_or_fools_every_exit():
    model, images = running.two_exits(), running.some_images()
    labels = running.predicted(model, images)
    attack = attacks.AutoAttack(0.12, "standard", 3, 20, 1)
    received = running.attacker(attack, model)(images, labels)
    fooled = (received != images).any(axis=(1, 2, 3))
    assert 0 < fooled.sum() < len(images)
    wrong = [model.logits(received, i).argmax(axis=1) != labels for i in (0, 1)]
    arrays.equal(np.all(wrong, axis=0), fooled)


@pytest.mark.parametrize(
    ("attack", "fewest"),
    [
        (attacks.AutoAttack(0.1), 4),
        (attacks.AutoAttack(0.1, "plus"), 4),
        (attacks.AutoAttack(0.1, "plus", loss="margin"), 3),
        (attacks.AutoAttack(0.1, loss="margin"), 2),
        (attacks.AutoAttack(0.1, "margins"), 4),
        (attacks.AutoAttack(0.1, "margins", loss="margin"), 2),
    ],
    ids=[
        *("standard", "plus", "plus, margin", "standard, margin"),
        *("margins", "margins, margin"),
    ],
)
def test_too_few_classes_are_refused_by_name(attack, fewest):
    attack.validate(2, fewest)
    if fewest > 2:
        with pytest.raises(
            ValueError,
            match=f"needs at least {fewest} classes, .* of {fewest - 1}. Use "
            "loss='margin'",
        ):
            attack.validate(2, fewest - 1)
