"""Losses: golden numbers, class draws, stability and gradients."""

import itertools

import numpy as np
import pytest
from keras import ops
from scipy import stats

from keras_neokd import backend
from keras_neokd import losses
from keras_neokd.base import randomness
from tests.reference import equations as reference

# One example, three exits, four classes, true class 0. The expected values
# were calculated by hand from Eq. 4 to 6 of NEO-KD.
CLEAN = [[2.0, 1.0, 0.0, -1.0], [1.5, 0.5, 1.0, -0.5], [3.0, 0.0, 0.5, 1.0]]
ADVERSARIAL = [
    [0.5, 1.0, 0.0, -0.5],
    [0.2, 0.4, 0.6, 0.0],
    [1.0, 0.8, -0.2, 0.3],
]
LABELS = [0]
SUPPORTS = [{0, 1}, {0, 2}, {0, 3}]
TEACHER = [
    [0.558953, 0.205627, 0.187317, 0.048103],
    [0.635681, 0.150181, 0.146470, 0.067668],
    [0.631564, 0.106830, 0.176133, 0.085473],
]
EOKD_TARGETS = [
    [0.731059, 0.268941, 0, 0],
    [0.622459, 0, 0.377541, 0],
    [0.880797, 0, 0, 0.119203],
]


def tensor(values, dtype="float32"):
    return ops.convert_to_tensor(np.asarray(values, dtype))


def golden():
    """Clean and adversarial logits, labels: `(1, 3, 4)`, same, `(1,)`."""
    return tensor([CLEAN]), tensor([ADVERSARIAL]), tensor(LABELS, "int32")


def allowed_for(supports, num_classes):
    """Boolean `(1, exits, classes)` from one set of classes per exit."""
    classes = range(num_classes)
    return np.array([[[c in each for c in classes] for each in supports]])


def random_logits(num_examples=6, num_exits=3, num_classes=10, scale=2.0):
    shape = (num_examples, num_exits, num_classes)
    return np.random.default_rng(5).normal(scale=scale, size=shape)


def assert_golden(received, expected):
    np.testing.assert_allclose(
        np.squeeze(ops.convert_to_numpy(received)), expected, atol=1e-5
    )


def assert_close(received, expected, atol=1e-5):
    np.testing.assert_allclose(
        ops.convert_to_numpy(received), expected, atol=atol
    )


# Golden numbers.


def test_golden_numbers():
    clean, adversarial, labels = golden()
    teacher = losses.neighbor_teacher(clean)
    targets = losses.orthogonal_targets(clean, allowed_for(SUPPORTS, 4))
    assert_golden(teacher, TEACHER)
    assert_golden(targets, EOKD_TARGETS)
    for function, arguments, expected in (
        (losses.cross_entropy, (clean, labels), [0.440190, 0.746567, 0.236816]),
        (
            *(losses.cross_entropy, (adversarial, labels)),
            [1.287339, 1.511154, 0.961841],
        ),
        (
            *(losses.soft_cross_entropy, (adversarial, teacher)),
            [1.326287, 1.436063, 1.254398],
        ),
        (
            *(losses.kl_divergence, (adversarial, teacher)),
            [0.216199, 0.399733, 0.209149],
        ),
        (
            *(losses.soft_cross_entropy, (adversarial, targets)),
            [1.152868, 1.360138, 1.045284],
        ),
        (
            *(losses.kl_divergence, (adversarial, targets)),
            [0.570665, 0.697291, 0.679950],
        ),
    ):
        assert_golden(function(*arguments), expected)


# Each loss against its definition, on random logits.


def test_cross_entropy_equals_its_definition_for_one_and_for_many_exits():
    logits, labels = random_logits(), np.array([0, 1, 2, 9, 9, 4])
    expected = reference.cross_entropy(logits, labels)
    many = losses.cross_entropy(tensor(logits), tensor(labels, "int32"))
    one = losses.cross_entropy(tensor(logits[:, 1]), tensor(labels, "int32"))
    assert many.shape == (6, 3)
    assert_close(many, expected)
    assert one.shape == (6,)
    assert_close(one, expected[:, 1])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_soft_losses_equal_their_definitions(temperature):
    logits = random_logits()
    targets = reference.softmax(random_logits(scale=1.0)[::-1])
    expected = reference.soft_cross_entropy(logits, targets, temperature)
    arguments = (tensor(logits), tensor(targets), temperature)
    assert_close(losses.soft_cross_entropy(*arguments), expected)
    assert_close(
        losses.kl_divergence(*arguments), expected - reference.entropy(targets)
    )


