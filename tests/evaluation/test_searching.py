"""Searches: as the attack in one step, but on fewer examples."""

from itertools import pairwise

import numpy as np
import pytest
from keras import ops

from keras_neokd import attacks
from keras_neokd import evaluation
from keras_neokd.base import randomness
from keras_neokd.evaluation import search_run
from keras_neokd.evaluation import searching
from keras_neokd.evaluation.searching import SearchResult
from keras_neokd.network.frozen import FrozenForward
from tests import arrays
from tests.evaluation import searches
from tests.evaluation.searches import IMAGES
from tests.evaluation.searches import NAMES
from tests.evaluation.searches import Walk
from tests.evaluation.searches import walk_and_pgd
from tests.training import tiny

RESISTED, WRONG = -1, -2


@pytest.fixture(scope="module")
def model():
    return searches.small_model()


@pytest.fixture(scope="module")
def labels(model):
    return searches.labels_of(model)


@pytest.fixture(scope="module")
def searched(model, labels):
    return evaluation.search(model, IMAGES, labels, walk_and_pgd(), 4)


def all_wrong(model, images, labels, exits=NAMES):
    """Return which images fool all of some exits, by Keras' own `predict`."""
    logits = model.predict(images, verbose=0)
    wrong = [logits[name].argmax(axis=1) != labels for name in exits]
    return np.all(wrong, axis=0)


def in_graph(model, labels, attack, seed=0):
    """Attack all images in one compiled step: the contract of `Attack`."""
    predict = model.exit_logits()
    return tiny.array(attack(predict, IMAGES, labels, seed=seed))


LAST = attacks.SingleExit(-1)
ATTACKS = {
    "apgd": (attacks.APGD(0.1, 6, num_restarts=2), NAMES),
    "fab": (attacks.FAB(0.05, 6, num_restarts=2, objective=LAST), ("exit_2",)),
    "square": (attacks.Square(0.15, 10), NAMES),
    "cw": (attacks.CW(c=10.0, num_steps=12, learning_rate=0.03), NAMES),
    "worst_case": (walk_and_pgd(), NAMES),
}


@pytest.fixture
def short_rounds(monkeypatch):
    """Several rounds of few steps, so that the tests are quick."""
    monkeypatch.setattr(attacks.SearchAttack, "steps_per_round", 4)
    monkeypatch.setattr(attacks.Square, "steps_per_round", 4)


@pytest.mark.parametrize("name", ATTACKS)
def test_equals_the_attack_in_one_step(model, labels, name, short_rounds):
    attack, exits = ATTACKS[name]
    result = evaluation.search(
        model, IMAGES, labels, attack, batch_size=9, seed=3
    )
    expected = in_graph(model, labels, attack, seed=3)
    arrays.close(result.adversarial, expected, atol=1e-5)
    wrong = all_wrong(model, IMAGES, labels, exits)
    fooled = all_wrong(model, expected, labels, exits)
    arrays.equal(result.fooled_by == WRONG, wrong)
    arrays.equal(result.fooled_by == RESISTED, ~fooled)
    # Else nothing was compared.
    assert 0 < (fooled & ~wrong).sum() < len(IMAGES) - wrong.sum()
    assert wrong.sum() >= 1


def test_wrong_and_resisting_images_come_back_as_they_were(searched):
    unharmed = searched.fooled_by < 0
    assert 0 < unharmed.sum() < 24
    moved = np.abs(searched.adversarial - IMAGES).max(axis=(1, 2, 3))
    arrays.equal(moved == 0, unharmed)


def test_an_image_belongs_to_the_first_attack_that_fools_it(
    model, labels, searched
):
    attack = walk_and_pgd()
    assert searched.attack_names == ("PGD", "Walk", "PGD")
    # Each attack alone, with the random numbers of its place in the list.
    keys = randomness.host_bits(0, np.arange(len(IMAGES))).view("int32")
    expected = np.full(len(IMAGES), RESISTED)
    predict = model.exit_logits()
    for number in (2, 1, 0):
        adversarial, _ = attack.members[number].generate(
            predict,
            ops.convert_to_tensor(IMAGES),
            ops.convert_to_tensor(labels),
            randomness.bits(ops.convert_to_tensor(keys), number),
        )
        adversarial = tiny.array(adversarial)
        expected[all_wrong(model, adversarial, labels)] = number
    expected[all_wrong(model, IMAGES, labels)] = WRONG
    arrays.equal(searched.fooled_by, expected)
    assert {WRONG, RESISTED, 0, 1} <= set(expected)


