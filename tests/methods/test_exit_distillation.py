"""SKD and ARD against plain NumPy."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import backend
from keras_neokd import methods
from tests import numpy_reference as reference
from tests.methods import given

RNG = np.random.default_rng(0)
CLEAN, ADVERSARIAL = RNG.normal(size=(2, 5, 3, 4)).astype("float32")
LABELS = np.array([0, 3, 3, 1, 2], "int32")
STEP = methods.Position(seed=0, epoch=0, step=0, index=np.arange(5))
EQUATION_4 = (
    reference.cross_entropy(CLEAN, LABELS)
    + reference.cross_entropy(ADVERSARIAL, LABELS)
).sum(axis=1)


def terms_of(method, clean=CLEAN, adversarial=ADVERSARIAL):
    terms = method(
        given.context(
            ops.convert_to_tensor(clean),
            ops.convert_to_tensor(adversarial),
            ops.convert_to_tensor(LABELS),
            STEP,
        )
    )
    return {term.name: term for term in terms}


def total(method):
    """Loss of each example."""
    return sum(
        ops.convert_to_numpy(term.values) @ np.array(term.weights)
        for term in terms_of(method).values()
    )


def kl(teacher, student, temperature):
    """`KL(teacher || student)` of logits, as a sum over classes."""
    p = reference.softmax(teacher / temperature)
    q = reference.softmax(student / temperature)
    return np.sum(p * (np.log(p) - np.log(q)), axis=-1)


# SKD.


def test_skd_teaches_the_earlier_exits_on_both_kinds_of_images():
    expected = EQUATION_4 + 0.35 * sum(
        kl(logits[:, 2], logits[:, exit], 1.5)
        for logits in (CLEAN, ADVERSARIAL)
        for exit in (0, 1)
    )
    np.testing.assert_allclose(total(methods.SKD()), expected, atol=1e-5)


def test_skd_of_another_exit_teaches_all_but_itself():
    expected = EQUATION_4 + 0.5 * sum(
        kl(logits[:, 1], logits[:, exit], 2.0)
        for logits in (CLEAN, ADVERSARIAL)
        for exit in (0, 2)
    )
    method = methods.SKD(0.5, 2.0, teacher=1)
    np.testing.assert_allclose(total(method), expected, atol=1e-5)


def test_skd_of_the_ensemble_teaches_all():
    terms = terms_of(
        methods.SKD(teacher="ensemble", divergence="cross_entropy")
    )
    for name, logits in (
        ("clean_skd", CLEAN),
        ("adversarial_skd", ADVERSARIAL),
    ):
        mean = reference.softmax(logits / 1.5).mean(axis=1, keepdims=True)
        np.testing.assert_allclose(
            ops.convert_to_numpy(terms[name].values),
            reference.soft_cross_entropy(logits, mean, 1.5),
            atol=1e-5,
        )
        assert terms[name].weights == (0.35, 0.35, 0.35)


def test_skd_of_phuong_shares_the_weight_with_the_labels():
    def soft(logits, exit):
        target = reference.softmax(logits[:, 2] / 4)
        return reference.soft_cross_entropy(logits[:, exit], target, 4.0)

    distillation = sum(
        16 * soft(logits, exit)
        for logits in (CLEAN, ADVERSARIAL)
        for exit in (0, 1)
    )
    expected = 10 / 3 * (0.5 * EQUATION_4 + 0.5 * distillation)
    method = methods.SKD.phuong()
    np.testing.assert_allclose(total(method), expected, rtol=1e-5)


# ARD.


def test_ard_teaches_the_attacked_last_exit_by_the_clean_one():
    expected = EQUATION_4 + kl(CLEAN[:, 2], ADVERSARIAL[:, 2], 1.0)
    np.testing.assert_allclose(total(methods.ARD()), expected, atol=1e-5)


def test_ard_of_goldblum_is_the_mean_over_elements_at_temperature_30():
    distillation = 30.0**2 * kl(CLEAN[:, 2], ADVERSARIAL[:, 2], 30.0) / 4
    np.testing.assert_allclose(
        total(methods.ARD.goldblum()), EQUATION_4 + distillation, atol=2e-4
    )


def test_ard_with_other_teachers_and_students():
    method = methods.ARD(0.5, 2.0, teacher=0, student="all")
    expected = EQUATION_4 + 0.5 * 4 * sum(
        kl(CLEAN[:, 0], ADVERSARIAL[:, exit], 2.0) for exit in range(3)
    )
    np.testing.assert_allclose(total(method), expected, atol=1e-5)

    method = methods.ARD(1.0, 2.0, "ensemble", 1, "cross_entropy")
    mean = reference.softmax(CLEAN / 2).mean(axis=1)
    expected = EQUATION_4 + 4 * reference.soft_cross_entropy(
        ADVERSARIAL[:, 1], mean, 2.0
    )
    np.testing.assert_allclose(total(method), expected, atol=1e-5)


def test_the_mean_over_elements_is_weaker_by_the_number_of_classes():
    by_sum = total(methods.ARD()) - EQUATION_4
    by_mean = total(methods.ARD(reduction="mean")) - EQUATION_4
    np.testing.assert_allclose(by_mean, by_sum / 4, atol=1e-4)


# Teachers are not taught.


def gradient_to_clean_logits(method):
    adversarial = ops.convert_to_tensor(ADVERSARIAL)

    def extra(clean):
        terms = method.extra_terms(
            given.context(clean, adversarial, LABELS, STEP)
        )
        # Backends refuse what does not depend on the input at all.
        return 0.0 * ops.sum(clean, axis=(1, 2)) + sum(
            ops.sum(term.values * ops.convert_to_tensor(term.weights), axis=1)
            for term in terms
        )

    _, gradient = backend.value_and_input_gradient(
        extra, ops.convert_to_tensor(CLEAN)
    )
    return ops.convert_to_numpy(gradient)


@pytest.mark.parametrize("teacher", [0, -1, "ensemble"])
def test_clean_predictions_that_teach_ard_are_not_taught(teacher):
    gradient = gradient_to_clean_logits(methods.ARD(teacher=teacher))
    np.testing.assert_array_equal(gradient, 0)


@pytest.mark.parametrize("teacher", [0, 1, -1, "ensemble"])
def test_exits_are_taught_by_skd_as_students_only(teacher):
    p = reference.softmax(CLEAN / 1.5)
    if teacher == "ensemble":
        target = p.mean(axis=1, keepdims=True)
    else:
        target = p[:, [teacher]]
    # The gradient of a soft cross-entropy with fixed targets; it is zero for
    # the teaching exit, whose target is its own prediction.
    expected = 0.35 * (p - target) / 1.5
    gradient = gradient_to_clean_logits(methods.SKD(teacher=teacher))
    np.testing.assert_allclose(gradient, expected, atol=1e-6)


# Sums.


def test_a_sum_has_the_base_once_and_the_extras_of_all():
    method = methods.NKD(exit_weights=(1, 1, 1)) + 0.5 * methods.ARD(2.0)
    assert method.term_names(3) == ("clean", "adversarial", "nkd", "ard")
    parts = (
        total(methods.NKD(exit_weights=(1, 1, 1)))
        - EQUATION_4
        + 0.5 * (total(methods.ARD(2.0)) - EQUATION_4)
    )
    np.testing.assert_allclose(total(method), EQUATION_4 + parts, atol=5e-4)


def test_sums_are_flat_and_weights_multiply():
    left = (methods.NKD() + methods.SKD()) + methods.ARD()
    right = methods.NKD() + (methods.SKD() + methods.ARD())
    assert repr(left) == repr(right)
    assert [weight for weight, _ in left.summands] == [1.0, 1.0, 1.0]
    scaled = methods.NKD() + 2 * (0.5 * methods.SKD() + methods.ARD() * 3)
    assert [weight for weight, _ in scaled.summands] == [1.0, 1.0, 6.0]


def test_the_base_is_that_of_the_first_method():
    triple_wins = methods.AdversarialTraining(0.5, 0.5)
    weights = (triple_wins + methods.ARD()).base_weights(3)
    assert weights == ((0.5,) * 3, (0.5,) * 3)
    weights = (0.1 * methods.ARD() + triple_wins).base_weights(3)
    assert weights == ((1.0,) * 3, (1.0,) * 3)


def test_a_sum_survives_a_round_trip():
    method = methods.NEOKD() + 0.5 * methods.ARD()
    config = keras.saving.serialize_keras_object(method)
    loaded = keras.saving.deserialize_keras_object(config)
    assert repr(loaded) == repr(method)
    np.testing.assert_array_equal(total(loaded), total(method))


def test_every_method_of_a_sum_must_fit_the_model():
    method = methods.AdversarialTraining() + methods.ARD(teacher=4)
    with pytest.raises(ValueError, match="`teacher` needs an exit from 0 to 2"):
        method.validate(given.model(3, 10))


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: methods.NKD() + methods.NEOKD(), ValueError, "different name"),
        (lambda: -1 * methods.NKD(), ValueError, "weight of a method.*>= 0"),
        (lambda: methods.NKD() + 3, TypeError, "unsupported operand"),
        (lambda: "2" * methods.NKD(), TypeError, "can't multiply"),
        (lambda: methods.Sum([(1.0, "nkd")]), TypeError, "needs methods"),
        (lambda: methods.SKD(-1), ValueError, "`weight` needs .* >= 0"),
        (lambda: methods.SKD(temperature=0), ValueError, "temperature.*> 0"),
        (
            lambda: methods.ARD(teacher="first"),
            ValueError,
            "`teacher` needs 'ensemble', 'last' or .* index, received 'first'",
        ),
        (lambda: methods.ARD(teacher=1.0), TypeError, "received 1.0"),
        (
            lambda: methods.ARD(student="ensemble"),
            ValueError,
            "`student` needs 'all', 'last' or .* index, received 'ensemble'",
        ),
        (lambda: methods.ARD(reduction="max"), ValueError, "reduction.*mean"),
        (lambda: methods.ARD(divergence="js"), ValueError, "divergence.*kl"),
        (lambda: methods.SKD(scale=0), ValueError, "scale.*> 0"),
    ],
)
def test_bad_arguments_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_skd_needs_another_exit_to_teach():
    methods.SKD().validate(given.model(2, 10))
    with pytest.raises(ValueError, match="model has a single exit"):
        methods.SKD().validate(given.model(1, 10))


# Annealing.


def test_the_temperature_grows_while_the_teacher_is_sure():
    # Softmax of the last exit at T = 1: 0.576 for the first class.
    logits = np.array([[2.0, 0.5, 0.0, -0.5]], "float32")
    clean = np.tile(logits, (5, 2, 1))
    method = methods.SKD.phuong(annealing=True)
    variable = keras.Variable(1.0, trainable=False)
    context = given.context(
        ops.convert_to_tensor(clean),
        ops.convert_to_tensor(clean),
        ops.convert_to_tensor(LABELS),
        STEP,
    )._replace(state={"skd_temperature": variable})
    for step in range(3):
        assert float(variable) == pytest.approx(1.05**step, rel=1e-6)
        method(context)
    # A teacher that is not: four classes, evenly.
    flat = ops.zeros((5, 2, 4))
    unsure = context._replace(clean=flat, adversarial=flat)
    method(unsure)
    assert float(variable) == pytest.approx(1.05**3, rel=1e-6)


def test_the_temperature_of_a_step_is_that_before_it_grows():
    method = methods.SKD(1.0, annealing=True, temperature_squared=True)
    constant = methods.SKD(1.0, 2.0, temperature_squared=True)
    arguments = [ops.convert_to_tensor(each) for each in (CLEAN, ADVERSARIAL)]
    context = given.context(*arguments, ops.convert_to_tensor(LABELS), STEP)
    variable = keras.Variable(2.0, trainable=False)
    terms = method(context._replace(state={"skd_temperature": variable}))
    for found, expected in zip(terms, constant(context), strict=True):
        np.testing.assert_allclose(
            ops.convert_to_numpy(found.values),
            ops.convert_to_numpy(expected.values),
            rtol=1e-6,
        )


@pytest.mark.parametrize(
    "method", [methods.SKD(teacher=3), methods.ARD(1, 1, 0, 3)]
)
def test_exits_that_the_model_lacks_are_refused(method):
    with pytest.raises(ValueError, match="needs an exit from 0 to 2.*3"):
        method.validate(given.model(3, 10))