def test_soft_cross_entropy_with_one_hot_targets_is_cross_entropy():
    logits, labels = random_logits(), np.array([0, 1, 2, 9, 9, 4])
    targets = np.repeat(np.eye(10)[labels][:, None], 3, axis=1)
    soft = losses.soft_cross_entropy(tensor(logits), tensor(targets))
    assert_close(soft, reference.cross_entropy(logits, labels))
    # One-hot targets have no entropy.
    assert_close(losses.kl_divergence(tensor(logits), tensor(targets)), soft)


def test_divergence_from_itself_is_zero_and_never_negative():
    logits = random_logits()
    same = losses.kl_divergence(
        tensor(logits), tensor(reference.softmax(logits))
    )
    other = losses.kl_divergence(
        tensor(logits), tensor(reference.softmax(logits[::-1]))
    )
    assert_close(same, np.zeros((6, 3)))
    assert (ops.convert_to_numpy(other) > 0).all()


# Neighbour teacher.


@pytest.mark.parametrize(
    ("num_exits", "radius"),
    [
        *((7, 0), (7, 1), (7, 2), (7, 3), (5, None)),
        *((1, 0), (1, 1), (1, None), (2, 1)),
    ],
)
def test_teacher_is_the_mean_over_neighbours_that_exist(num_exits, radius):
    clean = random_logits(num_exits=num_exits)
    teacher = ops.convert_to_numpy(
        losses.neighbor_teacher(tensor(clean), radius)
    )
    # Without a radius, all are neighbours.
    number = num_exits if radius is None else radius
    assert_close(teacher, reference.neighbor_teacher(clean, number))
    assert_close(teacher.sum(axis=-1), np.ones((6, num_exits)))
    if num_exits == 2:
        np.testing.assert_array_equal(teacher[:, 0], teacher[:, 1])


def test_equal_logits_everywhere_make_distillation_the_entropy():
    one = random_logits(num_exits=1)
    clean = np.repeat(one, 4, axis=1)
    teacher = losses.neighbor_teacher(tensor(clean))
    expected = reference.entropy(reference.softmax(clean))
    assert_close(losses.soft_cross_entropy(tensor(clean), teacher), expected)
    assert_close(losses.kl_divergence(tensor(clean), teacher), np.zeros((6, 4)))


def test_temperature_softens_the_predictions_before_their_mean():
    clean = random_logits()
    teacher = losses.neighbor_teacher(tensor(clean), temperature=2.0)
    assert_close(teacher, reference.neighbor_teacher(clean / 2, 1))


# The draw of classes.


def draw(labels, keys, num_exits, num_classes):
    """Boolean array `(batch, exits, classes)`."""

    def function(labels, keys):
        return losses.orthogonal_classes(labels, num_exits, num_classes, keys)

    compiled = backend.compile_function(function, [])
    keys = np.array(keys, "uint32").view("int32")
    return ops.convert_to_numpy(
        compiled(tensor(labels, "int32"), tensor(keys, "int32"))
    )


def test_paper_toy_gives_each_exit_the_true_and_one_other_class():
    labels = np.full(64, 1)
    allowed = draw(labels, randomness.host_bits(0, np.arange(64)), 3, 4)
    others = np.delete(allowed, 1, axis=2)
    assert allowed[:, :, 1].all()
    assert (others.sum(axis=2) == 1).all()
    assert (others.sum(axis=1) == 1).all()
    # Every order turns up.
    assert len(np.unique(others.argmax(axis=2), axis=0)) == 6
    clean = random_logits(64, 3, 4)
    targets = losses.orthogonal_targets(tensor(clean), allowed)
    assert_close(ops.sum(targets, axis=-1), np.ones((64, 3)))
    off_true = np.delete(ops.convert_to_numpy(targets), 1, axis=2)
    for first, second in itertools.combinations(range(3), 2):
        assert (off_true[:, first] * off_true[:, second]).sum() == 0


@pytest.mark.parametrize(
    ("num_exits", "num_classes"),
    [(3, 4), (3, 10), (7, 100), (5, 200), (5, 1000), (1, 2), (2, 3), (4, 5)],
)
def test_chunks_have_the_exact_size_and_do_not_overlap(num_exits, num_classes):
    labels = np.arange(40) % num_classes
    size = (num_classes - 1) // num_exits
    allowed = draw(
        labels, randomness.host_bits(1, labels), num_exits, num_classes
    )
    assert allowed.shape == (40, num_exits, num_classes)
    true = np.eye(num_classes, dtype=bool)[labels]
    assert allowed[np.repeat(true[:, None], num_exits, axis=1)].all()
    others = allowed & ~true[:, None]
    assert (others.sum(axis=2) == size).all()
    assert (others.sum(axis=1) <= 1).all()
    left_over = (~others.any(axis=1) & ~true).sum(axis=1)
    assert (left_over == (num_classes - 1) - size * num_exits).all()


