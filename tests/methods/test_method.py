"""The contract of methods, Eq. 4, exit weights and names."""

import numpy as np
import pytest
from keras import ops

from keras_neokd import methods
from keras_neokd.methods import exit_weights as exit_weights_module
from tests import arrays
from tests import saving
from tests.methods import given
from tests.reference import equations as reference
from tests.training import tiny

# One example, three exits, four classes, true class 0.
CLEAN = [[2.0, 1.0, 0.0, -1.0], [1.5, 0.5, 1.0, -0.5], [3.0, 0.0, 0.5, 1.0]]
ADVERSARIAL = [
    [0.5, 1.0, 0.0, -0.5],
    [0.2, 0.4, 0.6, 0.0],
    [1.0, 0.8, -0.2, 0.3],
]
EXAMPLE = [CLEAN], [ADVERSARIAL], [0]

ALL_METHODS = [
    methods.AdversarialTraining(),
    methods.AdversarialTraining(0.5, 0.25),
    methods.SKD(),
    methods.SKD(0.5, 4.0, "ensemble", "cross_entropy", 0.5),
    methods.SKD.phuong(),
    methods.ARD(),
    methods.ARD(0.5, 4.0, 0, "all", "cross_entropy", "mean"),
    methods.TRADES(),
    methods.NKD(),
    methods.NKD(2.0, (1, 0, 1.5), "all", "kl", 3.0),
    methods.EOKD(),
    methods.EOKD(0.5, (1, 0, 1.5), "sample", "kl", 3.0),
    methods.NEOKD(),
    methods.NEOKD(2.0, 0.5, [1, 1, 1.5], "none", "batch", "kl", 2.0),
]


def test_adversarial_training_is_equation_4():
    terms = given.terms_of(methods.AdversarialTraining(), *EXAMPLE)
    expected = {
        "clean": [[0.440190, 0.746567, 0.236816]],
        "adversarial": [[1.287339, 1.511154, 0.961841]],
    }
    assert list(terms) == list(expected)
    for name, term in terms.items():
        assert term.weights == (1.0, 1.0, 1.0)
        arrays.close(given.values_of(term), expected[name], atol=1e-5)
    arrays.close(given.total(terms), [5.183907], atol=1e-5)


def test_terms_keep_examples_and_exits_apart():
    rng = np.random.default_rng(0)
    clean, adversarial = rng.normal(size=(2, 5, 7, 10))
    labels = [0, 9, 3, 3, 1]
    terms = given.terms_of(
        methods.AdversarialTraining(), clean, adversarial, labels
    )
    for name, logits in (("clean", clean), ("adversarial", adversarial)):
        assert terms[name].values.shape == (5, 7)
        arrays.close(
            given.values_of(terms[name]),
            reference.cross_entropy(logits, labels),
            atol=1e-5,
        )


def test_a_method_adds_terms_to_the_base_terms():
    class Penalty(methods.Method):
        def extra_term_names(self):
            return ("penalty",)

        def extra_terms(self, context):
            difference = context.clean - context.adversarial
            values = ops.mean(ops.square(difference), axis=-1)
            return [methods.Term("penalty", values, (0.5,) * 3)]

    terms = given.terms_of(Penalty(), *EXAMPLE)
    penalty = np.square(np.subtract(CLEAN, ADVERSARIAL)).mean(axis=1).sum()
    assert Penalty().term_names(3) == ("clean", "adversarial", "penalty")
    arrays.close(given.total(terms), [5.183907 + 0.5 * penalty], atol=1e-5)


def test_a_sum_has_the_base_weights_of_its_first_method():
    first = methods.AdversarialTraining(0.5, 0.25)
    total = first + methods.ARD()
    assert (total.clean_weight, total.adversarial_weight) == (0.5, 0.25)
    assert total.base_weights(3) == first.base_weights(3)


# Configuration.


@pytest.mark.parametrize("method", ALL_METHODS, ids=repr)
def test_round_trip_keeps_every_argument(method):
    loaded = saving.rebuilt(method)
    assert type(loaded) is type(method)
    assert loaded.arguments() == method.arguments()
    assert repr(loaded) == repr(method)
    arrays.equal(
        given.total(given.terms_of(loaded, *EXAMPLE)),
        given.total(given.terms_of(method, *EXAMPLE)),
    )


def test_representation_shows_how_to_write_the_method():
    assert repr(methods.AdversarialTraining()) == (
        "AdversarialTraining(clean_weight=1.0, adversarial_weight=1.0)"
    )
    assert repr(methods.NKD(2, (1, 1))) == (
        "NKD(weight=2.0, exit_weights=(1.0, 1.0), teacher='neighbors', "
        "divergence='cross_entropy', temperature=1.0, radius=1)"
    )


# Names.


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("lw", methods.LW()),
        ("trades", methods.TRADES(weight=6.0)),
        ("adversarial_training", methods.AdversarialTraining()),
        ("skd", methods.SKD(weight=0.35, temperature=1.5)),
        ("ard", methods.ARD(weight=1.0, temperature=1.0)),
        ("nkd", methods.NKD(weight=3.0)),
        ("eokd", methods.EOKD(weight=1.0)),
        ("neo_kd", methods.NEOKD(nkd_weight=3.0, eokd_weight=1.0)),
    ],
)
def test_names_stand_for_the_settings_of_the_paper(name, expected):
    method = methods.get(name)
    assert type(method) is type(expected)
    assert method.arguments() == expected.arguments()


