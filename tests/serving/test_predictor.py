"""Early exit for real: decides as the simulated policy, and computes less."""

import math

import keras
import numpy as np
import pytest

from keras_neokd import MultiExitModel
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.serving import predictor
from keras_neokd.serving.compaction import padded_size
from keras_neokd.serving.predictor import EarlyExitPredictor
from tests.reference import equations
from tests.training import tiny

COUNT = 130  # More than two of the largest padded batches.
IMAGES = tiny.data(COUNT)[0]


@pytest.fixture(scope="module")
def model():
    """A model with everything that differs between training and inference."""
    # With these weights an ensemble's labels differ from those of an exit.
    return tiny.randomized(tiny.dense_model(norm=True, dropout=0.5), seed=7)


@pytest.fixture(scope="module")
def probabilities(model):
    """The softmax of every exit, by Keras' own `predict`."""
    logits = model.predict(IMAGES, verbose=0)
    stacked = np.stack([logits[name] for name in tiny.NAMES], axis=1)
    return equations.softmax(stacked)


@pytest.fixture(scope="module")
def thresholds(probabilities):
    """Thresholds that share the images between the exits.

    Half-way between two confidences, so that rounding decides nothing.
    """
    confidences = probabilities.max(axis=2)
    first = middle(confidences[:, 0], 40)
    left = confidences[:, 0] < first
    return first, middle(confidences[left, 1], 30)


def middle(values, rank):
    ordered = np.sort(values)[::-1]
    return float((ordered[rank - 1] + ordered[rank]) / 2)


def assert_same_decisions(decision, expected):
    np.testing.assert_array_equal(decision.exit_index, expected.exit_index)
    np.testing.assert_array_equal(decision.label, expected.label)
    np.testing.assert_allclose(
        decision.confidence, expected.confidence, rtol=1e-5
    )


# The same decisions.


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("count", [1, 5, 64, COUNT])
def test_decides_as_the_policy_does_on_all_exits(
    model, probabilities, thresholds, count, ensemble
):
    policy = ExitPolicy(thresholds, ensemble)
    decision = EarlyExitPredictor(model, policy)(IMAGES[:count])
    assert_same_decisions(decision, policy.decide(probabilities[:count]))
    if count == COUNT:
        counts = np.bincount(decision.exit_index)
        np.testing.assert_array_equal(counts, [40, 30, 60])
        # An ensemble changes labels here, else it would not have been tested.
        alone = ExitPolicy(thresholds).decide(probabilities).label
        assert (decision.label != alone).any() == ensemble


def test_no_images_are_no_decisions(model, thresholds):
    decision = EarlyExitPredictor(model, ExitPolicy(thresholds))(IMAGES[:0])
    assert [each.shape for each in decision] == [(0,)] * 3


@pytest.mark.parametrize("confidence", ["margin", "entropy"])
def test_decides_by_other_confidences_and_temperatures(
    model, probabilities, confidence
):
    rest = True, confidence, (2.0, 0.5, 1.0)
    never = ExitPolicy((math.inf, math.inf), *rest)
    thresholds = [
        float(np.quantile(never.at(exit, probabilities[:, exit])[1], 0.6))
        for exit in (0, 1)
    ]
    policy = ExitPolicy(thresholds, *rest)
    decision = EarlyExitPredictor(model, policy)(IMAGES)
    expected = policy.decide(probabilities)
    np.testing.assert_array_equal(decision.exit_index, expected.exit_index)
    np.testing.assert_array_equal(decision.label, expected.label)
    np.testing.assert_allclose(
        decision.confidence, expected.confidence, atol=1e-6
    )
    assert set(decision.exit_index) == {0, 1, 2}


@pytest.mark.parametrize(
    ("thresholds", "exit_index"),
    [((0.0, 0.0), 0), ((math.inf, 0.0), 1), ((math.inf, math.inf), 2)],
)
def test_all_images_leave_at_one_exit(
    model, probabilities, thresholds, exit_index
):
    policy = ExitPolicy(thresholds)
    decision = EarlyExitPredictor(model, policy)(IMAGES)
    assert_same_decisions(decision, policy.decide(probabilities))
    np.testing.assert_array_equal(decision.exit_index, exit_index)


def test_a_model_of_one_exit():
    model = tiny.dense_model(num_exits=1)
    decision = EarlyExitPredictor(model, ExitPolicy(()))(IMAGES[:3])
    logits = model.predict(IMAGES[:3], verbose=0)["exit_1"]
    np.testing.assert_array_equal(decision.label, logits.argmax(axis=1))


def test_a_policy_from_a_file_or_from_thresholds(model, thresholds, tmp_path):
    path = tmp_path / "policy.json"
    saved = ExitPolicy((thresholds[0], math.inf), ensemble=True)
    saved.save(path)
    plain = ExitPolicy(thresholds)
    for given, policy in (
        (path, saved),
        (str(path), saved),
        (thresholds, plain),
    ):
        predictor = EarlyExitPredictor(model, given)
        assert predictor.policy.thresholds == policy.thresholds
        expected = EarlyExitPredictor(model, policy)(IMAGES)
        assert_same_decisions(predictor(IMAGES), expected)


def test_new_weights_are_seen(thresholds):
    model = tiny.dense_model()
    predictor = EarlyExitPredictor(model, ExitPolicy((math.inf, math.inf)))
    before = predictor(IMAGES[:8])
    tiny.randomized(model, seed=5)
    after = predictor(IMAGES[:8])
    assert np.abs(after.confidence - before.confidence).max() > 1e-3
    logits = model.predict(IMAGES[:8], verbose=0)["exit_3"]
    np.testing.assert_array_equal(after.label, logits.argmax(axis=1))


