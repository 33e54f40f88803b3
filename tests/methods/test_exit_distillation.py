"""SKD and ARD against plain NumPy, and sums of methods."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import methods
from tests import arrays
from tests import saving
from tests.methods import given
from tests.reference import equations as reference

CLEAN, ADVERSARIAL = LOGITS = (
    np.random.default_rng(0).normal(size=(2, 5, 3, 4)).astype("float32")
)
LABELS = np.array([0, 3, 3, 1, 2], "int32")
EQUATION_4 = sum(
    reference.cross_entropy(each, LABELS).sum(axis=1) for each in LOGITS
)


def total(method):
    """Loss of each example."""
    return given.total(given.terms_of(method, CLEAN, ADVERSARIAL, LABELS))


kl = reference.kl_of_logits


def soft(teacher, student, temperature):
    """Cross-entropy of logits with what others teach, over classes."""
    target = reference.softmax(teacher / temperature)
    return reference.soft_cross_entropy(student, target, temperature)


def over(exits, divergence, teacher, temperature):
    """What an exit teaches others, on both kinds of images."""
    return sum(
        divergence(logits[:, teacher], logits[:, exit], temperature)
        for logits in LOGITS
        for exit in exits
    )


def mean_soft(student, exit, temperature):
    """What the mean prediction of all clean exits teaches one exit."""
    targets = reference.softmax(student[0] / temperature).mean(axis=1)
    return reference.soft_cross_entropy(
        student[1][:, exit], targets, temperature
    )


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (methods.SKD(), EQUATION_4 + 0.35 * over((0, 1), kl, 2, 1.5)),
        (
            methods.SKD(0.5, 2.0, teacher=1),
            EQUATION_4 + 0.5 * over((0, 2), kl, 1, 2.0),
        ),
        (
            methods.SKD(teacher="ensemble", divergence="cross_entropy"),
            EQUATION_4
            + 0.35
            * sum(
                mean_soft((each, each), exit, 1.5)
                for each in LOGITS
                for exit in range(3)
            ),
        ),
        (
            methods.SKD.phuong(),
            10 / 3 * 0.5 * (EQUATION_4 + 16 * over((0, 1), soft, 2, 4.0)),
        ),
        (methods.ARD(), EQUATION_4 + kl(CLEAN[:, 2], ADVERSARIAL[:, 2], 1.0)),
        (
            methods.ARD.goldblum(),
            EQUATION_4 + 900 / 4 * kl(CLEAN[:, 2], ADVERSARIAL[:, 2], 30.0),
        ),
        (
            methods.ARD(0.5, 2.0, teacher=0, student="all"),
            EQUATION_4
            + 0.5
            * 4
            * sum(kl(CLEAN[:, 0], ADVERSARIAL[:, i], 2.0) for i in range(3)),
        ),
        (
            methods.ARD(1.0, 2.0, "ensemble", 1, "cross_entropy"),
            EQUATION_4 + 4 * mean_soft(LOGITS, 1, 2.0),
        ),
        (
            methods.ARD(reduction="mean"),
            EQUATION_4 + kl(CLEAN[:, 2], ADVERSARIAL[:, 2], 1.0) / 4,
        ),
    ],
    ids=lambda value: repr(value) if isinstance(value, methods.Method) else "",
)
def test_the_loss_equals_plain_numpy(method, expected):
    # Where T**2 multiplies what is left of sums over classes, it rounds more.
    rtol, atol = {
        repr(methods.SKD.phuong()): (1e-5, 0),
        repr(methods.ARD.goldblum()): (1e-7, 2e-4),
    }.get(repr(method), (1e-7, 1e-5))
    arrays.close(total(method), expected, rtol, atol)


def gradient_to_clean_logits(method):
    def extra(clean):
        terms = method.extra_terms(given.context(clean, ADVERSARIAL, LABELS))
        # Backends refuse what does not depend on the input at all.
        return 0.0 * ops.sum(clean, axis=2) + sum(
            term.values * ops.convert_to_tensor(term.weights) for term in terms
        )

    return given.gradient(extra, CLEAN)


@pytest.mark.parametrize("teacher", [0, -1, "ensemble"])
def test_clean_predictions_that_teach_ard_are_not_taught(teacher):
    gradient = gradient_to_clean_logits(methods.ARD(teacher=teacher))
    arrays.equal(gradient, 0)


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
    arrays.close(gradient, expected, atol=1e-6)


def test_a_sum_has_the_base_once_and_the_extras_of_all():
    method = methods.NKD(exit_weights=(1, 1, 1)) + 0.5 * methods.ARD(2.0)
    assert method.term_names(3) == ("clean", "adversarial", "nkd", "ard")
    parts = (
        total(methods.NKD(exit_weights=(1, 1, 1)))
        - EQUATION_4
        + 0.5 * (total(methods.ARD(2.0)) - EQUATION_4)
    )
    arrays.close(total(method), EQUATION_4 + parts, atol=5e-4)


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
    loaded = saving.rebuilt(method)
    assert repr(loaded) == repr(method)
    arrays.equal(total(loaded), total(method))


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
    ],
)
def test_bad_sums_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()


def test_skd_needs_another_exit_to_teach():
    methods.SKD().validate(given.model(2, 10))
    with pytest.raises(ValueError, match="model has a single exit"):
        methods.SKD().validate(given.model(1, 10))


def test_the_temperature_grows_while_the_teacher_is_sure():
    # Softmax of the last exit at T = 1: 0.576 for the first class.
    logits = np.array([[2.0, 0.5, 0.0, -0.5]], "float32")
    clean = np.tile(logits, (5, 2, 1))
    method = methods.SKD.phuong(annealing=True)
    variable = keras.Variable(1.0, trainable=False)
    context = given.context(clean, clean, LABELS)._replace(
        state={"skd_temperature": variable}
    )
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
    context = given.context(CLEAN, ADVERSARIAL, LABELS)
    variable = keras.Variable(2.0, trainable=False)
    terms = method(context._replace(state={"skd_temperature": variable}))
    for found, expected in zip(terms, constant(context), strict=True):
        arrays.close(
            given.values_of(found), given.values_of(expected), rtol=1e-6
        )


@pytest.mark.parametrize(
    "method", [methods.SKD(teacher=3), methods.ARD(1, 1, 0, 3)]
)
def test_exits_that_the_model_lacks_are_refused(method):
    with pytest.raises(ValueError, match="needs an exit from 0 to 2.*3"):
        method.validate(given.model(3, 10))