def test_objects_pass_as_they_are():
    method = methods.NEOKD()
    assert methods.get(method) is method


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        *(
            (name, ValueError, rf"Unknown method {name!r}.*'nkd', 'skd', ")
            for name in ("neokd", "NEO_KD", "")
        ),
        *(
            (name, ValueError, "has no default. Write it as an obj")
            for name in ("kdiga", "teat")
        ),
        *(
            (
                other,
                TypeError,
                "`method` needs a keras_neokd.methods.Method or a name",
            )
            for other in (None, 3, methods.NEOKD, {"name": "nkd"})
        ),
    ],
)
def test_what_is_no_method_is_refused(given, error, message):
    with pytest.raises(error, match=message):
        methods.get(given)


# Exit weights, the paper's gamma.


@pytest.mark.parametrize(
    ("num_exits", "expected"),
    [
        (3, (1, 1, 1)),
        (5, (1, 1, 1, 1.5, 1.5)),
        (7, (1, 1, 1, 1.5, 1.5, 1.5, 1.5)),
    ],
)
def test_exit_weights_of_the_paper(num_exits, expected):
    resolved = exit_weights_module.resolve_exit_weights(None, num_exits)
    assert resolved == expected


def test_given_exit_weights_are_kept():
    checked = exit_weights_module.check_exit_weights(np.array([1, 0, 2.5]))
    assert checked == (1.0, 0.0, 2.5)
    assert exit_weights_module.resolve_exit_weights(checked, 3) == checked
    assert exit_weights_module.check_exit_weights(None) is None


@pytest.mark.parametrize(
    ("exit_weights", "error", "message"),
    [
        (1.5, TypeError, "sequence with one number per exit, received 1.5"),
        ("1,1", TypeError, "sequence with one number per exit"),
        ((1, "2"), TypeError, "`exit_weights` needs a number, received '2'"),
        ((1, -1), ValueError, "`exit_weights` needs .* >= 0, received -1"),
        ((1, float("nan")), ValueError, "received nan"),
    ],
)
def test_bad_exit_weights_are_refused(exit_weights, error, message):
    with pytest.raises(error, match=message):
        exit_weights_module.check_exit_weights(exit_weights)


@pytest.mark.parametrize(
    ("exit_weights", "num_exits", "message"),
    [
        (
            (1.0, 1.0, 1.0),
            7,
            r"one value per exit: expected 7, received 3: \(1.0, 1.0, 1.0\)",
        ),
        ((), 2, "expected 2, received 0"),
        (
            None,
            2,
            r"for \[3, 5, 7\] exits only and the model has 2: .* "
            r"exit_weights=\(1.0, 1.0\)",
        ),
    ],
)
@pytest.mark.parametrize(
    "method_class", [methods.NKD, methods.EOKD, methods.NEOKD]
)
def test_exit_weights_must_fit_the_model(
    method_class, exit_weights, num_exits, message
):
    method = method_class(exit_weights=exit_weights)
    with pytest.raises(ValueError, match=message):
        method.validate(given.model(num_exits, num_classes=10))


def test_adversarial_training_fits_every_model():
    methods.AdversarialTraining().validate(given.model(11, 2))


# What a method returns, at the first step.


class Extra(methods.Method):
    """Announces terms and returns others, or what is no term."""

    def __init__(self, announced=(), returned=(), weights=(1.0,) * 3):
        self.announced = announced
        self.returned = returned
        self.weights = weights

    def extra_term_names(self):
        return tuple(self.announced)

    def extra_terms(self, context):
        values = ops.square(context.clean)[..., 0]
        return [
            methods.Term(each, values, self.weights)
            if isinstance(each, str)
            else each
            for each in self.returned
        ]


def first_step(method):
    images, labels = tiny.data(2)
    model = tiny.dense_model()
    attack = tiny.GivenImages(images)
    model.compile("sgd", method, attack, run_eagerly=True)
    return model.train_on_batch(images, labels, return_dict=True)


def test_terms_are_logged_by_their_names():
    assert "penalty_loss" in first_step(Extra(["penalty"], ["penalty"]))


@pytest.mark.parametrize(
    ("announced", "returned"),
    [
        ((), ("penalty",)),
        (("penalty",), ()),
        (("penalty",), ("penalti",)),
        (("penalty",), ("penalty", "penalty")),
        ((), ("clean",)),
    ],
)
def test_terms_have_the_names_that_the_method_says(announced, returned):
    expected = ["clean", "adversarial", *announced]
    found = ["clean", "adversarial", *returned]
    with pytest.raises(ValueError) as caught:
        first_step(Extra(announced, returned))
    assert f"returned the terms {found}" in str(caught.value)
    assert f"extra_term_names() say {expected}" in str(caught.value)


@pytest.mark.parametrize(
    ("level", "shape"),
    [
        ("examples", (2, 3)),
        ("example", (3,)),
        ("batch", (2, 3)),
        ("weights", (2,)),
    ],
)
def test_terms_of_another_shape_than_their_level_says_are_refused(level, shape):
    odd = methods.Term("odd", ops.zeros(shape), (1.0,) * 3, level)
    with pytest.raises(ValueError, match="'odd' needs values.*for 3 exits"):
        first_step(Extra(["odd"], [odd]))


def test_terms_are_terms():
    with pytest.raises(TypeError, match="return a list of methods.Term, rece"):
        first_step(Extra(["penalty"], [3.0]))


@pytest.mark.parametrize("weights", [(0.5,), (0.5,) * 4, 0.5])
def test_terms_have_one_weight_per_exit(weights):
    message = "'penalty' needs one weight per exit: expected 3, received "
    with pytest.raises(ValueError, match=message):
        first_step(Extra(["penalty"], ["penalty"], weights))
