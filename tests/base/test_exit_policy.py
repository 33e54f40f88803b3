"""Early exit by thresholds: golden decisions, ensembles, files, errors."""

import json
import math

import numpy as np
import pytest
from keras import ops

from keras_neokd.base.exit_policy import ExitPolicy
from tests.reference import equations

pytestmark = pytest.mark.any_backend

# Eight images and three exits; confidences worked out by hand elsewhere.
FIRST = [0.95, 0.90, 0.80, 0.70, 0.60, 0.55, 0.50, 0.40]
SECOND = [0.60, 0.99, 0.85, 0.65, 0.92, 0.88, 0.70, 0.45]
CONFIDENCES = np.stack([FIRST, SECOND, np.full(8, 0.5)], axis=1)
NUMBERS = np.arange(8)


def probabilities_of(confidences, winners):
    """Return softmaxes of 4 classes with given largest values and classes."""
    rest = (1.0 - confidences) / 3.0
    probabilities = np.repeat(rest[..., None], 4, axis=2)
    np.put_along_axis(
        probabilities, winners[..., None], confidences[..., None], axis=2
    )
    return probabilities.astype("float32")


# Which exit.


def test_images_leave_at_the_first_exit_that_is_confident_enough():
    policy = ExitPolicy((0.70, 0.88))
    np.testing.assert_array_equal(
        policy.exits(CONFIDENCES), [0, 0, 0, 0, 1, 1, 2, 2]
    )
    assert policy.num_exits == 3
    assert policy.ensemble is False


