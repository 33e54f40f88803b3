"""Attacks that search together: what fools one is tried on the others."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import evaluation
from keras_neokd.attacks.search import fresh_state
from keras_neokd.attacks.search import keep_fooled
from keras_neokd.evaluation import search_state
from keras_neokd.evaluation import searching
from tests.evaluation import searches
from tests.evaluation.searches import IMAGES
from tests.evaluation.searches import NAMES
from tests.evaluation.searches import Walk
from tests.training import tiny

RESISTED, WRONG = -1, -2
EPSILON = 0.12


@pytest.fixture(scope="module")
def model():
    """Return a model of two exits that often agree: what fools both exists."""
    inputs = keras.Input((4, 4, 1))
    x = keras.layers.Rescaling(4.0, offset=-2.0)(inputs)
    x = keras.layers.Dense(12, "relu")(keras.layers.Flatten()(x))
    exits = [keras.layers.Dense(tiny.NUM_CLASSES)(x) for _ in NAMES]
    model = tiny.randomized(MultiExitModel(inputs, exits), 2)
    first, second = model.weights[-4::2]
    second.assign(first + 0.4 * second)
    return model


@pytest.fixture(scope="module")
def labels(model):
    return searches.labels_of(model)


def on_each_exit():
    """Return two members against each exit; the second needs gradients."""
    return [
        attacks.WorstCase(
            [Walk(EPSILON, 1, each), tiny.pgd(3, objective=each)], each
        )
        for each in (attacks.SingleExit(0), attacks.SingleExit(1))
    ]


def together(model, labels, found_by=None, **arguments):
    given = {"batch_size": 9, "seed": 3, **arguments}
    return evaluation.search_together(
        model, IMAGES, labels, found_by or on_each_exit(), **given
    )


def alone(model, labels):
    return [
        evaluation.search(model, IMAGES, labels, each, 9, 3)
        for each in on_each_exit()
    ]


def wrong(model, images, labels, name):
    logits = model.predict(images, verbose=0)[name]
    return logits.argmax(axis=1) != labels


def test_no_image_resists_that_would_not_resist_alone(model, labels):
    shared, separate = together(model, labels), alone(model, labels)
    fewer = 0
    for ours, theirs in zip(shared, separate, strict=True):
        np.testing.assert_array_equal(
            ours.fooled_by == WRONG, theirs.fooled_by == WRONG
        )
        resist = ours.fooled_by == RESISTED
        assert (theirs.fooled_by[resist] == RESISTED).all()
        # It leaves no later than alone.
        found = theirs.fooled_by >= 0
        assert (ours.fooled_by[found] <= theirs.fooled_by[found]).all()
        fewer += (theirs.fooled_by == RESISTED).sum() - resist.sum()
        assert ours.attack_names == theirs.attack_names
    # Else nothing was gained by trying.
    assert fewer > 0


def test_what_is_returned_fools_its_own_exit_within_the_ball(model, labels):
    for name, result in zip(NAMES, together(model, labels), strict=True):
        fooled = result.fooled_by != RESISTED
        received = wrong(model, result.adversarial, labels, name)
        np.testing.assert_array_equal(received, fooled)
        moved = np.abs(result.adversarial - IMAGES).max(axis=(1, 2, 3))
        np.testing.assert_array_equal(moved > 0, result.fooled_by >= 0)
        assert moved.max() <= EPSILON + 1e-6


class Fixed(attacks.SearchAttack):
    """Proposes the same image in every attempt, wherever it is aimed."""

    num_steps = 1

    def __init__(self, epsilon, move, objective=None):
        super().__init__(epsilon, "linf", objective)
        self.move = move

    def start(self, problem, attempt):
        return fresh_state(problem.images)

    def advance(self, problem, round_, state):
        images = ops.clip(problem.images + self.move, 0.0, 1.0)
        fooled = problem.fooled(problem.logits(images))
        return {**state, **keep_fooled(state, images, fooled)}


def test_an_image_that_fools_one_exit_is_tried_on_the_others(model, labels):
    exits = [attacks.SingleExit(0), attacks.SingleExit(1)]
    # The second can find nothing by itself.
    found = [Fixed(0.3, 0.3, exits[0]), Fixed(0.3, 0.0, exits[1])]
    first, second = together(model, labels, found)
    moved = np.clip(IMAGES + np.float32(0.3), 0.0, 1.0)
    clean = [wrong(model, IMAGES, labels, name) for name in NAMES]
    after = [wrong(model, moved, labels, name) for name in NAMES]
    np.testing.assert_array_equal(first.fooled_by == 0, after[0] & ~clean[0])
    # Only what fooled the first was tried.
    transferred = after[0] & ~clean[0] & after[1] & ~clean[1]
    np.testing.assert_array_equal(second.fooled_by == 0, transferred)
    assert 0 < transferred.sum() < (after[1] & ~clean[1]).sum()
    np.testing.assert_array_equal(
        second.adversarial[transferred], moved[transferred]
    )


class Boasting(Fixed):
    """Says of every image that it fools."""

    def advance(self, problem, round_, state):
        fooled = ops.ones_like(state["fooled"])
        images = problem.images + self.move
        return {**state, **keep_fooled(state, images, fooled)}


@pytest.mark.parametrize("move", [0.0, 0.5])
def test_images_are_brought_into_the_ball_and_judged_by_the_model(
    model, labels, move
):
    exits = [attacks.SingleExit(0), attacks.SingleExit(1)]
    found = [Boasting(0.1, move, each) for each in exits]
    for name, result in zip(NAMES, together(model, labels, found), strict=True):
        received = wrong(model, result.adversarial, labels, name)
        np.testing.assert_array_equal(received, result.fooled_by != RESISTED)
        assert (result.fooled_by == RESISTED).any()
        assert (result.fooled_by == 0).any() == (move > 0)
        assert np.abs(result.adversarial - IMAGES).max() <= 0.1 + 1e-6
        assert result.adversarial.max() <= 1.0


def test_members_are_in_turn_and_see_only_what_resists(
    model, labels, monkeypatch
):
    separate, seen = alone(model, labels), []
    original = searching.EvaluationSearch.attack

    def spied(self, aim, number, keys):
        left = set(np.flatnonzero(self.fooled_by[aim] == RESISTED))
        seen.append((number, aim, left))
        return original(self, aim, number, keys)

    monkeypatch.setattr(searching.EvaluationSearch, "attack", spied)
    together(model, labels)
    order = [(number, aim) for number, aim, _ in seen]
    assert order == [(0, 0), (0, 1), (1, 0), (1, 1)]
    fewer = 0
    for number, aim, left in seen:
        found = separate[aim].fooled_by
        left_alone = set(
            np.flatnonzero((found == RESISTED) | (found >= number))
        )
        assert left <= left_alone
        fewer += len(left_alone) - len(left)
    assert fewer > 0


def test_members_of_other_kinds_are_refused(model, labels):
    first, second = on_each_exit()
    with pytest.raises(ValueError, match="members of the same kinds"):
        together(model, labels, [first, second.attacks[0]], verbose=0)


@pytest.mark.parametrize("batch_size", [1, 256])
def test_the_batch_size_does_not_matter(model, labels, batch_size):
    results = together(model, labels, batch_size=batch_size)
    for ours, theirs in zip(results, together(model, labels), strict=True):
        np.testing.assert_array_equal(ours.fooled_by, theirs.fooled_by)
        np.testing.assert_allclose(
            ours.adversarial, theirs.adversarial, atol=1e-6
        )


def test_a_line_per_member_of_each_attack(model, labels, capsys):
    together(model, labels, verbose=1)
    lines = capsys.readouterr().out.splitlines()
    assert [each.split(":")[0] for each in lines] == [
        "  Walk (1 of 2)",
        "  Walk (2 of 2)",
        "  PGD (1 of 2)",
        "  PGD (2 of 2)",
    ]


class Stopped(Exception):
    pass


def test_a_search_together_can_be_stopped_and_goes_on(
    model, labels, monkeypatch, tmp_path
):
    monkeypatch.setattr(search_state, "_SECONDS_BETWEEN_SAVES", 0)
    expected = together(model, labels)
    saves = [0]
    save = searching.SearchState.save

    def stopping(self, *arguments):
        saves[0] += 1
        save(self, *arguments)
        if saves[0] % 2 == 0:
            raise Stopped

    monkeypatch.setattr(searching.SearchState, "save", stopping)
    results, stops = None, 0
    while results is None:
        try:
            results = together(model, labels, state_file=tmp_path / "state.npz")
        except Stopped:
            stops += 1
    assert stops > 4
    for ours, theirs in zip(results, expected, strict=True):
        np.testing.assert_array_equal(ours.fooled_by, theirs.fooled_by)
        np.testing.assert_array_equal(ours.adversarial, theirs.adversarial)


def test_the_state_of_a_search_of_other_attacks_is_refused(
    model, labels, tmp_path
):
    path = tmp_path / "state.npz"
    together(model, labels, state_file=path)
    for other in (on_each_exit()[::-1], on_each_exit()[:1]):
        with pytest.raises(ValueError, match=r"it differs in attack\."):
            together(model, labels, other, state_file=path)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ([], ValueError, r"at least one attack .* received \[\]"),
        (
            [Walk(0.1), Walk(0.2)],
            ValueError,
            r"one ball, .* received \[\(0.1, 'linf'\), \(0.2, 'linf'\)\]",
        ),
        (
            [attacks.APGD(0.1), attacks.APGD(0.1, norm="l2")],
            ValueError,
            r"same epsilon and norm of all",
        ),
        ([Walk(0.1), tiny.pgd()], TypeError, "a SearchAttack such as APGD"),
        (Walk(0.1), TypeError, "`attacks` needs a sequence with"),
        (
            [Walk(0.1), Walk(0.1, objective=attacks.SingleExit(2))],
            ValueError,
            "Exit index 2 does not exist",
        ),
    ],
)
def test_what_cannot_search_together_is_refused(
    model, labels, given, error, message
):
    with pytest.raises(error, match=message):
        evaluation.search_together(model, IMAGES, labels, given)
