"""NKD, EOKD and NEO-KD: golden numbers, gradients, the class draw."""

import numpy as np
import pytest
from keras import ops

from keras_neokd import backend
from keras_neokd import methods
from tests import numpy_reference as reference
from tests.methods import given

# One example, three exits, four classes, true class 0. The expected values
# were calculated by hand from Eq. 4 to 7; those of EOKD belong to the draw
# that gives the exits the classes {0, 1}, {0, 2} and {0, 3}.
CLEAN = [[[2.0, 1.0, 0.0, -1.0], [1.5, 0.5, 1.0, -0.5], [3.0, 0.0, 0.5, 1.0]]]
ADVERSARIAL = [
    [[0.5, 1.0, 0.0, -0.5], [0.2, 0.4, 0.6, 0.0], [1.0, 0.8, -0.2, 0.3]]
]
LABELS = [0]
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


def tensor(values, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(values, dtype))


def step_of(seed=0, epoch=0, step=0, size=1, first=0):
    return methods.Position(
        seed=seed,
        epoch=tensor(epoch, "int32"),
        step=tensor(step, "int32"),
        index=tensor(np.arange(first, first + size), "int32"),
    )


def terms_of(method, clean, adversarial, labels, step):
    terms = method(
        given.context(
            tensor(clean), tensor(adversarial), tensor(labels, "int32"), step
        )
    )
    return {term.name: term for term in terms}


def values_of(term):
    return ops.convert_to_numpy(term.values)


def total(terms):
    """Loss of each example: sum over terms and exits."""
    return sum(
        values_of(term) @ np.array(term.weights) for term in terms.values()
    )


def epoch_of_the_golden_draw():
    """First epoch whose draw gives exit i the classes {0, i}."""
    for epoch in range(100):
        key = reference.bits_of_words(0, 0x0E0CD, epoch, 0)
        supports = reference.orthogonal_classes(0, 3, 4, key)
        if supports == [{0, 1}, {0, 2}, {0, 3}]:
            return epoch
    raise ValueError("none of 100 draws is the golden one")


def targets_of(method, clean, labels, step):
    """What the distillation term teaches: softmax minus its gradient."""
    adversarial = np.zeros_like(clean)

    def values(adversarial):
        terms = method(
            given.context(
                tensor(clean), adversarial, tensor(labels, "int32"), step
            )
        )
        return ops.sum(terms[2].values, axis=1)

    _, gradient = backend.value_and_input_gradient(values, tensor(adversarial))
    return 1 / clean.shape[2] - ops.convert_to_numpy(gradient)


def supports_of(method, labels, num_exits=3, **place):
    """Classes that EOKD gives each exit, boolean `(batch, exits, 10)`."""
    # Always ten examples: JAX compiles anew for every batch size.
    padded = np.resize(labels, 10)
    clean = np.zeros((10, num_exits, 10), "float32")
    targets = targets_of(method, clean, padded, step_of(size=10, **place))
    return targets[: len(labels)] > 1e-3


# Golden numbers.


