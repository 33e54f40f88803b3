"""A model cut into stages: the same logits, and nothing computed twice."""

import collections

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd.models import MSDNet
from keras_neokd.models import ResNet
from keras_neokd.models import SmallCNN
from keras_neokd.models import VisionTransformer
from keras_neokd.stages import build_stages
from tests.training import tiny

layers = keras.layers


@keras.saving.register_keras_serializable("test_stages")
class Counted(layers.Layer):
    """Hands its input on, and counts how often it is run."""

    runs = 0

    def call(self, x):
        self.runs += 1
        return x + 0.0

    def compute_output_shape(self, input_shape):
        return input_shape


def hand_made():
    """Return a graph of everything that is easy to get wrong.

    One layer is called in two stages and twice within one, operations take
    slices, lists and numbers, one gives two tensors, exit 2 taps a tensor
    from before exit 1's, and exit 4 ends in a layer of exit 1.
    """
    inputs = keras.Input((8, 8, 1), name="pixels")
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    early = Counted(name="counted")(x)
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    x = ops.relu(shared(early))
    head = layers.Dense(8, name="head")
    first = head(layers.GlobalAveragePooling2D(name="pool_1")(x))
    # From before the tensor that exit 1 looks at.
    tapped = layers.GlobalMaxPooling2D(name="pool_2")(early)
    second = layers.Dense(8, name="head_2")(
        ops.concatenate([tapped, ops.mean(early, axis=(1, 2))], axis=-1)
    )
    scale = ops.mean(early[:, ::2], axis=(1, 2), keepdims=True)
    x = shared(shared(x)) * 0.5 + 2.0 * scale
    left, right = ops.split(x, 2, axis=-1)
    x = layers.Concatenate(name="join")((right, left))[:, 1:, :-1]
    third = layers.Dense(8, name="head_3")(layers.Flatten(name="flat")(x))
    x = layers.GlobalAveragePooling2D(name="pool_4")(x)
    fourth = head(x) + second
    return MultiExitModel(inputs, [first, second, third, fourth])


MODELS = {
    "hand_made": hand_made,
    "dense": lambda: tiny.dense_model(norm=True, dropout=0.5),
    "small_cnn": lambda: SmallCNN(input_shape=(20, 20, 1)),
    "msdnet": lambda: MSDNet(num_blocks=2, base=2, step=1, growth_rate=2),
    "resnet": lambda: ResNet(
        input_shape=(8, 8, 3),
        stage_blocks=(1, 1),
        stage_filters=(2, 3),
        exits="all",
        normalization=((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)),
    ),
    "vision_transformer": lambda: VisionTransformer(
        input_shape=(8, 12, 3),
        width=8,
        depth=2,
        num_heads=2,
        dropout=0.1,
        exits="all",
    ),
    "single_exit": lambda: tiny.dense_model(num_exits=1),
}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    """A model whose weights are none of the zeros that layers start with."""
    return tiny.randomized(MODELS[request.param]())


def images_for(model, count=3):
    return tiny.data(count, shape=model.input_shape[1:])[0]


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
        np.testing.assert_allclose(
            logits, tiny.array(expected[name]), atol=1e-5
        )


def calls_of(model):
    """Count the calls of each operation in a functional graph."""
    # Models of the package have their arguments as a configuration.
    config = keras.Model(model.input, model.output).get_config()
    return collections.Counter(
        {
            entry["name"]: len(entry["inbound_nodes"])
            for entry in config["layers"]
            if entry["inbound_nodes"]
        }
    )


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
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    images = images_for(model)
    assert_same_logits(loaded, images, stages)
    assert_same_logits(model, images, build_stages(loaded))


# The hand-made graph, in detail.


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
