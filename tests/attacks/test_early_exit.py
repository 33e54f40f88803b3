"""Attacks on early exits: scores, success and gradients against NumPy."""

import math

import keras
import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd import evaluation
from keras_neokd.base.exit_policy import ExitPolicy
from tests import arrays
from tests import saving
from tests.attacks import running
from tests.reference import equations as reference
from tests.training import tiny

INFINITY = math.inf
LABELS = np.array([0, 1, 2, 0, 1, 2])


def some_logits(count=6, num_exits=3, num_classes=3):
    rng = np.random.default_rng(3)
    return 2 * rng.normal(size=(num_exits, count, num_classes))


LOGITS = some_logits()
CONFIDENCES = reference.softmax(LOGITS).max(axis=-1)
# Some images leave at each exit.
THRESHOLDS = (float(np.sort(CONFIDENCES[0])[3]), 0.7)


def tensors(logits=LOGITS):
    return tuple(map(arrays.tensor, logits))


def score(objective, logits=LOGITS):
    labels = arrays.tensor(LABELS, "int32")
    return arrays.array(objective(tensors(logits), labels, (0, 1, 2)))


def decided(thresholds, ensemble=False, *rest, logits=LOGITS):
    """What `ExitPolicy`, which is tested elsewhere, decides."""
    probabilities = np.moveaxis(reference.softmax(logits), 0, 1)
    return ExitPolicy(thresholds, ensemble, *rest).decide(probabilities)


def test_the_data_sends_images_to_every_exit():
    exits = decided(THRESHOLDS).exit_index
    assert set(exits) == {0, 1, 2}


# A wrong answer.


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("confidence", ["margin", "entropy"])
def test_other_confidences_and_temperatures_are_known(confidence, ensemble):
    scale = np.array([2.0, 0.5, 3.0])
    seen = reference.softmax(LOGITS / scale[:, None, None])
    found = np.sort(reference.confidence(confidence, seen), axis=1)
    thresholds = float(found[0, 2:4].mean()), float(found[1, 3:5].mean())
    rest = ensemble, confidence, tuple(scale)
    decision = decided(thresholds, *rest)
    assert len(set(decision.exit_index)) > 1
    policy = ExitPolicy(thresholds, *rest)
    received = arrays.array(attacks.EarlyExit(policy).chosen(tensors()))
    arrays.equal(received, np.eye(3)[decision.exit_index])
    fooled = attacks.EarlyExit(policy).fooled(tensors(), LABELS.astype("int32"))
    arrays.equal(arrays.array(fooled), decision.label != LABELS)
    late = attacks.SlowDown(policy).fooled(tensors(), LABELS.astype("int32"))
    arrays.equal(arrays.array(late), decision.exit_index == 2)


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize(
    "thresholds", [THRESHOLDS, (0.0, 0.0), (INFINITY, INFINITY), (1.0, 0.4)]
)
def test_fooled_is_what_the_policy_answers(thresholds, ensemble):
    objective = attacks.EarlyExit(ExitPolicy(thresholds, ensemble))
    decision = decided(thresholds, ensemble)
    received = arrays.array(objective.fooled(tensors(), LABELS.astype("int32")))
    arrays.equal(received, decision.label != LABELS)


@pytest.mark.parametrize(
    ("loss", "expected"),
    [("cross_entropy", reference.cross_entropy), ("margin", reference.margin)],
)
def test_the_score_is_the_loss_of_the_exit_taken(loss, expected):
    objective = attacks.EarlyExit(THRESHOLDS, loss=loss)
    taken = LOGITS[decided(THRESHOLDS).exit_index, np.arange(6)]
    arrays.close(score(objective), expected(taken, LABELS), atol=1e-5)


def test_the_score_of_an_ensemble_is_that_of_its_mean_softmax():
    objective = attacks.EarlyExit(ExitPolicy(THRESHOLDS, True))
    sums = np.cumsum(reference.softmax(LOGITS), axis=0)
    exits = decided(THRESHOLDS, ensemble=True).exit_index
    means = sums[exits, np.arange(6)] / (exits[:, None] + 1)
    arrays.close(
        score(objective), -np.log(means[np.arange(6), LABELS]), rtol=1e-5
    )


def test_a_loss_of_ones_own_sees_one_answer():
    seen = []

    def loss(logits, labels, exit):
        seen.append(exit)
        return logits[:, 0]

    objective = attacks.EarlyExit(THRESHOLDS, loss=loss)
    taken = LOGITS[decided(THRESHOLDS).exit_index, np.arange(6), 0]
    arrays.close(score(objective), taken, rtol=1e-6)
    assert seen == [2]