@pytest.mark.parametrize("divergence", ["cross_entropy", "kl"])
def test_golden_terms(divergence):
    step = step_of(epoch=epoch_of_the_golden_draw())
    terms = terms_of(
        methods.NEOKD(divergence=divergence), CLEAN, ADVERSARIAL, LABELS, step
    )
    assert list(terms) == ["clean", "adversarial", "nkd", "eokd"]
    for name in ("nkd", "eokd"):
        np.testing.assert_allclose(
            values_of(terms[name]), [GOLDEN[name][divergence]], atol=1e-5
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
    method = methods.NEOKD(
        nkd_weight=3,
        eokd_weight=1,
        exit_weights=exit_weights,
        divergence=divergence,
    )
    step = step_of(epoch=epoch_of_the_golden_draw())
    terms = terms_of(method, CLEAN, ADVERSARIAL, LABELS, step)
    np.testing.assert_allclose(total(terms), [expected], atol=1e-5)


def test_golden_totals_of_each_part_alone():
    step = step_of(epoch=epoch_of_the_golden_draw())
    weights = (1, 1, 1.5)
    parts = {
        "nkd": methods.NKD(weight=3, exit_weights=weights),
        "eokd": methods.EOKD(weight=1, exit_weights=weights),
    }
    added = {}
    for name, method in parts.items():
        terms = terms_of(method, CLEAN, ADVERSARIAL, LABELS, step)
        assert list(terms) == ["clean", "adversarial", name]
        added[name] = total(terms) - EQUATION_4
        expected = method.weight * np.dot(
            weights, GOLDEN[name]["cross_entropy"]
        )
        np.testing.assert_allclose(added[name], [expected], atol=1e-5)
    np.testing.assert_allclose(
        EQUATION_4 + added["nkd"] + added["eokd"], [23.196681], atol=2e-5
    )


def test_gamma_weighs_distillation_only():
    method = methods.NEOKD(3.0, 0.5, exit_weights=(1, 2, 0))
    terms = terms_of(method, CLEAN, ADVERSARIAL, LABELS, step_of())
    assert terms["clean"].weights == (1, 1, 1)
    assert terms["adversarial"].weights == (1, 1, 1)
    assert terms["nkd"].weights == (3, 6, 0)
    assert terms["eokd"].weights == (0.5, 1, 0)


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
    terms = terms_of(method, CLEAN, ADVERSARIAL, LABELS, step_of())
    plain = terms_of(
        methods.AdversarialTraining(), CLEAN, ADVERSARIAL, LABELS, step_of()
    )
    np.testing.assert_allclose(total(terms), [EQUATION_4], atol=1e-5)
    np.testing.assert_array_equal(total(terms), total(plain))


# NKD.


@pytest.mark.parametrize(
    ("teacher", "radius"), [("none", 0), ("neighbors", 1), ("all", 6)]
)
def test_teacher_choices_are_the_rows_of_table_7(teacher, radius):
    rng = np.random.default_rng(1)
    clean, adversarial = rng.normal(scale=2, size=(2, 10, 7, 10))
    method = methods.NKD(teacher=teacher)

    terms = terms_of(
        method, clean, adversarial, np.arange(10), step_of(size=10)
    )

    expected = reference.soft_cross_entropy(
        adversarial, reference.neighbor_teacher(clean, radius)
    )
    np.testing.assert_allclose(values_of(terms["nkd"]), expected, atol=1e-5)


@pytest.mark.parametrize("radius", [1, 2, 3, 20])
def test_more_neighbors_can_teach(radius):
    clean, adversarial = np.random.default_rng(1).normal(size=(2, 10, 7, 10))
    arguments = (clean, adversarial, np.arange(10), step_of(size=10))
    expected = reference.soft_cross_entropy(
        adversarial, reference.neighbor_teacher(clean, radius)
    )
    for method in (methods.NKD(radius=radius), methods.NEOKD(radius=radius)):
        values = values_of(terms_of(method, *arguments)["nkd"])
        np.testing.assert_allclose(values, expected, atol=1e-5)


def test_temperature_softens_teacher_and_student_without_a_factor():
    rng = np.random.default_rng(2)
    clean, adversarial = rng.normal(scale=2, size=(2, 10, 3, 10))
    terms = terms_of(
        methods.NKD(temperature=2.0),
        clean,
        adversarial,
        np.arange(10),
        step_of(size=10),
    )
    expected = reference.soft_cross_entropy(
        adversarial / 2, reference.neighbor_teacher(clean / 2, 1)
    )
    np.testing.assert_allclose(values_of(terms["nkd"]), expected, atol=1e-5)


# EOKD.


def test_exits_get_disjoint_classes_that_rest_on_the_true_label():
    labels = np.array([0, 0, 3, 3, 9])
    supports = supports_of(methods.EOKD(), labels)

    for row, label in zip(supports, labels, strict=True):
        assert row[:, label].all()
        others = np.delete(row, label, axis=1)
        assert (others.sum(axis=1) == 3).all()
        assert (others.sum(axis=0) == 1).all()
    np.testing.assert_array_equal(supports[0], supports[1])
    np.testing.assert_array_equal(supports[2], supports[3])


def test_true_class_stays_where_the_clean_exit_is_wrong():
    clean = np.zeros((10, 3, 10), "float32")
    clean[:, :, 7] = 12
    labels = np.full(10, 2)
    targets = targets_of(methods.EOKD(), clean, labels, step_of(size=10))
    assert (targets[:, :, 2] > 1e-6).all()
    np.testing.assert_allclose(targets.sum(axis=2), 1, atol=1e-5)


def test_epoch_allocation_is_one_table_per_epoch():
    labels = np.arange(10)

    def table(**place):
        return supports_of(methods.EOKD(), labels, **place)

    first = table()
    np.testing.assert_array_equal(table(step=8, first=50), first)
    others = [table(epoch=1), table(epoch=2), table(seed=1)]
    for i, other in enumerate(others):
        assert (other != first).any()
        for later in others[i + 1 :]:
            assert (other != later).any()


def test_epoch_table_equals_the_reference_on_every_backend():
    supports = supports_of(methods.EOKD(), np.arange(10), seed=3, epoch=4)
    for label, row in enumerate(supports):
        key = reference.bits_of_words(3, 0x0E0CD, 4, label)
        expected = reference.orthogonal_classes(label, 3, 10, key)
        assert [set(np.flatnonzero(each)) for each in row] == expected


def test_batch_allocation_is_redrawn_for_every_step_and_shared_by_label():
    labels = np.array([4, 4, 1, 4])

    def table(**place):
        return supports_of(methods.EOKD(allocation="batch"), labels, **place)

    first = table(step=5)
    np.testing.assert_array_equal(first[0], first[1])
    np.testing.assert_array_equal(first[0], first[3])
    np.testing.assert_array_equal(table(step=5, first=9), first)
    assert (table(step=6) != first).any()
    assert (table(step=5, epoch=1) != first).any()
    assert (table(step=5, seed=1) != first).any()


def test_sample_allocation_gives_every_image_its_own_draw():
    labels = np.full(6, 4)

    def table(**place):
        return supports_of(methods.EOKD(allocation="sample"), labels, **place)

    first = table()
    assert len(np.unique(first, axis=0)) == 6
    assert first[:, :, 4].all()
    # Position in the global batch counts, not in this part of it.
    np.testing.assert_array_equal(table(first=2)[:4], first[2:])
    assert (table(step=1) != first).any()
    assert (table(epoch=1) != first).any()
    assert (table(seed=1) != first).any()


def test_fixed_allocation_is_one_table_for_ever():
    labels = np.arange(10)

    def table(**place):
        return supports_of(methods.EOKD(allocation="fixed"), labels, **place)

    np.testing.assert_array_equal(table(step=8, epoch=3, first=50), table())
    assert (table(seed=1) != table()).any()


def test_left_over_classes_can_be_spread_over_the_first_exits():
    for num_exits, sizes in ((4, (3, 2, 2, 2)), (7, (2, 2, 1, 1, 1, 1, 1))):
        method = methods.EOKD(exit_weights=(1,) * num_exits, left_over="spread")
        supports = supports_of(method, np.arange(10), num_exits=num_exits)
        wrong = supports.copy()
        wrong[np.arange(10), :, np.arange(10)] = False
        assert (wrong.sum(axis=1) <= 1).all()
        assert (wrong.sum(axis=2) == sizes).all()
        assert supports[np.arange(10), :, np.arange(10)].all()
        # The others stay where they were.
        dropped = supports_of(
            methods.EOKD(exit_weights=(1,) * num_exits),
            np.arange(10),
            num_exits=num_exits,
        )
        assert supports[dropped].all()


def test_left_over_classes_have_no_target_at_any_exit():
    supports = supports_of(
        methods.EOKD(exit_weights=(1,) * 4), np.arange(10), num_exits=4
    )
    # 9 wrong classes, 4 exits: 2 each, 1 left over.
    assert (supports.any(axis=1).sum(axis=1) == 9).all()


def test_neo_kd_draws_as_eokd_does():
    clean, adversarial = np.random.default_rng(4).normal(size=(2, 10, 3, 10))
    arguments = (clean, adversarial, np.arange(10), step_of(epoch=6, size=10))
    both = terms_of(methods.NEOKD(), *arguments)
    for name, method in (("nkd", methods.NKD()), ("eokd", methods.EOKD())):
        np.testing.assert_array_equal(
            values_of(both[name]), values_of(terms_of(method, *arguments)[name])
        )


# Gradients.


@pytest.mark.parametrize("name", ["adversarial", "nkd", "eokd"])
@pytest.mark.parametrize("divergence", ["cross_entropy", "kl"])
def test_terms_teach_the_adversarial_logits(name, divergence):
    clean, adversarial = np.random.default_rng(5).normal(
        scale=2, size=(2, 3, 3, 5)
    )
    labels = [0, 3, 2]
    method = methods.NEOKD(divergence=divergence)
    teacher = reference.neighbor_teacher(clean, 1)
    allowed = np.zeros((3, 3, 5))
    for row, label in enumerate(labels):
        key = reference.bits_of_words(0, 0x0E0CD, 0, label)
        supports = reference.orthogonal_classes(label, 3, 5, key)
        for exit_, classes in enumerate(supports):
            allowed[row, exit_, list(classes)] = 1
    targets = {
        "adversarial": np.repeat(np.eye(5)[labels][:, None], 3, axis=1),
        "nkd": teacher,
        "eokd": reference.orthogonal_targets(clean, allowed),
    }[name]
    expected = reference.central_difference(
        lambda x: reference.soft_cross_entropy(x, targets), adversarial
    )

    def values(adversarial):
        labels_and_step = tensor(labels, "int32"), step_of(size=3)
        terms = method(
            given.context(tensor(clean), adversarial, *labels_and_step)
        )
        return ops.sum({each.name: each for each in terms}[name].values, axis=1)

    _, gradient = backend.value_and_input_gradient(values, tensor(adversarial))
    np.testing.assert_allclose(
        ops.convert_to_numpy(gradient), expected, atol=1e-5
    )


@pytest.mark.parametrize("name", ["nkd", "eokd"])
@pytest.mark.parametrize("divergence", ["cross_entropy", "kl"])
def test_teachers_are_not_taught(name, divergence):
    method = methods.NEOKD(divergence=divergence)

    def values(clean):
        labels_and_step = tensor(LABELS, "int32"), step_of()
        terms = method(
            given.context(clean, tensor(ADVERSARIAL), *labels_and_step)
        )
        term = {each.name: each for each in terms}[name]
        # The second summand has gradient 1: there is a path to report.
        return ops.sum(term.values, axis=1) + ops.sum(clean, axis=(1, 2))

    _, gradient = backend.value_and_input_gradient(values, tensor(CLEAN))
    np.testing.assert_array_equal(
        ops.convert_to_numpy(gradient), np.ones((1, 3, 4))
    )


def test_clean_images_are_taught_by_their_labels_alone():
    def values(clean):
        labels_and_step = tensor(LABELS, "int32"), step_of()
        terms = methods.NEOKD()(
            given.context(clean, tensor(ADVERSARIAL), *labels_and_step)
        )
        return sum(
            ops.sum(term.values * tensor(term.weights), axis=1)
            for term in terms
        )

    _, gradient = backend.value_and_input_gradient(values, tensor(CLEAN))
    one_hot = np.eye(4)[LABELS][:, None]
    np.testing.assert_allclose(
        ops.convert_to_numpy(gradient),
        reference.softmax(np.array(CLEAN)) - one_hot,
        atol=1e-6,
    )


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_logits_give_finite_terms(scale):
    clean = np.array(CLEAN) * scale
    for adversarial in (clean, -clean):
        terms = terms_of(methods.NEOKD(), clean, adversarial, LABELS, step_of())
        for term in terms.values():
            assert np.isfinite(values_of(term)).all()


# Arguments.

SHARED = [
    ({"exit_weights": (1, -1)}, ValueError, "`exit_weights` .* received -1"),
    ({"exit_weights": 3}, TypeError, "`exit_weights` needs a sequence"),
    (
        {"divergence": "js"},
        ValueError,
        r"Unknown `divergence` 'js': .*\['cross_entropy', 'kl'\]",
    ),
    ({"temperature": 0}, ValueError, "`temperature` .* > 0, received 0"),
    ({"temperature": "hot"}, TypeError, "`temperature` needs a number"),
]
TEACHER = (
    {"teacher": "last"},
    ValueError,
    r"Unknown `teacher` 'last': .*\['none', 'neighbors', 'all'\]",
)
ALLOCATION = (
    {"allocation": "image"},
    ValueError,
    r"Unknown `allocation` 'image': .*'batch', 'sample', 'fixed'\]",
)


@pytest.mark.parametrize(
    ("method_class", "arguments", "error", "message"),
    [
        *[(methods.NKD, *each) for each in (*SHARED, TEACHER)],
        *[(methods.EOKD, *each) for each in (*SHARED, ALLOCATION)],
        *[(methods.NEOKD, *each) for each in (*SHARED, TEACHER, ALLOCATION)],
        (methods.NKD, {"radius": 0}, ValueError, "`radius` .* >= 1.*0"),
        (methods.EOKD, {"left_over": "x"}, ValueError, "`left_over` 'x'.*drop"),
        (methods.NKD, {"weight": -1}, ValueError, "`weight` .* received -1"),
        (methods.EOKD, {"weight": "1"}, TypeError, "`weight` needs a number"),
        (
            methods.NEOKD,
            {"nkd_weight": -1},
            ValueError,
            "`nkd_weight` needs .* received -1",
        ),
        (
            methods.NEOKD,
            {"eokd_weight": float("inf")},
            ValueError,
            "`eokd_weight` needs .* received inf",
        ),
    ],
)
def test_bad_arguments_are_refused(method_class, arguments, error, message):
    with pytest.raises(error, match=message):
        method_class(**arguments)


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
