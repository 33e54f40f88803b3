"""Objectives: which exits, which loss, and bad arguments."""

import numpy as np
import pytest
from keras import ops

from keras_neokd import attacks
from tests import arrays
from tests import saving
from tests.reference import equations as reference

ALL_OBJECTIVES = [
    attacks.SingleExit(2),
    attacks.SingleExit(-1, loss="margin"),
    attacks.AverageExits(),
    attacks.AverageExits((0, 2), loss="margin"),
    attacks.AverageExits(loss="dlr", success="any"),
]


def given(objective, logits, labels):
    """The logits `(batch, exits, classes)` of the exits it asks for."""
    exits = objective.exit_indices(logits.shape[1])
    chosen = tuple(arrays.tensor(logits[:, i]) for i in exits)
    return chosen, arrays.tensor(labels, "int32")


def scores(objective, *data):
    return arrays.array(objective(*given(objective, *data)))


@pytest.mark.parametrize(
    ("objective", "exits"),
    [
        (attacks.SingleExit(0), (0,)),
        (attacks.SingleExit(2), (2,)),
        (attacks.SingleExit(-1), (2,)),
        (attacks.SingleExit(-3), (0,)),
        (attacks.AverageExits(), (0, 1, 2)),
        (attacks.AverageExits(exits=(0, 2)), (0, 2)),
        (attacks.AverageExits(exits=[2, -3]), (2, 0)),
        (attacks.AverageExits(exits=np.array([1])), (1,)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("loss", ["cross_entropy", "margin", "dlr"])
def test_score_is_the_mean_loss_over_the_chosen_exits(objective, exits, loss):
    objective = type(objective)(**{**objective.arguments(), "loss": loss})
    logits = np.random.default_rng(0).normal(scale=2, size=(6, 3, 5))
    labels = np.array([0, 1, 2, 3, 4, 4])
    function = {
        "cross_entropy": reference.cross_entropy,
        "margin": reference.margin,
        "dlr": reference.dlr,
    }[loss]
    assert objective.exit_indices(3) == exits
    expected = np.mean([function(logits[:, i], labels) for i in exits], axis=0)
    received = scores(objective, logits, labels)
    assert received.shape == (6,)
    arrays.close(received, expected, atol=1e-5)


def test_score_rises_when_the_true_logit_falls():
    logits = np.random.default_rng(1).normal(size=(4, 3, 5))
    labels = np.array([0, 1, 2, 3])
    worse = logits.copy()
    worse[np.arange(4), :, labels] -= 1
    for objective in ALL_OBJECTIVES:
        better = scores(objective, worse, labels)
        assert (better > scores(objective, logits, labels)).all()


def test_a_loss_that_is_a_function_is_told_the_exit():
    def loss(logits, labels, exit):
        return logits[:, 0] + 100.0 * exit

    objective = attacks.AverageExits((2, 0)).with_loss(loss)
    logits = (ops.zeros((2, 3)), ops.ones((2, 3)))
    labels = ops.convert_to_tensor([0, 0])
    score = objective(logits, labels, objective.exit_indices(3))
    arrays.close(score, [100.5, 100.5])


# Success.

# Three images, two exits, three classes; class 1 is the true one.
DECISIONS = np.array(
    [
        [[0, 2, 1], [0, 2, 1]],  # right, right
        [[3, 2, 1], [0, 2, 1]],  # wrong, right
        [[3, 2, 1], [0, 1, 2]],  # wrong, wrong
    ],
    "float32",
)


def fooled(objective, *data):
    found = objective.fooled(*given(objective, *data))
    return arrays.array(found).tolist()


@pytest.mark.parametrize(
    ("objective", "expected"),
    [
        (attacks.AverageExits(), [False, False, True]),
        (attacks.AverageExits(success="any"), [False, True, True]),
        (attacks.AverageExits((0,)), [False, True, True]),
        (attacks.AverageExits((1,), success="any"), [False, False, True]),
        (attacks.SingleExit(0), [False, True, True]),
        (attacks.SingleExit(-1, loss="margin"), [False, False, True]),
    ],
    ids=repr,
)
def test_images_are_fooled_when_all_or_any_of_the_exits_are_wrong(
    objective, expected
):
    assert fooled(objective, DECISIONS, [1, 1, 1]) == expected


def test_of_equal_logits_the_first_is_the_prediction_as_for_argmax():
    ties = np.array([[[2, 2, 1]]], "float32")
    for label, expected in ((0, False), (1, True), (2, True)):
        assert fooled(attacks.SingleExit(0), ties, [label]) == [expected]


def test_success_and_exits_stay_when_the_loss_changes():
    objective = attacks.AverageExits((0, 2), success="any").with_loss("dlr")
    assert objective.arguments() == {
        "exits": (0, 2),
        "loss": "dlr",
        "success": "any",
    }


def test_one_prediction_of_several_exits_is_their_mean_logits():
    objective = attacks.AverageExits()
    logits, _ = given(objective, DECISIONS, [1, 1, 1])
    combined = objective.combined_logits(logits)
    arrays.close(combined, [[0, 2, 1], [1.5, 2, 1], [1.5, 1.5, 1.5]])


@pytest.mark.parametrize("kind", [attacks.AverageExits, attacks.SingleExit])
def test_a_loss_that_needs_more_classes_than_there_are_is_refused(kind):
    objective = kind(**({"exit": 0} if kind is attacks.SingleExit else {}))
    objective.check(2, num_classes=2)
    dlr = objective.with_loss("dlr")
    dlr.check(2)
    dlr.check(2, num_classes=3)
    with pytest.raises(
        ValueError,
        match="loss='dlr' needs at least 3 classes, received a model of 2. "
        "Use loss='margin'",
    ):
        dlr.check(2, num_classes=2)


@pytest.mark.parametrize("objective", ALL_OBJECTIVES, ids=repr)
def test_round_trip_keeps_every_argument(objective):
    loaded = saving.rebuilt(objective)
    assert type(loaded) is type(objective)
    assert loaded.arguments() == objective.arguments()
    assert loaded.exit_indices(3) == objective.exit_indices(3)


def test_representation_shows_how_to_write_the_objective():
    assert repr(attacks.SingleExit(1)) == (
        "SingleExit(exit=1, loss='cross_entropy')"
    )


@pytest.mark.parametrize(
    ("objective", "index"),
    [
        (attacks.SingleExit(3), 3),
        (attacks.SingleExit(-4), -4),
        (attacks.AverageExits((0, 3)), 3),
    ],
    ids=repr,
)
def test_exits_that_the_model_lacks_are_refused(objective, index):
    with pytest.raises(ValueError) as caught:
        objective.exit_indices(3)
    assert f"Exit index {index} does not exist" in str(caught.value)
    assert "has 3 exits, so expected 0 to 2" in str(caught.value)


def test_one_exit_named_twice_by_its_two_indices_is_refused():
    # With three exits, 2 and -1 are the same.
    objective = attacks.AverageExits(exits=(2, -1))
    assert objective.exit_indices(4) == (2, 3)
    with pytest.raises(ValueError, match="twice"):
        objective.exit_indices(3)