@pytest.mark.parametrize("batch_size", [1, 256])
def test_the_batch_size_does_not_matter(model, labels, searched, batch_size):
    result = evaluation.search(
        model, IMAGES, labels, walk_and_pgd(), batch_size
    )
    arrays.equal(result.fooled_by, searched.fooled_by)
    arrays.close(result.adversarial, searched.adversarial, atol=1e-6)


def test_another_seed_is_another_search(model, labels):
    search = searching.CompiledSearch(model, [Walk(0.2)])
    first, again, other = (
        search(IMAGES, labels, seed)[0].adversarial for seed in (0, 0, 1)
    )
    arrays.equal(first, again)
    assert np.abs(first - other).max() > 0.1


def test_success_is_judged_by_the_objective_of_the_list(model, labels):
    # PGD aims at exit 2 alone; it counts where exit 1 is fooled.
    pgd = tiny.pgd(3, objective=attacks.SingleExit(1))
    attack = attacks.WorstCase([pgd], objective=attacks.SingleExit(0))
    result = evaluation.search(model, IMAGES, labels, attack)
    expected = all_wrong(model, IMAGES, labels, ["exit_1"])
    arrays.equal(result.fooled_by == WRONG, expected)
    found = result.fooled_by == 0
    assert all_wrong(model, result.adversarial, labels, ["exit_1"])[found].all()


def test_anytime_and_craft_search(model, labels):
    attack = Walk(0.2)
    result = evaluation.search(model, IMAGES, labels, attack, seed=2)
    crafted = evaluation.adversarial_images(
        model, IMAGES, labels, attack, seed=2
    )
    arrays.equal(crafted, result.adversarial)
    scored = evaluation.anytime(model, IMAGES, labels, attack, seed=2)
    arrays.equal(scored.search.fooled_by, result.fooled_by)
    some_right = (scored.ranks == 0).any(axis=1).mean()
    assert some_right == pytest.approx(result.robust_accuracy())


@pytest.mark.parametrize("name", ["walk", "worst_case"])
def test_models_in_16_bits_are_judged_by_their_layers(name, monkeypatch):
    """Merged layers, which attacks see, may round to another class."""
    model = searches.small_model(dtype="mixed_bfloat16")
    labels = searches.labels_of(model)
    attack = {"walk": Walk(0.2), "worst_case": walk_and_pgd()}[name]
    merged = FrozenForward.__call__

    def astray(self, images, exits):
        """To these logits, most images are of class 0."""
        ahead = arrays.tensor(100.0 * np.eye(tiny.NUM_CLASSES)[0])
        return tuple(each + ahead for each in merged(self, images, exits))

    monkeypatch.setattr(FrozenForward, "__call__", astray)
    scored = evaluation.anytime(model, IMAGES, labels, attack, seed=2)
    fooled_by, adversarial = scored.search.fooled_by, scored.search.adversarial
    arrays.equal(fooled_by == WRONG, all_wrong(model, IMAGES, labels))
    arrays.equal(fooled_by == RESISTED, (scored.ranks == 0).any(axis=1))
    assert {WRONG, RESISTED, 0} <= set(fooled_by)
    expected = in_graph(model, labels, attack, seed=2)
    arrays.close(adversarial, expected, atol=1e-6)


@pytest.fixture
def attacked(monkeypatch):
    """Examples of each call of a start (attempt) or a round, in order."""
    seen = []
    original = searching.EvaluationSearch._batched

    def spied(self, function, rows, keys, *given, **number):
        if number:
            ((kind, value),) = number.items()
            seen.append((kind, value, set(rows.tolist())))
        return original(self, function, rows, keys, *given, **number)

    monkeypatch.setattr(searching.EvaluationSearch, "_batched", spied)
    return seen


def test_later_attacks_see_only_what_resists(model, labels, attacked):
    attack = attacks.WorstCase([tiny.pgd(1), Walk(0.2, 1), tiny.pgd(3)])
    result = evaluation.search(model, IMAGES, labels, attack, 256)
    starts = [rows for kind, _, rows in attacked if kind == "attempt"]
    for number, rows in enumerate(starts):
        resists = (result.fooled_by == RESISTED) | (result.fooled_by >= number)
        assert rows == set(np.flatnonzero(resists))
    assert len(starts) == 3
    assert len(starts[0]) > len(starts[2])


