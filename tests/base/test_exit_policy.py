"""Early exit by thresholds: golden decisions, ensembles, files, errors."""

import json
import math

import numpy as np
import pytest

from keras_neokd.base.exit_policy import ExitPolicy

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


# Files.


@pytest.mark.parametrize("ensemble", [False, True])
def test_a_policy_survives_its_file(tmp_path, ensemble):
    policy = ExitPolicy((0.1, math.inf, 1 / 3), ensemble)
    policy.save(tmp_path / "policy.json")
    loaded = ExitPolicy.load(tmp_path / "policy.json")
    assert loaded.thresholds == (0.1, math.inf, 1 / 3)
    assert loaded.ensemble is ensemble


def test_the_file_is_plain_json(tmp_path):
    # JSON has no infinity; other programs can read null.
    ExitPolicy((0.5, math.inf)).save(str(tmp_path / "policy.json"))
    plain = json.loads((tmp_path / "policy.json").read_text())
    assert plain == {"thresholds": [0.5, None], "ensemble": False}


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
