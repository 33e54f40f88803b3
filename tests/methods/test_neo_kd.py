"""NKD, EOKD and NEO-KD: golden numbers, gradients, the class draw."""

import itertools

import numpy as np
import pytest
from keras import ops

from keras_neokd import methods
from tests import arrays
from tests.methods import given
from tests.reference import equations as reference

# One example, three exits, four classes, true class 0. The expected values
# were calculated by hand from Eq. 4 to 7; those of EOKD belong to the draw
# that gives the exits the classes {0, 1}, {0, 2} and {0, 3}.
CLEAN = [[[2.0, 1.0, 0.0, -1.0], [1.5, 0.5, 1.0, -0.5], [3.0, 0.0, 0.5, 1.0]]]
ADVERSARIAL = [
    [[0.5, 1.0, 0.0, -0.5], [0.2, 0.4, 0.6, 0.0], [1.0, 0.8, -0.2, 0.3]]
]
LABELS = [0]
EXAMPLE = CLEAN, ADVERSARIAL, LABELS
EQUATION_4 = 5.183907
GOLDEN = {
    "nkd": {
        "cross_entropy": [1.326287, 1.436063, 1.254398],
        "kl": [0.216199, 0.399733, 0.209149],
    },
    "eokd": {
        "cross_entropy": [1.152868, 1.360138, 1.045284],
        "kl": [0.570665, 0.697291, 0.679950],
    },
}


def epoch_of_the_golden_draw():
    """First epoch whose draw gives exit i the classes {0, i}."""
    for epoch in range(100):
        key = reference.eokd_key(0, epoch, 0)
        supports = reference.orthogonal_classes(0, 3, 4, key)
        if supports == [{0, 1}, {0, 2}, {0, 3}]:
            return epoch
    raise ValueError("none of 100 draws is the golden one")


def golden_terms(method):
    epoch = epoch_of_the_golden_draw()
    return given.terms_of(method, *EXAMPLE, epoch=epoch)


def targets_of(method, clean, labels, **place):
    """What the distillation term teaches: softmax minus its gradient."""

    def values(adversarial):
        context = given.context(clean, adversarial, labels, **place)
        return method(context)[2].values

    gradient = given.gradient(values, np.zeros_like(clean))
    return 1 / clean.shape[2] - gradient


def supports_of(method, labels, num_exits=3, **place):
    """Classes that EOKD gives each exit, boolean `(batch, exits, 10)`."""
    # Always ten examples: JAX compiles anew for every batch size.
    padded = np.resize(labels, 10)
    clean = np.zeros((10, num_exits, 10), "float32")
    targets = targets_of(method, clean, padded, **place)
    return targets[: len(labels)] > 1e-3


# Golden numbers.


@pytest.mark.parametrize("divergence", ["cross_entropy", "kl"])
def test_golden_terms(divergence):
    terms = golden_terms(methods.NEOKD(divergence=divergence))
    assert list(terms) == ["clean", "adversarial", "nkd", "eokd"]
    for name in ("nkd", "eokd"):
        arrays.close(
            given.values_of(terms[name]), [GOLDEN[name][divergence]], atol=1e-5
        )


@pytest.mark.parametrize(
    ("divergence", "exit_weights", "expected"),
    [
        ("cross_entropy", None, 20.792442),
        ("cross_entropy", (1, 1, 1), 20.792442),
        ("kl", (1, 1, 1), 9.607054),
        ("cross_entropy", (1, 1, 1.5), 23.196681),
        ("kl", (1, 1, 1.5), 10.260752),
    ],
)
def test_golden_totals_of_equation_7(divergence, exit_weights, expected):
    method = methods.NEOKD(3, 1, exit_weights, divergence=divergence)
    total = given.total(golden_terms(method))
    arrays.close(total, [expected], atol=1e-5)


def test_golden_totals_of_each_part_alone():
    weights = (1, 1, 1.5)
    parts = {"nkd": methods.NKD(3, weights), "eokd": methods.EOKD(1, weights)}
    total = EQUATION_4
    for name, method in parts.items():
        terms = golden_terms(method)
        assert list(terms) == ["clean", "adversarial", name]
        added = given.total(terms) - EQUATION_4
        expected = method.weight * np.dot(
            weights, GOLDEN[name]["cross_entropy"]
        )
        arrays.close(added, [expected], atol=1e-5)
        total = total + added
    arrays.close(total, [23.196681], atol=2e-5)