def test_fooled_images_see_no_further_round_or_attempt(model, labels, attacked):
    evaluation.search(model, IMAGES, labels, Walk(0.2), 256)
    order = [(kind, value) for kind, value, _ in attacked]
    rounds = [("round", 0), ("round", 1)]
    assert order == [("attempt", 0), *rounds, ("attempt", 1), *rounds]
    rows = [each for _, _, each in attacked]
    assert rows[0] == rows[1]
    assert all(later <= earlier for earlier, later in pairwise(rows))
    assert len(rows[-1]) < len(rows[0])


def test_nothing_runs_where_all_are_wrong_already(model, labels, attacked):
    images, labels = IMAGES[: searches.NUM_WRONG], labels[: searches.NUM_WRONG]
    result = evaluation.search(model, images, labels, walk_and_pgd())
    assert (result.fooled_by == WRONG).all()
    assert result.robust_accuracy() == 0
    assert attacked == []


def test_batches_have_one_of_four_sizes(model, labels, monkeypatch):
    sizes = set()
    original = searching.CompiledSearch._compile

    def spied(self, *given):
        compiled = original(self, *given)

        def recorded(images, *more):
            sizes.add(len(images))
            return compiled(images, *more)

        return recorded

    monkeypatch.setattr(searching.CompiledSearch, "_compile", spied)
    monkeypatch.setattr(search_run.backend, "compiles_shapes", lambda: True)
    evaluation.search(model, IMAGES, labels, Walk(0.2), batch_size=16)
    assert {16} < sizes <= {16, 8, 4, 2}


@pytest.mark.parametrize(
    ("compiles", "count", "expected"),
    [
        (True, 16, [16]),
        (True, 40, [16, 16, 8]),
        (True, 9, [16]),
        (True, 8, [8]),
        (True, 3, [4]),
        (True, 1, [2]),
        (True, 0, []),
        (False, 16, [16]),
        (False, 32, [16, 16]),
        (False, 41, [16, 16, 9]),
        (False, 1, [1]),
        (False, 0, []),
    ],
)
def test_examples_are_packed_with_little_padding(
    model, labels, monkeypatch, compiles, count, expected
):
    monkeypatch.setattr(search_run.backend, "compiles_shapes", lambda: compiles)
    searching_ = searching.CompiledSearch(model, [Walk(0.2)], 16)
    state = searching.SearchState(None, None, IMAGES)
    packed = searching.EvaluationSearch(searching_, IMAGES, labels, state)
    places = list(packed._batches(count))
    assert [len(each) for each in places] == expected
    received = np.concatenate([np.zeros(0, int), *places])
    assert set(received) == set(range(count))
    # Only the end is padded.
    np.testing.assert_array_equal(received[:count], np.arange(count))


def test_a_line_per_attack(model, labels, capsys):
    attack = attacks.WorstCase([tiny.pgd(1), Walk(0.2)])
    result = evaluation.search(model, IMAGES, labels, attack, verbose=1)
    counts = [round(24 * share) for share in result.robust_after_each()]
    assert capsys.readouterr().out == (
        f"  PGD: {counts[0]} images attacked, {counts[1]} resist\n"
        f"  Walk: {counts[1]} images attacked, {counts[2]} resist\n"
    )


def test_shares_that_resist_by_hand():
    # Ten images: 2 wrong when clean, 3 resist all, 4 fall to the first
    # attack, none to the second, 1 to the third.
    fooled_by = np.array([WRONG] * 2 + [RESISTED] * 3 + [0] * 4 + [2])
    result = SearchResult(np.zeros((10, 1)), fooled_by, ("a", "b", "c"))
    assert result.robust_accuracy() == pytest.approx(0.3)
    arrays.close(result.robust_after_each(), [0.8, 0.4, 0.4, 0.3])


@pytest.mark.parametrize("attack", [tiny.pgd(), None, "apgd"])
def test_only_attacks_that_search_are_run(model, labels, attack):
    assert not searching.is_search(attack)
    with pytest.raises(TypeError, match="needs a SearchAttack such as APGD"):
        evaluation.search(model, IMAGES, labels, attack)


def test_an_attack_on_an_exit_that_does_not_exist(model, labels):
    attack = Walk(0.1, objective=attacks.SingleExit(2))
    with pytest.raises(ValueError, match="Exit index 2 does not exist"):
        evaluation.search(model, IMAGES, labels, attack)
