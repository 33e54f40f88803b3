"""A model cut into stages: the same logits, and nothing computed twice."""

import collections

import keras
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd.network.stages import build_stages
from tests import arrays
from tests import saving
from tests.network.models import MODELS
from tests.network.models import calls_of
from tests.network.models import images_for
from tests.training import tiny

layers = keras.layers


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return tiny.randomized(MODELS[request.param]())


def run(stages, images):
    """Return the logits of all stages, one run after the other."""
    collected, carried = [], [images]
    for stage in stages[:-1]:
        logits, *carried = stage(carried, training=False)
        collected.append(tiny.array(logits))
    return [*collected, tiny.array(stages[-1](carried, training=False))]


def assert_same_logits(model, images, stages):
    """See that each stage gives the logits of its exit."""
    expected = model(images, training=False)
    found = run(stages, images)
    for name, logits in zip(model.exit_names, found, strict=True):
        arrays.close(logits, expected[name], atol=1e-5)


def test_the_stages_together_give_the_logits_of_the_model(model):
    stages = build_stages(model)
    assert len(stages) == model.num_exits
    assert_same_logits(model, images_for(model), stages)


def test_every_call_of_the_model_is_in_one_stage(model):
    counted = sum(map(calls_of, build_stages(model)), collections.Counter())
    assert counted == calls_of(model)


def test_a_stage_is_not_run_for_what_an_earlier_exit_needs(model):
    total = collections.Counter()
    for name, stage in zip(model.exit_names, build_stages(model), strict=True):
        total += calls_of(stage)
        # No more than the exit needs, and all of that.
        alone = calls_of(model.exit_model(name))
        assert alone <= total
        assert calls_of(stage) <= alone


def test_stages_share_the_weights(model):
    stages = build_stages(model)
    own = {id(variable) for variable in model.variables}
    theirs = {id(each) for stage in stages for each in stage.variables}
    assert theirs <= own
    weights = {id(each) for stage in stages for each in stage.weights}
    assert weights == {id(each) for each in model.weights}


def test_the_model_stays_as_it_was(model, tmp_path):
    before, calls = model.get_config(), calls_of(model)
    build_stages(model)
    stages = build_stages(model)
    assert model.get_config() == before
    assert calls_of(model) == calls
    # Its file too, whose stages are those of the model.
    loaded = saving.reloaded(model, tmp_path)
    images = images_for(model)
    assert_same_logits(loaded, images, stages)
    assert_same_logits(model, images, build_stages(loaded))


@pytest.fixture
def intricate():
    return tiny.randomized(MODELS["hand_made"]())


def test_a_layer_is_run_once_however_many_stages_use_its_result(intricate):
    counted = intricate.get_layer("counted")
    stages = build_stages(intricate)
    counted.runs = 0
    run(stages, images_for(intricate))
    assert counted.runs == 1


def test_stages_hand_on_only_what_is_still_needed(intricate):
    stages = build_stages(intricate)
    carried = [
        sorted(tuple(each.shape[1:]) for each in stage.outputs[1:])
        for stage in stages
    ]
    early, logits = (6, 6, 4), (8,)
    # After exit 1: the tapped tensor and the trunk. After exit 2, its logits
    # too, which exit 4 adds to its own. After exit 3 only what is joined.
    assert carried == [
        [early, early],
        [early, early, logits],
        [(5, 5, 4), logits],
        [],
    ]


def test_new_weights_are_seen(intricate):
    stages = build_stages(intricate)
    tiny.randomized(intricate, seed=1)
    assert_same_logits(intricate, images_for(intricate), stages)


def test_layers_that_were_used_elsewhere_before():
    # Calls outside the model have numbers, too, which are not its own.
    inputs = keras.Input((8, 8, 1))
    dense = layers.Dense(8)
    dense(keras.Input((64,)))
    dense(keras.Input((64,)))
    flat = layers.Flatten()(inputs)
    model = MultiExitModel(inputs, [dense(flat), dense(ops.tanh(flat))])
    tiny.randomized(model)
    assert_same_logits(model, images_for(model), build_stages(model))


def test_models_within_models():
    trunk = tiny.dense_model(num_exits=1).exit_model(0)
    inputs = keras.Input((8, 8, 1))
    x = trunk(inputs, training=False)
    first = layers.Dense(8)(x)
    second = layers.Dense(8)(layers.Dense(5, "relu")(x))
    model = tiny.randomized(MultiExitModel(inputs, [first, second]))
    assert_same_logits(model, images_for(model), build_stages(model))


def test_two_exits_may_be_the_same_tensor():
    inputs = keras.Input((8, 8, 1))
    logits = layers.Dense(8)(layers.Flatten()(inputs))
    model = MultiExitModel(inputs, {"a": logits, "b": logits})
    assert_same_logits(model, images_for(model), build_stages(model))