def test_gamma_weighs_distillation_only():
    method = methods.NEOKD(3.0, 0.5, exit_weights=(1, 2, 0))
    terms = given.terms_of(method, *EXAMPLE)
    assert {name: term.weights for name, term in terms.items()} == {
        "clean": (1, 1, 1),
        "adversarial": (1, 1, 1),
        "nkd": (3, 6, 0),
        "eokd": (0.5, 1, 0),
    }


@pytest.mark.parametrize(
    "method",
    [
        methods.NEOKD(nkd_weight=0, eokd_weight=0),
        methods.NKD(weight=0),
        methods.EOKD(weight=0),
        methods.NEOKD(exit_weights=(0, 0, 0)),
    ],
    ids=repr,
)
def test_without_weight_the_loss_is_equation_4(method):
    found, plain = (
        given.total(given.terms_of(each, *EXAMPLE))
        for each in (method, methods.AdversarialTraining())
    )
    arrays.close(found, [EQUATION_4], atol=1e-5)
    arrays.equal(found, plain)


# NKD.


@pytest.mark.parametrize(
    ("arguments", "radius"),
    [
        ({"teacher": "none"}, 0),  # The rows of Table 7.
        ({"teacher": "neighbors"}, 1),
        ({"teacher": "all"}, 6),
        ({"radius": 1}, 1),
        ({"radius": 2}, 2),
        ({"radius": 3}, 3),
        ({"radius": 20}, 20),
        # Teacher and student are softened, without a factor.
        ({"temperature": 2.0}, 1),
    ],
    ids=str,
)
def test_teachers_are_means_over_neighbors(arguments, radius):
    rng = np.random.default_rng(1)
    clean, adversarial = rng.normal(scale=2, size=(2, 10, 7, 10))
    temperature = arguments.get("temperature", 1.0)
    expected = reference.soft_cross_entropy(
        adversarial / temperature,
        reference.neighbor_teacher(clean / temperature, radius),
    )
    for kind in (methods.NKD, methods.NEOKD):
        terms = given.terms_of(
            kind(**arguments), clean, adversarial, np.arange(10)
        )
        arrays.close(given.values_of(terms["nkd"]), expected, atol=1e-5)


# EOKD.


def test_exits_get_disjoint_classes_that_rest_on_the_true_label():
    labels = np.array([0, 0, 3, 3, 9])
    supports = supports_of(methods.EOKD(), labels)
    for row, label in zip(supports, labels, strict=True):
        assert row[:, label].all()
        others = np.delete(row, label, axis=1)
        assert (others.sum(axis=1) == 3).all()
        assert (others.sum(axis=0) == 1).all()
    arrays.equal(supports[0], supports[1])
    arrays.equal(supports[2], supports[3])


def test_true_class_stays_where_the_clean_exit_is_wrong():
    clean = np.zeros((10, 3, 10), "float32")
    clean[:, :, 7] = 12
    labels = np.full(10, 2)
    targets = targets_of(methods.EOKD(), clean, labels)
    assert (targets[:, :, 2] > 1e-6).all()
    arrays.close(targets.sum(axis=2), 1, atol=1e-5)


def test_epoch_table_equals_the_reference_on_every_backend():
    supports = supports_of(methods.EOKD(), np.arange(10), seed=3, epoch=4)
    for label, row in enumerate(supports):
        key = reference.eokd_key(3, 4, label)
        expected = reference.orthogonal_classes(label, 3, 10, key)
        assert [set(np.flatnonzero(each)) for each in row] == expected


@pytest.mark.parametrize(
    ("allocation", "labels", "same", "others"),
    [
        (
            "epoch",
            np.arange(10),
            [{"step": 8, "first": 50}],
            [{"epoch": 1}, {"epoch": 2}, {"seed": 1}],
        ),
        (
            "batch",
            [4, 4, 1, 4],
            [{"first": 9}],
            [{"step": 1}, {"epoch": 1}, {"seed": 1}],
        ),
        (
            "sample",
            [4] * 6,
            [],
            [{"step": 1}, {"epoch": 1}, {"seed": 1}, {"first": 20}],
        ),
        (
            "fixed",
            np.arange(10),
            [{"step": 8, "epoch": 3, "first": 50}],
            [{"seed": 1}],
        ),
    ],
)
def test_a_draw_lasts_as_long_as_its_allocation(
    allocation, labels, same, others
):
    def table(**place):
        method = methods.EOKD(allocation=allocation)
        return supports_of(method, labels, **place)

    first = table()
    for place in same:
        arrays.equal(table(**place), first)
    others = [first, *(table(**place) for place in others)]
    for earlier, later in itertools.combinations(others, 2):
        assert (earlier != later).any()