def gradients(objective):
    """Gradient of the score with respect to all logits, `LOGITS`' shape."""

    def of_logits(stacked):
        logits = [stacked[:, i] for i in range(3)]
        labels = arrays.tensor(LABELS, "int32")
        return objective(tuple(logits), labels, (0, 1, 2))

    stacked = arrays.tensor(np.moveaxis(LOGITS, 0, 1))
    _, gradient = backend.value_and_input_gradient(of_logits, stacked)
    return np.moveaxis(arrays.array(gradient), 1, 0)


def test_the_gradient_goes_through_the_exit_taken_alone():
    exits = decided(THRESHOLDS).exit_index
    expected = np.zeros_like(LOGITS)
    taken = LOGITS[exits, np.arange(6)]
    pull = reference.softmax(taken) - np.eye(3)[LABELS]
    expected[exits, np.arange(6)] = pull
    received = gradients(attacks.EarlyExit(THRESHOLDS))
    arrays.close(received, expected, atol=1e-6)


def test_the_gradient_of_an_ensemble_goes_through_all_exits_before():
    received = gradients(attacks.EarlyExit(ExitPolicy(THRESHOLDS, True)))
    exits = decided(THRESHOLDS).exit_index
    moves = np.abs(received).max(axis=2) > 1e-6
    for exit_ in range(3):
        arrays.equal(moves[exit_], exit_ <= exits)


# A long way.


def test_slow_is_what_gets_to_the_last_exit():
    objective = attacks.SlowDown(THRESHOLDS)
    received = arrays.array(objective.fooled(tensors(), LABELS))
    expected = decided(THRESHOLDS).exit_index == 2
    arrays.equal(received, expected)


def test_the_score_of_slow_is_cross_entropy_with_the_uniform_prediction():
    uniform = np.full((6, 3), 1 / 3)
    expected = -reference.soft_cross_entropy(LOGITS[:2], uniform).mean(axis=0)
    received = score(attacks.SlowDown(THRESHOLDS))
    arrays.close(received, expected, rtol=1e-5)


def test_nothing_is_slower_than_no_opinion():
    slow_down = attacks.SlowDown(THRESHOLDS)
    flat = score(slow_down, np.zeros((3, 6, 3)))
    arrays.close(flat, -np.log(3), rtol=1e-6)
    assert (score(slow_down) < flat).all()


def test_slow_has_a_loss_of_its_own():
    objective = attacks.SlowDown(THRESHOLDS)
    assert objective.with_loss("margin") is objective


@pytest.mark.parametrize(
    "make",
    [
        lambda objective: attacks.CW(objective=objective),
        lambda objective: attacks.FAB(0.1, objective=objective),
        lambda objective: attacks.TargetedFAB(0.1, objective=objective),
        lambda objective: attacks.TargetedAPGD(0.1, objective=objective),
        lambda objective: attacks.AutoAttack(0.1, objective=objective),
    ],
)
def test_attacks_on_margins_cannot_slow_down(make):
    with pytest.raises(ValueError, match="SlowDown is about something else"):
        make(attacks.SlowDown(THRESHOLDS))
    make(attacks.EarlyExit(THRESHOLDS))


# On a model.


@pytest.fixture(scope="module")
def model():
    model = tiny.dense_model()
    # Larger logits: exits with opinions.
    model.set_weights([3 * each for each in model.get_weights()])
    return model


@pytest.fixture(scope="module")
def images():
    return tiny.data(32)[0]


def policy_of(model, images, share=0.8):
    """A policy by which about a share of what comes leaves each time."""
    confidences = probabilities_of(model, images).max(axis=2)
    first = float(np.quantile(confidences[:, 0], 1 - share))
    left = confidences[confidences[:, 0] < first]
    return ExitPolicy((first, float(np.quantile(left[:, 1], 1 - share))))


def any_labels(images):
    return np.zeros(len(images), "int32")


def probabilities_of(model, images):
    return evaluation.exit_probabilities(model, images, any_labels(images))


def exits_taken(model, images, policy):
    return policy.decide(probabilities_of(model, images))


def test_pgd_makes_images_travel_to_the_last_exit(model, images):
    policy = policy_of(model, images)
    attack = attacks.PGD(0.2, 0.02, 20, objective=attacks.SlowDown(policy))
    slowed = evaluation.craft(model, images, any_labels(images), attack)
    before = exits_taken(model, images, policy).exit_index
    after = exits_taken(model, slowed, policy).exit_index
    assert (before == 2).mean() < 0.1
    assert (after == 2).mean() > 0.6


@pytest.fixture(scope="module")
def policy(model, images):
    return policy_of(model, images, share=0.5)


@pytest.fixture(scope="module")
def labels(model, images, policy):
    """The policy's answers, which are right by that."""
    return exits_taken(model, images, policy).label


def test_pgd_changes_the_answer_of_the_policy(model, images, labels, policy):
    attack = attacks.PGD(0.2, 0.04, 10, objective=attacks.EarlyExit(policy))
    adversarial = evaluation.craft(model, images, labels, attack)
    answers = exits_taken(model, adversarial, policy).label
    assert (answers == labels).mean() < 0.6


