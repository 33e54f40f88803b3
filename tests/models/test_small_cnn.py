import math
import random

import keras
import numpy as np
import pytest

from keras_neokd.models import SmallCNN
from tests import arrays
from tests.models.backbones import battery
from tests.models.backbones.battery import weights_of
from tests.refusals import bad


@pytest.fixture(scope="module")
def model():
    return SmallCNN.mnist()


def test_three_exits_of_ten_classes(model):
    assert model.exit_names == ("exit_1", "exit_2", "exit_3")
    assert model.input_shape == (None, 28, 28, 1)
    logits = model(np.zeros((2, 28, 28, 1), "float32"))
    shapes = {name: tuple(logits[name].shape) for name in logits}
    assert shapes == dict.fromkeys(model.exit_names, (2, 10))


@pytest.mark.parametrize(
    "name, shape, parameters",
    [
        ("trunk_conv_1", (26, 26, 32), 320),
        ("trunk_conv_2", (24, 24, 32), 9_248),
        ("trunk_pool_1", (12, 12, 32), 0),
        ("trunk_conv_3", (10, 10, 64), 18_496),
        ("trunk_conv_4", (8, 8, 64), 36_928),
        ("exit_1_conv", (12, 12, 16), 32 * 16 * 9 + 16),
        ("exit_1_pool", (6, 6, 16), 0),
        ("exit_1_flatten", (576,), 0),
        ("exit_2_pool", (5, 5, 64), 0),
        ("exit_2_flatten", (1600,), 0),
        ("exit_3_flatten", (1024,), 0),
    ],
)
def test_layers_as_published(model, name, shape, parameters):
    layer = model.get_layer(name)
    assert layer.output.shape[1:] == shape
    assert layer.count_params() == parameters


def test_side_exits_leave_after_the_relu_of_convolutions_1_and_3(model):
    taps = {"exit_1_conv": "trunk_conv_1", "exit_2_pool": "trunk_conv_3"}
    for name, tap in taps.items():
        assert model.get_layer(name).input is model.get_layer(tap).output


def test_only_trunk_and_main_head_have_activations(model):
    active = [
        layer.name
        for layer in model.layers
        if getattr(layer, "activation", keras.activations.linear)
        is not keras.activations.linear
    ]
    assert sorted(active) == [
        "exit_3_dense_1",
        "exit_3_dense_2",
        "trunk_conv_1",
        "trunk_conv_2",
        "trunk_conv_3",
        "trunk_conv_4",
    ]


def test_dropout_sits_between_the_first_two_dense_layers(model):
    for name in model.exit_names:
        dropout = model.get_layer(f"{name}_dropout")
        assert dropout.rate == 0.5
        assert dropout.input is model.get_layer(f"{name}_dense_1").output
        assert model.get_layer(f"{name}_dense_2").input is dropout.output


def test_convolutions_start_kaiming_normal_with_zero_bias(model):
    # 36,864 samples pin the deviation to 1 %, and the tail beyond two
    # standard deviations (4.55 %) tells a normal from a truncated one.
    kernel, bias = weights_of(model, "trunk_conv_4")
    deviation = math.sqrt(2 / (64 * 9))
    assert np.std(kernel) == pytest.approx(deviation, rel=0.02)
    tail = np.mean(np.abs(kernel) > 2 * deviation)
    assert tail == pytest.approx(0.0455, abs=0.006)
    assert not bias.any()
    for name, fan_in in [("exit_1_conv", 288), ("trunk_conv_2", 288)]:
        kernel, bias = weights_of(model, name)
        assert np.std(kernel) == pytest.approx(math.sqrt(2 / fan_in), rel=0.06)
        assert not bias.any()


@pytest.mark.parametrize(
    "name, fan_in",
    [
        ("exit_1_dense_1", 576),
        ("exit_1_dense_2", 200),
        ("exit_1", 200),
        ("exit_2_dense_1", 1600),
        ("exit_2", 200),
        ("exit_3_dense_1", 1024),
        ("exit_3_dense_2", 200),
    ],
)
def test_dense_layers_start_uniform(model, name, fan_in):
    limit = 1 / math.sqrt(fan_in)
    for values, tolerance in zip(
        weights_of(model, name), (0.04, 0.35), strict=True
    ):
        assert np.abs(values).max() <= limit * (1 + 1e-6)
        assert np.std(values) == pytest.approx(
            limit / math.sqrt(3), rel=tolerance
        )


def test_main_exit_starts_at_zero(model):
    assert not any(values.any() for values in weights_of(model, "exit_3"))
    logits = model(np.random.default_rng(0).random((2, 28, 28, 1), "float32"))
    assert not keras.ops.convert_to_numpy(logits["exit_3"]).any()
    assert keras.ops.convert_to_numpy(logits["exit_1"]).any()


def test_equal_layers_start_differently(model):
    first = weights_of(model, "exit_1_dense_2")[0]
    second = weights_of(model, "exit_2_dense_2")[0]
    assert not np.array_equal(first, second)


def test_a_seed_starts_equal_weights_on_every_backend():
    first = battery.assert_equal_seeds_give_equal_weights(SmallCNN.mnist)
    generator = np.random.default_rng(random.Random(7).randrange(2**31))
    expected = generator.normal(0, math.sqrt(2 / 9), (3, 3, 1, 32))
    arrays.close(first[0], expected, rtol=1e-6)


def test_other_sizes_and_class_counts():
    model = SmallCNN(input_shape=(16, 20, 3), num_classes=7, dropout=0.0)
    logits = model(np.zeros((1, 16, 20, 3), "float32"))
    assert {tuple(values.shape) for values in logits.values()} == {(1, 7)}


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        bad("at least 16 pixels", input_shape=(15, 28, 1)),
        bad("three integers", input_shape=(28, 28)),
        bad("needs an integer", TypeError, input_shape=(28, 28, None)),
        bad("`num_classes`.*>= 2", num_classes=1),
        bad("`dropout`.* <= 1, received 1.5", dropout=1.5),
        bad("`dropout` needs a number", TypeError, dropout="0.5"),
        bad("droput", TypeError, droput=0.5),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        SmallCNN(**arguments)


def test_config_holds_the_arguments():
    model = SmallCNN.mnist(dropout=0.25, name="mine")
    assert model.get_config() == {
        "input_shape": (28, 28, 1),
        "num_classes": 10,
        "dropout": 0.25,
        "name": "mine",
        "trainable": True,
    }


def test_reloads(model, tmp_path):
    battery.assert_reloads(model, tmp_path / "model.keras")