def test_batch_allocation_is_shared_by_label():
    table = supports_of(methods.EOKD(allocation="batch"), [4, 4, 1, 4])
    arrays.equal(table[[1, 3]], table[[0, 0]])


def test_sample_allocation_gives_every_image_its_own_draw():
    method, labels = methods.EOKD(allocation="sample"), np.full(6, 4)
    table = supports_of(method, labels)
    assert len(np.unique(table, axis=0)) == 6
    assert table[:, :, 4].all()
    # Position in the global batch counts, not in this part of it.
    arrays.equal(supports_of(method, labels, first=2)[:4], table[2:])


def test_left_over_classes_can_be_spread_over_the_first_exits():
    for num_exits, sizes in ((4, (3, 2, 2, 2)), (7, (2, 2, 1, 1, 1, 1, 1))):
        method = methods.EOKD(exit_weights=(1,) * num_exits, left_over="spread")
        supports = supports_of(method, np.arange(10), num_exits=num_exits)
        wrong = supports.copy()
        wrong[np.arange(10), :, np.arange(10)] = False
        assert (wrong.sum(axis=1) <= 1).all()
        assert (wrong.sum(axis=2) == sizes).all()
        assert supports[np.arange(10), :, np.arange(10)].all()
        # The others stay where they were, or have no target at any exit.
        method = methods.EOKD(exit_weights=(1,) * num_exits)
        dropped = supports_of(method, np.arange(10), num_exits=num_exits)
        assert supports[dropped].all()
        kept = 1 + 9 // num_exits * num_exits
        assert (dropped.any(axis=1).sum(axis=1) == kept).all()


def test_neo_kd_draws_as_eokd_does():
    clean, adversarial = np.random.default_rng(4).normal(size=(2, 10, 3, 10))
    arguments = clean, adversarial, np.arange(10)
    both = given.terms_of(methods.NEOKD(), *arguments, epoch=6)
    for name, method in (("nkd", methods.NKD()), ("eokd", methods.EOKD())):
        alone = given.terms_of(method, *arguments, epoch=6)
        arrays.equal(given.values_of(both[name]), given.values_of(alone[name]))


# Gradients; tests/methods/test_battery.py has those of the weights.


@pytest.mark.parametrize("name", ["nkd", "eokd"])
@pytest.mark.parametrize("divergence", ["cross_entropy", "kl"])
def test_teachers_are_not_taught(name, divergence):
    method = methods.NEOKD(divergence=divergence)

    def values(clean):
        term = given.terms_of(method, clean, ADVERSARIAL, LABELS)[name]
        # The second summand has gradient 1: there is a path to report.
        return term.values + ops.sum(clean, axis=2)

    arrays.equal(given.gradient(values, CLEAN), np.ones((1, 3, 4)))


@pytest.mark.parametrize("name", ["nkd", "eokd"])
def test_both_divergences_teach_alike(name):
    def gradient(divergence):
        method = methods.NEOKD(divergence=divergence)
        return given.gradient(
            lambda x: given.terms_of(method, CLEAN, x, LABELS)[name].values,
            ADVERSARIAL,
        )

    expected = gradient("cross_entropy")
    assert np.abs(expected).max() > 1e-3
    arrays.close(gradient("kl"), expected, atol=1e-6)


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_logits_give_finite_terms(scale):
    clean = np.array(CLEAN) * scale
    for adversarial in (clean, -clean):
        terms = given.terms_of(methods.NEOKD(), clean, adversarial, LABELS)
        for term in terms.values():
            assert np.isfinite(given.values_of(term)).all()


# Models.


@pytest.mark.parametrize("method_class", [methods.EOKD, methods.NEOKD])
def test_fewer_wrong_classes_than_exits_are_refused(method_class):
    method_class().validate(given.model(3, 4))
    with pytest.raises(
        ValueError,
        match="with 3 exits it needs at least 4 classes, the model has 3",
    ):
        method_class().validate(given.model(3, 3))


def test_nkd_needs_no_spare_classes():
    methods.NKD().validate(given.model(7, 2))