def test_predicting_leaves_the_model_as_it_was(model, thresholds):
    before = tiny.snapshot(model)
    EarlyExitPredictor(model, ExitPolicy(thresholds))(IMAGES)
    tiny.assert_equal_states(before, tiny.snapshot(model))


# Less work.


@pytest.fixture
def runs(monkeypatch):
    """Numbers of images that each stage was run on, padding included."""
    seen = []
    compiled = predictor._compiled

    def spied(stage):
        compute = compiled(stage)

        def recorded(*tensors):
            seen.append((stage.name[-1], len(tensors[0])))
            return compute(*tensors)

        return recorded

    monkeypatch.setattr(predictor, "_compiled", spied)
    return seen


def test_only_undecided_images_run_later_stages(
    model, probabilities, thresholds, runs
):
    predictor = EarlyExitPredictor(model, ExitPolicy(thresholds))
    exits = ExitPolicy(thresholds).decide(probabilities).exit_index
    ranks = [np.flatnonzero(exits == each) for each in range(3)]
    for chosen, expected in (
        # 130 images, then 90, then 60; padded to multiples of 32, 16 and 8.
        (np.arange(COUNT), [("1", 160), ("2", 96), ("3", 64)]),
        (ranks[0][:1], [("1", 1)]),
        (ranks[1][:5], [("1", 8), ("2", 8)]),
        (
            np.concatenate([each[:3] for each in ranks]),
            [("1", 16), ("2", 8), ("3", 4)],
        ),
    ):
        runs.clear()
        predictor(IMAGES[chosen])
        assert runs == expected


def test_nothing_runs_for_no_images_or_after_a_threshold_of_0(model, runs):
    predictor = EarlyExitPredictor(model, ExitPolicy((0.0, 0.5)))
    predictor(IMAGES[:0])
    assert runs == []
    predictor(IMAGES[:2])
    assert runs == [("1", 2)]


def test_padding_costs_little_and_shapes_are_few():
    counts = np.arange(1, 1025)
    sizes = np.array([padded_size(int(each)) for each in counts])
    some = [0, 1, 2, 4, 8, 32, 63, 64]
    assert sizes[some].tolist() == [1, 2, 4, 8, 16, 40, 64, 80]
    assert (sizes >= counts).all()
    assert (sizes[8:] <= 1.25 * counts[8:] + 7).all()
    assert len(set(sizes)) == 4 + 7 + 4 * 4


# What is refused.


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (IMAGES[:2] + 1, r"pixels in \[0, 1\]"),
        (IMAGES[:2] * np.nan, "finite pixels"),
        (IMAGES[:2, :4], r"\(batch, 8, 8, 1\)"),
        (IMAGES[0], r"\(batch, 8, 8, 1\)"),
    ],
)
def test_bad_images_are_refused_in_words(model, images, message):
    predictor = EarlyExitPredictor(model, ExitPolicy((0.5, 0.5)))
    with pytest.raises(ValueError, match=message):
        predictor(images)


@pytest.mark.parametrize("ensemble", [False, True])
def test_an_exit_that_answers_nan_is_named(ensemble):
    broken = tiny.randomized(tiny.dense_model(), seed=7)
    first = broken.exit_model(0).layers[-1]
    first.set_weights([np.nan * each for each in first.get_weights()])
    predictor = EarlyExitPredictor(broken, ExitPolicy((0.5, 0.5), ensemble))
    with pytest.raises(ValueError, match="returned NaN for 2 of 2 images"):
        predictor(IMAGES[:2])


def test_the_number_of_exits_has_to_fit(model):
    with pytest.raises(ValueError, match="1 thresholds are for a model of 2"):
        EarlyExitPredictor(model, ExitPolicy((0.5,)))


def test_only_multi_exit_models_exit_early():
    with pytest.raises(TypeError, match="needs a MultiExitModel"):
        EarlyExitPredictor(keras.Sequential(), ExitPolicy((0.5,)))


def test_a_file_that_holds_no_policy_is_refused(model, tmp_path):
    (tmp_path / "policy.json").write_text("{}")
    with pytest.raises(ValueError, match="does not hold the thresholds"):
        EarlyExitPredictor(model, tmp_path / "policy.json")


def handing_on(num_tensors):
    """Return a model whose first stage hands on so many tensors."""
    inputs = keras.Input((8, 8, 1))
    parts = [keras.layers.Conv2D(2, 3)(inputs) for _ in range(num_tensors)]
    pool = keras.layers.GlobalAveragePooling2D()
    early = keras.layers.Dense(3)(pool(keras.ops.concatenate(parts, axis=-1)))
    late = [keras.layers.Dense(3)(keras.layers.Flatten()(x)) for x in parts]
    return MultiExitModel(inputs, [early, sum(late[1:], late[0])])


@pytest.mark.filterwarnings("ignore:.*depth order")
@pytest.mark.parametrize("counts", [(3, 2, 1), (1, 2, 3)])
def test_models_that_hand_on_other_numbers_of_tensors_take_turns(counts):
    for count in counts:
        model = handing_on(count)
        logits = model.predict(IMAGES[:9], verbose=0)
        confidences = equations.softmax(logits["exit_1"]).max(axis=1)
        predictor = EarlyExitPredictor(model, (middle(confidences, 4),))
        decision = predictor(IMAGES[:9])
        assert (decision.exit_index == 1).sum() == 5