def test_fewer_wrong_classes_than_exits_are_refused():
    with pytest.raises(ValueError, match="received 3 classes and 3 exits"):
        losses.orthogonal_classes(np.zeros(2), 3, 3, np.zeros(2, "int32"))


def test_draw_equals_the_reference_so_all_backends_agree():
    labels = np.array([0, 3, 9, 9, 5])
    keys = [reference.bits_of_words(2, each) for each in range(5)]
    allowed = draw(labels, keys, 3, 10)
    for row, label, key in zip(allowed, labels, keys, strict=True):
        expected = reference.orthogonal_classes(label, 3, 10, key)
        assert [set(np.flatnonzero(each)) for each in row] == expected


def test_draw_depends_on_the_key_and_not_on_the_batch():
    labels = np.full(20, 4)
    keys = randomness.host_bits(3, np.arange(20))
    together = draw(labels, keys, 3, 10)
    alone = draw(labels[7:8], keys[7:8], 3, 10)
    same_key = draw(labels, np.repeat(keys[7:8], 20), 3, 10)
    np.testing.assert_array_equal(alone[0], together[7])
    assert (same_key == same_key[:1]).all()
    assert len(np.unique(together, axis=0)) == 20


def test_every_class_is_as_likely_in_every_chunk():
    # 10 classes, 4 exits of 2 classes, 1 left over.
    draws = 6000
    labels = np.full(draws, 2)
    allowed = draw(labels, randomness.host_bits(4, np.arange(draws)), 4, 10)
    counts = np.delete(allowed, 2, axis=2).sum(axis=0)
    for each in counts.T:
        observed = [*each, draws - each.sum()]
        expected = np.array([2, 2, 2, 2, 1]) * draws / 9
        assert stats.chisquare(observed, expected).pvalue > 1e-4


def test_every_order_of_classes_is_as_likely():
    draws = 6000
    labels = np.full(draws, 0)
    allowed = draw(labels, randomness.host_bits(5, np.arange(draws)), 4, 5)
    orders = allowed[:, :, 1:].argmax(axis=2)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 24
    assert stats.chisquare(counts).pvalue > 1e-3


def test_draws_of_consecutive_keys_and_of_two_labels_are_independent():
    draws = 6000
    index = np.arange(draws)
    orders = []
    for label in (0, 1):
        keys = randomness.host_bits(6, index, label)
        allowed = draw(np.full(draws, label), keys, 3, 4)
        others = np.delete(allowed, label, axis=2).argmax(axis=2)
        orders.append(others[:, 0] * 3 + others[:, 1])
    pairs = {
        "labels": (orders[0], orders[1]),
        "consecutive keys": (orders[0][1:], orders[0][:-1]),
    }
    for name, (first, second) in pairs.items():
        table = stats.contingency.crosstab(first, second).count
        assert table.shape == (6, 6)
        assert stats.chi2_contingency(table).pvalue > 1e-3, name


# EOKD targets.


def test_targets_are_kept_probabilities_divided_by_their_sum():
    clean = random_logits()
    labels = np.array([0, 1, 2, 9, 9, 4])
    allowed = draw(labels, randomness.host_bits(7, labels), 3, 10)
    targets = ops.convert_to_numpy(
        losses.orthogonal_targets(tensor(clean), allowed)
    )
    assert_close(targets, reference.orthogonal_targets(clean, allowed))
    assert (targets[~allowed] == 0).all()
    assert (targets[allowed] > 0).all()


def test_target_temperature_softens_the_logits():
    clean = random_logits(1, 3, 4)
    allowed = allowed_for(SUPPORTS, 4)
    targets = losses.orthogonal_targets(tensor(clean), allowed, 2.5)
    assert_close(targets, reference.orthogonal_targets(clean / 2.5, allowed))


# Extreme logits.


@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_losses_of_extreme_logits_are_exact(scale):
    logits = tensor([[[scale, 0.0, -scale]]])
    high, low = (0, 2) if scale > 0 else (2, 0)
    best, worst = tensor([high], "int32"), tensor([low], "int32")
    assert_close(losses.cross_entropy(logits, best), [[0]])
    assert_close(losses.cross_entropy(logits, worst), [[2e4]])
    assert_close(losses.margin(logits, best), [[-1e4]])
    assert_close(losses.margin(logits, worst), [[2e4]])