def test_the_same_decisions_from_float32_probabilities():
    # 0.70 is no float32: the threshold is rounded like the confidence.
    winners = np.stack([NUMBERS % 4, (NUMBERS + 1) % 4, (NUMBERS + 2) % 4], 1)
    probabilities = probabilities_of(CONFIDENCES, winners)
    decision = ExitPolicy((0.70, 0.88)).decide(probabilities)
    np.testing.assert_array_equal(decision.exit_index, [0, 0, 0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(decision.label, [0, 1, 2, 3, 1, 2, 0, 1])
    np.testing.assert_allclose(
        decision.confidence,
        [0.95, 0.90, 0.80, 0.70, 0.92, 0.88, 0.5, 0.5],
        rtol=1e-6,
    )


@pytest.mark.parametrize(
    ("threshold", "leaves"),
    [
        (0.5, True),
        (np.nextafter(0.5, 1), False),
        (0.0, True),
        (1.0, False),
        (math.inf, False),
    ],
)
def test_a_confidence_at_the_threshold_is_enough(threshold, leaves):
    confidences = np.array([[0.5, 0.9]])
    (exit_index,) = ExitPolicy((threshold,)).exits(confidences)
    assert exit_index == (0 if leaves else 1)


def test_the_last_exit_takes_what_is_left_however_unsure():
    policy = ExitPolicy((math.inf, math.inf))
    np.testing.assert_array_equal(policy.exits(np.zeros((2, 3))), [2, 2])


def test_a_model_of_one_exit_needs_no_threshold():
    decision = ExitPolicy(()).decide(np.array([[[0.4, 0.6]]], "float32"))
    assert (decision.exit_index, decision.label) == (0, 1)


def test_no_images_are_no_decisions():
    decision = ExitPolicy((0.5,), ensemble=True).decide(np.zeros((0, 2, 4)))
    assert [len(each) for each in decision] == [0, 0, 0]


# Ensembles.


def test_an_ensemble_predicts_by_the_mean_of_the_exits_so_far():
    # By hand: exit 2 alone says class 1; with exit 1 the sums are
    # (1.00, 0.95, 0.05), class 0. Exit 3 is not asked.
    probabilities = np.array(
        [[[0.60, 0.35, 0.05], [0.40, 0.60, 0.00], [0.00, 0.00, 1.00]]]
    )
    alone = ExitPolicy((0.7, 0.6)).decide(probabilities)
    ensemble = ExitPolicy((0.7, 0.6), ensemble=True).decide(probabilities)
    assert (alone.label, ensemble.label) == (1, 0)
    # Whether the image leaves is up to the exit alone.
    for decision in (alone, ensemble):
        assert (decision.exit_index, decision.confidence) == (1, 0.6)


def test_a_first_exit_has_nothing_to_be_averaged_with():
    probabilities = np.array([[[0.2, 0.8], [0.9, 0.1]]])
    decision = ExitPolicy((0.5,), ensemble=True).decide(probabilities)
    assert (decision.exit_index, decision.label) == (0, 1)


# Other confidences, and temperatures.

ONE = np.array([0.5, 0.3, 0.2, 0.0], "float32")


@pytest.mark.parametrize(
    ("confidence", "expected"),
    [
        ("max_softmax", 0.5),
        ("margin", 0.2),
        # 1 - (0.5 ln 2 + 0.3 ln 10/3 + 0.2 ln 5) / ln 4
        ("entropy", 0.2572623),
    ],
)
@pytest.mark.parametrize("functions", [np, ops])
def test_confidences_by_hand(confidence, expected, functions):
    policy = ExitPolicy((0.5,), confidence=confidence)
    same, found = policy.at(0, functions.copy(ONE), functions)
    np.testing.assert_array_equal(ops.convert_to_numpy(same), ONE)
    assert float(found) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["max_softmax", "margin", "entropy"])
def test_confidences_go_from_even_to_certain(kind):
    even, sure = np.full(4, 0.25, "float32"), np.eye(4, dtype="float32")[1]
    policy = ExitPolicy((0.5,), confidence=kind)
    least = {"max_softmax": 0.25, "margin": 0.0, "entropy": 0.0}[kind]
    assert policy.at(0, even)[1] == pytest.approx(least, abs=1e-6)
    assert policy.at(0, sure)[1] == 1


def test_a_temperature_divides_the_logits_of_its_exit():
    logits = np.random.default_rng(0).normal(0, 3, (5, 2, 4)).astype("float32")
    policy = ExitPolicy((0.5,), temperatures=(1, 2.5))
    probabilities = equations.softmax(logits)
    np.testing.assert_array_equal(
        policy.at(0, probabilities[:, 0])[0], probabilities[:, 0]
    )
    for functions in (np, ops):
        given = functions.copy(probabilities[:, 1])
        np.testing.assert_allclose(
            ops.convert_to_numpy(policy.at(1, given, functions)[0]),
            equations.softmax(logits[:, 1] / 2.5),
            rtol=1e-5,
        )


def test_decisions_follow_confidence_and_temperature():
    # By the largest softmax the first image leaves at once; by the margin the
    # second does, and a temperature of 3 keeps both.
    first = np.array([[0.6, 0.4, 0.0], [0.5, 0.26, 0.24]], "float32")
    probabilities = np.stack([first, first[:, ::-1]], axis=1)

    def exits(*arguments):
        policy = ExitPolicy(*arguments)
        return policy.decide(probabilities).exit_index.tolist()

    assert exits((0.55,)) == [0, 1]
    assert exits((0.22,), False, "margin") == [1, 0]
    assert exits((0.55,), False, "max_softmax", (3.0, 1.0)) == [1, 1]


def test_the_ensemble_adds_up_tempered_predictions():
    probabilities = np.array([[[0.99, 0.01], [0.2, 0.8]]], "float32")
    never = (math.inf,)
    assert ExitPolicy(never, True).decide(probabilities).label == [0]
    cold = ExitPolicy(never, True, temperatures=(10.0, 1.0))
    assert cold.decide(probabilities).label == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"confidence": "p"}, "`confidence` 'p': expected .*max_softmax"),
        ({"temperatures": (1.0,)}, "expected 2 for 1 thresholds, received 1"),
        ({"temperatures": (1.0, 0.0)}, "`temperatures`.* > 0.*0"),
        ({"temperatures": (1.0, math.nan)}, "`temperatures`.*nan"),
    ],
)
def test_wrong_confidences_and_temperatures_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ExitPolicy((0.5,), **arguments)