def test_the_worst_case_over_objectives_is_judged_by_the_policy(
    model, images, labels, policy
):
    wrong = attacks.EarlyExit(policy)
    pgd = attacks.PGD(0.05, 0.02, 4)
    members = [
        pgd.with_objective(each)
        for each in (wrong, attacks.AverageExits(), attacks.SingleExit(0))
    ]
    worst = evaluation.search(
        model, images, labels, attacks.WorstCase(members, wrong)
    )
    answers = exits_taken(model, worst.adversarial, policy).label
    arrays.equal(worst.fooled_by >= 0, answers != labels)
    alone = evaluation.craft(model, images, labels, members[0])
    fooled_alone = exits_taken(model, alone, policy).label != labels
    assert (worst.fooled_by >= 0).sum() >= fooled_alone.sum()


def test_searches_attack_the_policy(model, images, labels, policy):
    together = ExitPolicy(policy.thresholds, ensemble=True)
    attack = attacks.APGD(0.1, 10, objective=attacks.EarlyExit(together))
    found = evaluation.search(model, images, labels, attack)
    answers = exits_taken(model, found.adversarial, together).label
    arrays.equal(found.fooled_by == -1, answers == labels)
    assert (found.fooled_by == 0).any()


# Values.


@pytest.mark.parametrize(
    "objective",
    [
        attacks.EarlyExit(ExitPolicy((0.5, INFINITY), True), loss="margin"),
        attacks.SlowDown((INFINITY, 0.25)),
    ],
)
def test_objectives_survive_their_configuration(objective):
    plain = keras.saving.serialize_keras_object(objective)
    # JSON has no infinity.
    assert None in plain["config"]["policy"]["config"]["thresholds"]
    assert repr(saving.rebuilt(objective)) == repr(objective)


@pytest.mark.parametrize(
    ("kind", "config", "same"),
    [
        (
            attacks.EarlyExit,
            {"thresholds": [0.5, None], "ensemble": True, "loss": "margin"},
            attacks.EarlyExit(ExitPolicy((0.5, INFINITY), True), "margin"),
        ),
        (attacks.SlowDown, {"thresholds": [0.5]}, attacks.SlowDown((0.5,))),
    ],
)
def test_what_the_first_version_wrote_is_read(kind, config, same):
    plain = {
        "module": "keras_neokd.attacks.early_exit",
        "class_name": kind.__name__,
        "config": config,
        "registered_name": f"keras_neokd>{kind.__name__}",
    }
    assert repr(keras.saving.deserialize_keras_object(plain)) == repr(same)


def test_thresholds_are_a_policy():
    given = np.array([0.5, np.inf], "float32")
    policy = attacks.EarlyExit(given).policy
    assert (policy.thresholds, policy.ensemble) == ((0.5, INFINITY), False)
    assert attacks.SlowDown(policy).policy is policy


def test_another_loss_keeps_the_policy():
    objective = attacks.EarlyExit(ExitPolicy((0.5,), True))
    changed = objective.with_loss("margin")
    assert changed.loss == "margin"
    assert changed.policy is objective.policy


@pytest.mark.parametrize("kind", [attacks.EarlyExit, attacks.SlowDown])
@pytest.mark.parametrize("thresholds", [(0.5,), (0.5, 0.5, 0.5)])
def test_another_number_of_exits_is_refused(kind, thresholds):
    attack = attacks.PGD(0.1, 0.1, 1, objective=kind(thresholds))
    count = len(thresholds)
    with pytest.raises(ValueError, match=f"{count} thresholds are for a model"):
        attack.validate(3)


@pytest.mark.parametrize("kind", [attacks.EarlyExit, attacks.SlowDown])
@pytest.mark.parametrize(
    ("thresholds", "error"),
    [
        ((-0.1,), ValueError),
        ((math.nan,), ValueError),
        (("0.5",), TypeError),
        ((True,), TypeError),
    ],
)
def test_what_is_no_threshold_is_refused(kind, thresholds, error):
    with pytest.raises(error, match="`thresholds` needs"):
        kind(thresholds)


def test_a_model_of_one_exit_cannot_be_slowed_down():
    with pytest.raises(ValueError, match="one exit cannot be slowed down"):
        attacks.SlowDown(())
    assert attacks.EarlyExit(()).exit_indices(1) == (0,)


def test_all_exits_are_needed():
    model = reference.LinearExits(3, running.SHAPE, 5)
    attack = attacks.PGD(0.1, 0.1, 1, objective=attacks.EarlyExit((0.5, 0.5)))
    running.attacker(attack, model)(running.some_images(), running.LABELS)
    assert set(model.calls) == {(0, 1, 2)}