def test_distillation_of_extreme_logits_is_exact():
    extreme = tensor([[[1e4, 0.0, -1e4]]])
    teacher = losses.neighbor_teacher(extreme)
    assert_close(teacher, [[[1, 0, 0]]])
    opposite = losses.soft_cross_entropy(-extreme, teacher)
    assert_close(opposite, [[2e4]])
    assert_close(losses.kl_divergence(-extreme, teacher), [[2e4]])


def test_targets_stay_exact_where_all_kept_probabilities_vanish():
    # The softmax of the kept classes underflows: naive division gives 0 / 0.
    clean = tensor([[[-1e4, -1e4 + 1.0, 1e4]]])
    allowed = np.array([[[True, True, False]]])
    targets = losses.orthogonal_targets(clean, allowed)
    assert_close(targets, [[[0.268941, 0.731059, 0]]])


def test_gradients_of_extreme_logits_are_finite():
    labels = tensor([0], "int32")
    allowed = np.array([[[True, True, False]]])
    for sign in (1.0, -1.0):
        logits = tensor([[[sign * 1e4, 0.0, -sign * 1e4]]])
        targets = losses.orthogonal_targets(logits, allowed)
        for function in (
            lambda x: losses.cross_entropy(x, labels)[:, 0],
            lambda x: losses.margin(x, labels)[:, 0],
            lambda x, q=targets: losses.soft_cross_entropy(x, q)[:, 0],
            lambda x, q=targets: losses.kl_divergence(x, q)[:, 0],
        ):
            _, gradient = backend.value_and_input_gradient(function, logits)
            assert np.isfinite(ops.convert_to_numpy(gradient)).all()


# Gradients against central differences of the reference in float64.

GRADIENT_LABELS = np.array([0, 3, 2])


def gradient_case():
    rng = np.random.default_rng(3)
    logits = rng.normal(scale=2, size=(3, 3, 5))
    clean = rng.normal(scale=2, size=(3, 3, 5))
    keys = randomness.host_bits(8, GRADIENT_LABELS)
    return logits, clean, draw(GRADIENT_LABELS, keys, 3, 5)


def loss_pairs(temperature):
    """The Keras and the NumPy version of each loss of adversarial logits."""
    _, clean, allowed = gradient_case()
    labels = tensor(GRADIENT_LABELS, "int32")
    softened = clean / temperature
    teacher = reference.neighbor_teacher(softened, 1)
    targets = reference.orthogonal_targets(softened, allowed)
    keras_teacher = losses.neighbor_teacher(tensor(clean), 1, temperature)
    keras_targets = losses.orthogonal_targets(
        tensor(clean), allowed, temperature
    )

    def soft(targets):
        return lambda x: reference.soft_cross_entropy(x, targets, temperature)

    return {
        "cross_entropy": (
            lambda x: losses.cross_entropy(x, labels),
            lambda x: reference.cross_entropy(x, GRADIENT_LABELS),
        ),
        "nkd": (
            lambda x: losses.soft_cross_entropy(x, keras_teacher, temperature),
            soft(teacher),
        ),
        "nkd_kl": (
            lambda x: losses.kl_divergence(x, keras_teacher, temperature),
            soft(teacher),
        ),
        "eokd": (
            lambda x: losses.soft_cross_entropy(x, keras_targets, temperature),
            soft(targets),
        ),
        "eokd_kl": (
            lambda x: losses.kl_divergence(x, keras_targets, temperature),
            soft(targets),
        ),
        "margin": (
            lambda x: losses.margin(x, labels),
            lambda x: np.stack(
                [reference.margin(x[:, i], GRADIENT_LABELS) for i in range(3)]
            ),
        ),
    }


@pytest.mark.parametrize(
    ("name", "temperature"),
    [
        ("cross_entropy", 1.0),
        ("margin", 1.0),
        ("nkd", 1.0),
        ("nkd_kl", 2.0),
        ("eokd", 2.0),
        ("eokd_kl", 1.0),
    ],
)
def test_gradient_equals_central_differences(name, temperature):
    logits, _, _ = gradient_case()
    ours, definition = loss_pairs(temperature)[name]
    _, gradient = backend.value_and_input_gradient(
        lambda x: ops.sum(ours(x), axis=1), tensor(logits)
    )
    expected = reference.central_difference(definition, logits)
    assert abs(expected).max() > 0.1
    assert_close(gradient, expected, atol=1e-5)