@pytest.mark.parametrize("kind", ["max_softmax", "margin", "entropy"])
def test_logits_are_no_probabilities(kind):
    with pytest.raises(ValueError, match="need a softmax first"):
        ExitPolicy((0.5,), confidence=kind).decide(np.full((2, 2, 3), 4.0))


# Files.


@pytest.mark.parametrize("ensemble", [False, True])
def test_a_policy_survives_its_file(tmp_path, ensemble):
    rest = ensemble, "entropy", (0.5, 1.0, 2.0, 3.0)
    policy = ExitPolicy((0.1, math.inf, 1 / 3), *rest)
    policy.save(tmp_path / "policy.json")
    loaded = ExitPolicy.load(tmp_path / "policy.json")
    assert loaded.thresholds == (0.1, math.inf, 1 / 3)
    assert (loaded.ensemble, loaded.confidence, loaded.temperatures) == rest


def test_the_file_is_plain_json(tmp_path):
    # JSON has no infinity; other programs can read null.
    ExitPolicy((0.5, math.inf)).save(str(tmp_path / "policy.json"))
    plain = json.loads((tmp_path / "policy.json").read_text())
    assert plain == {
        "thresholds": [0.5, None],
        "ensemble": False,
        "confidence": "max_softmax",
        "temperatures": None,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "not json",
        "[0.5]",
        "3",
        "{}",
        '{"thresholds": [0.5]}',
        '{"thresholds": 0.5, "ensemble": false}',
        '{"thresholds": ["a"], "ensemble": false}',
        '{"thresholds": [-1], "ensemble": false}',
        '{"thresholds": [50], "ensemble": false}',
        '{"thresholds": [0.5], "ensemble": "no"}',
        '{"thresholds": [0.5], "ensemble": 0}',
    ],
)
def test_other_files_are_refused(tmp_path, text):
    path = tmp_path / "policy.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="does not hold the thresholds"):
        ExitPolicy.load(path)


def test_a_file_must_exist(tmp_path):
    with pytest.raises(FileNotFoundError):
        ExitPolicy.load(tmp_path / "none.json")


# What is refused.


@pytest.mark.parametrize(
    ("thresholds", "error"),
    [
        ((-0.1,), ValueError),
        ((math.nan,), ValueError),
        ((-math.inf,), ValueError),
        (("0.5",), TypeError),
        ((50,), ValueError),
        (("inf",), TypeError),
        (0.5, TypeError),
    ],
)
def test_thresholds_are_numbers_from_0(thresholds, error):
    with pytest.raises(error):
        ExitPolicy(thresholds)


def test_a_text_is_no_boolean():
    with pytest.raises(TypeError, match="`ensemble` needs True or False.*'no'"):
        ExitPolicy((0.5,), ensemble="no")


@pytest.mark.parametrize("value", [math.nan, math.inf, -5, 12])
@pytest.mark.parametrize("ensemble", [False, True])
def test_nothing_is_decided_by_what_is_no_probability(value, ensemble):
    probabilities = np.full((4, 2, 2), 0.5, "float32")
    probabilities[2, 1] = value
    with pytest.raises(ValueError, match="needs softmax probabilities.*NaN"):
        ExitPolicy((0.9,), ensemble).decide(probabilities)


def test_probabilities_have_three_axes():
    with pytest.raises(ValueError, match=r"\(examples, exits, cl.*\(4, 2\)"):
        ExitPolicy((0.9,)).decide(np.full((4, 2), 0.5))


def test_the_number_of_exits_has_to_fit():
    policy = ExitPolicy((0.5, 0.5))
    policy.check(3)
    message = "2 thresholds are for a model of 3 exits.*has 2 exits"
    with pytest.raises(ValueError, match=message):
        policy.check(2)
    with pytest.raises(ValueError, match="The model has 4 exits"):
        policy.decide(np.full((1, 4, 2), 0.5))
