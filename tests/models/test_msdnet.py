import functools
import math

import keras
import numpy as np
import pytest
from keras import layers

from keras_neokd.models import MSDNet
from keras_neokd.models.convolution import Convolution
from tests.models.backbones import battery
from tests.models.backbones.battery import weights_of
from tests.refusals import bad

CIFAR100_MAPS = {
    # Layer: {size: channels} after the layer and its transition.
    1: {32: 14, 16: 28, 8: 56},
    2: {32: 20, 16: 40, 8: 80},
    3: {32: 26, 16: 52, 8: 104},
    4: {32: 32, 16: 64, 8: 128},
    5: {32: 38, 16: 76, 8: 152},
    6: {32: 44, 16: 88, 8: 176},
    7: {16: 50, 8: 100},
    8: {16: 62, 8: 124},
    9: {16: 74, 8: 148},
    10: {16: 86, 8: 172},
    11: {16: 98, 8: 196},
    12: {16: 110, 8: 220},
    13: {8: 120},
    14: {8: 144},
    15: {8: 168},
    16: {8: 192},
}


SMALL = {"num_blocks": 2, "base": 2, "step": 1, "growth_rate": 2}


# Networks that take seconds to build, and are the same on every backend.
def large(build):
    params = [pytest.param(build.__name__, marks=pytest.mark.any_backend)]
    named = {"scope": "module", "name": build.__name__}
    return pytest.fixture(lambda: build(), params=params, **named)


cifar100 = large(MSDNet.cifar100)
imagenet = large(MSDNet.imagenet)


@pytest.fixture(scope="module")
def small():
    """The smallest network with every kind of part."""
    return MSDNet(**SMALL)


def maps_after_layers(model):
    """Read `{layer: {size: channels}}` off the names of the layers."""
    maps = {}
    for suffix in ("_concat", "_relu"):
        for layer in model.layers:
            parts = layer.name.split("_")
            is_transition = "transition" in parts
            if (
                parts[0] == "block"
                and parts[2] == "layer"
                and layer.name.endswith(suffix)
                and is_transition == (suffix == "_relu")
            ):
                size, _, channels = layer.output.shape[1:]
                maps.setdefault(int(parts[3]), {})[size] = channels
    return maps


def head_inputs(model):
    return [
        model.get_layer(f"{name}_unit_1_pad").input.shape[-1]
        for name in model.exit_names
    ]


def assert_interface(model, name, num_exits, num_classes, size):
    assert model.name == name
    assert model.input_shape == (None, size, size, 3)
    assert model.exit_names == tuple(
        f"exit_{number}" for number in range(1, num_exits + 1)
    )
    for exit_name in model.exit_names:
        assert model.exit_model(exit_name).output_shape == (None, num_classes)


def test_named_configurations(cifar100, imagenet):
    assert_interface(MSDNet.cifar10(), "msdnet_cifar10", 3, 10, 32)
    assert_interface(cifar100, "msdnet_cifar100", 7, 100, 32)
    assert_interface(imagenet, "msdnet_imagenet", 5, 1000, 224)


@pytest.mark.parametrize(
    "option, size",
    [
        pytest.param("A", 224, marks=pytest.mark.any_backend),
        pytest.param("B", 64, marks=pytest.mark.any_backend),
    ],
)
def test_tiny_imagenet_options(option, size):
    model = MSDNet.tiny_imagenet(option)
    assert_interface(model, "msdnet_tiny_imagenet", 5, 200, size)
    # Both have the coarsest map that the heads were designed for.
    pooled = model.get_layer("exit_1_pool").input
    assert pooled.shape[1:3] == (2, 2)


def test_overrides_replace_arguments():
    model = MSDNet.cifar10(num_blocks=2, name="mine")
    assert model.name == "mine"
    assert model.exit_names == ("exit_1", "exit_2")
    config = model.get_config()
    assert config["num_blocks"] == 2
    assert config["initial_channels"] == 8


def test_forward_pass_gives_logits(small):
    logits = small(np.zeros((2, 32, 32, 3), "float32"))
    shapes = {name: tuple(logits[name].shape) for name in logits}
    assert shapes == {"exit_1": (2, 10), "exit_2": (2, 10)}


def test_cifar100_feature_maps_after_each_layer(cifar100):
    assert maps_after_layers(cifar100) == CIFAR100_MAPS
    assert head_inputs(cifar100) == [128, 176, 124, 172, 220, 144, 192]


def test_first_maps_of_cifar100(cifar100):
    shapes = [
        cifar100.get_layer(f"block_1_stem_scale_{scale}_relu").output.shape[1:]
        for scale in (1, 2, 3)
    ]
    assert shapes == [(32, 32, 8), (16, 16, 16), (8, 8, 32)]


def test_widths_within_the_first_layer(cifar100):
    # From 8, 16 and 32 channels; the bottleneck never exceeds its input.
    widths = {
        "scale_1_normal_bottleneck": 6,
        "scale_1_normal": 6,
        "scale_2_down_bottleneck": 6,
        "scale_2_down": 6,
        "scale_2_normal_bottleneck": 12,
        "scale_2_normal": 6,
        "scale_3_down_bottleneck": 16,
        "scale_3_down": 12,
        "scale_3_normal_bottleneck": 32,
        "scale_3_normal": 12,
    }
    for name, width in widths.items():
        layer = cifar100.get_layer(f"block_1_layer_1_{name}_conv")
        assert layer.filters == width, name


def test_concatenation_order_is_old_down_normal(cifar100):
    prefix = "block_1_layer_2_scale_3"
    concatenation = cifar100.get_layer(f"{prefix}_concat")
    assert [tensor.shape[-1] for tensor in concatenation.input] == [56, 12, 12]
    for tensor, name in zip(
        concatenation.input,
        (
            "block_1_layer_1_scale_3_concat",
            f"{prefix}_down_relu",
            f"{prefix}_normal_relu",
        ),
        strict=True,
    ):
        assert tensor is cifar100.get_layer(name).output


def test_cifar10_exits_sit_after_transitions():
    model = MSDNet.cifar10()
    assert maps_after_layers(model)[4] == {16: 32, 8: 64}
    assert maps_after_layers(model)[7] == {8: 17 * 4}
    assert head_inputs(model) == [64, 112, 92]


def test_imagenet_maps(imagenet):
    stem = [
        imagenet.get_layer(f"block_1_stem_scale_{scale}_{last}").output.shape[
            1:
        ]
        for scale, last in [(1, "pool"), (2, "relu"), (3, "relu"), (4, "relu")]
    ]
    assert stem == [(56, 56, 32), (28, 28, 64), (14, 14, 128), (7, 7, 128)]
    assert head_inputs(imagenet) == [384, 384, 352, 304, 560]
    assert imagenet.get_layer("exit_5_unit_2_conv").filters == 560
    maps = maps_after_layers(imagenet)
    assert [maps[layer][7] for layer in (6, 11, 16)] == [256, 288, 304]


def test_lin_grow_blocks():
    model = MSDNet.cifar100(
        num_blocks=5, step_mode="lin_grow", base=1, step=1, initial_channels=16
    )
    blocks = {
        (int(parts[1]), int(parts[3]))
        for parts in (layer.name.split("_") for layer in model.layers)
        if parts[0] == "block" and parts[2] == "layer"
    }
    sizes = [sum(block == b for b, _ in blocks) for block in range(1, 6)]
    assert sizes == [1, 2, 3, 4, 5]


def test_min_pruning():
    # 8 layers: all 3 scales up to layer 6, then 2, then 1. Transitions after
    # layers 2 and 5. Widths 8, 14, 20 -> 10, 16, 22, 28 -> 14, 20, 26, 32.
    model = MSDNet.cifar10(prune="min")
    assert maps_after_layers(model) == {
        1: {32: 14, 16: 28, 8: 56},
        2: {32: 10, 16: 20, 8: 40},
        3: {32: 16, 16: 32, 8: 64},
        4: {32: 22, 16: 44, 8: 88},
        5: {32: 14, 16: 28, 8: 56},
        6: {32: 20, 16: 40, 8: 80},
        7: {16: 52, 8: 104},
        8: {8: 128},
    }
    assert head_inputs(model) == [88, 80, 128]


def test_no_transitions_without_reduction():
    model = MSDNet.cifar10(reduction=0)
    assert not any("transition" in layer.name for layer in model.layers)
    assert head_inputs(model) == [(8 + 6 * n) * 4 for n in (4, 6, 8)]


def test_larger_maps_are_averaged_over_all_positions():
    model = MSDNet(input_shape=(48, 64, 3), num_blocks=2, base=1, step=1)
    assert model.get_layer("exit_1_unit_2_relu").output.shape[1:3] == (3, 4)
    assert model.get_layer("exit_1_pool").output.shape == (None, 128)


def test_batch_norm_has_the_constants_of_pytorch(small):
    normalizations = [
        layer
        for layer in small.layers
        if isinstance(layer, layers.BatchNormalization)
    ]
    assert normalizations
    for layer in normalizations:
        assert (layer.momentum, layer.epsilon) == (0.9, 1e-5)
        gamma, beta, mean, variance = weights_of(small, layer.name)
        assert (gamma == 1).all() and (variance == 1).all()
        assert not beta.any() and not mean.any()


def test_strided_convolutions_pad_both_sides():
    model = MSDNet.imagenet(
        input_shape=(160, 160, 3), num_blocks=2, base=1, step=1
    )
    padding = {7: ((3, 3), (3, 3)), 3: ((1, 1), (1, 1))}
    windows = {Convolution: "kernel_size", layers.MaxPooling2D: "pool_size"}
    seen = set()
    for layer in model.layers:
        if type(layer) in windows and layer.strides == (2, 2):
            window = getattr(layer, windows[type(layer)])[0]
            assert layer.padding == "valid"
            pad = model.get_layer(layer.name.removesuffix("_conv") + "_pad")
            assert layer.input is pad.output
            assert pad.padding == padding[window]
            seen.add((type(layer), window))
    assert seen == {
        (Convolution, 3),
        (Convolution, 7),
        (layers.MaxPooling2D, 3),
    }


def test_only_the_imagenet_stem_has_a_convolution_bias():
    model = MSDNet.imagenet(num_blocks=2, base=1, step=1)
    with_bias = [
        layer.name
        for layer in model.layers
        if isinstance(layer, layers.Conv2D) and layer.use_bias
    ]
    assert with_bias == ["block_1_stem_scale_1_conv"]
    kernel, bias = weights_of(model, with_bias[0])
    limit = 1 / math.sqrt(7 * 7 * 3)
    assert np.abs(kernel).max() <= limit * (1 + 1e-6)
    assert 0 < np.abs(bias).max() <= limit * (1 + 1e-6)


def test_layout_does_not_depend_on_the_global_setting():
    before = keras.config.image_data_format()
    keras.config.set_image_data_format("channels_first")
    try:
        model = MSDNet(num_blocks=2, base=2, step=1)
    finally:
        keras.config.set_image_data_format(before)
    assert maps_after_layers(model)[1] == {32: 14, 16: 28, 8: 56}


@pytest.mark.parametrize(
    "name, fan_in",
    [
        # Each with at least 1,000 values.
        ("block_1_layer_4_scale_1_normal_bottleneck_conv", None),
        ("exit_1_unit_1_conv", 128 * 9),
        ("exit_7_unit_1_conv", 192 * 9),
        ("block_7_layer_16_scale_3_normal_conv", 96 * 9),
        ("block_3_layer_7_transition_scale_3_conv", 200),
        ("exit_7", 128),
    ],
)
def test_torch_default_initialisation(cifar100, name, fan_in):
    kernel = weights_of(cifar100, name)[0]
    fan_in = fan_in or 26
    assert math.prod(kernel.shape[:-1]) == fan_in
    limit = 1 / math.sqrt(fan_in)
    assert np.abs(kernel).max() <= limit * (1 + 1e-6)
    tolerance = 0.03 if kernel.size > 1_000 else 0.15
    assert np.std(kernel) == pytest.approx(limit / math.sqrt(3), rel=tolerance)


def test_torch_default_bias_of_the_classifiers(cifar100):
    for name in cifar100.exit_names:
        bias = weights_of(cifar100, name)[1]
        limit = 1 / math.sqrt(128)
        assert np.abs(bias).max() <= limit * (1 + 1e-6)
        assert np.std(bias) == pytest.approx(limit / math.sqrt(3), rel=0.25)


def test_he_fan_out_initialisation():
    model = MSDNet.cifar100(initialization="he_fan_out", num_blocks=2)
    for name in ("exit_1_unit_2_conv", "exit_2_unit_1_conv"):
        kernel = weights_of(model, name)[0]
        deviation = math.sqrt(2 / (9 * 128))
        assert np.std(kernel) == pytest.approx(deviation, rel=0.02)
        # 4.55 % of an untruncated normal lie beyond two deviations.
        tail = np.mean(np.abs(kernel) > 2 * deviation)
        assert tail == pytest.approx(0.0455, abs=0.003)
    kernel, bias = weights_of(model, "exit_2")
    assert np.abs(kernel).max() <= (1 + 1e-6) / math.sqrt(128)
    assert np.std(kernel) == pytest.approx(1 / math.sqrt(3 * 128), rel=0.03)
    assert not bias.any()


def test_he_fan_out_stem_bias_is_zero():
    model = MSDNet.imagenet(
        initialization="he_fan_out", num_blocks=2, base=1, step=1
    )
    assert not weights_of(model, "block_1_stem_scale_1_conv")[1].any()


def test_equal_layers_start_differently(cifar100):
    kernels = [
        weights_of(cifar100, f"exit_{number}_unit_2_conv")[0]
        for number in range(1, 8)
    ]
    for first, second in zip(kernels, kernels[1:], strict=False):
        assert not np.array_equal(first, second)


def test_normalization_is_part_of_the_model():
    battery.assert_normalizes(functools.partial(MSDNet, **SMALL))


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        bad("Unknown `step_mode` 'odd'", step_mode="odd"),
        bad("Unknown `prune` 'all'", prune="all"),
        bad("Unknown `stem` 'mnist'", stem="mnist"),
        bad("Unknown `initialization`", initialization="he"),
        bad("`num_classes`.*>= 2", num_classes=1),
        bad("`base`.*>= 1, received 0", base=0),
        bad("`step`.*>= 1, received 0", step=0),
        bad("`num_blocks`.*>= 1", num_blocks=0),
        bad("`initial_channels`.*integer", TypeError, initial_channels=8.0),
        bad("`head_channels`.*>= 1", head_channels=0),
        bad("`reduction`.* <= 1, received 1.5", reduction=1.5),
        bad("`reduction` 0.01 leaves none of 32 channels", reduction=0.01),
        bad(
            "one value per scale each; received .1, 2. and .1, 2, 4.",
            growth_factors=(1, 2),
        ),
        bad("one value per scale", growth_factors=(), bottleneck_factors=()),
        bad("`growth_factors`.*>= 1", growth_factors=(1, 2, 0)),
        bad(
            "must be even; received 5", growth_rate=5, growth_factors=(1, 1, 1)
        ),
        bad(
            "at least 2 layers; received.*make 1",
            prune="min",
            num_blocks=1,
            base=1,
        ),
        bad(
            "coarsest of 3 scales is 4 x 4.*at least 5 x 5",
            input_shape=(16, 16, 3),
        ),
        bad(
            "coarsest.*is 4 x 4.*fewer scales",
            input_shape=(64, 64, 3),
            stem="imagenet",
        ),
        bad("three integers", input_shape=(32, 32)),
        bad("`normalization`.*3 values each", normalization=((0.5,), (0.2,))),
        bad(
            "positive standard deviations",
            normalization=((0.5,) * 3, (0.2, 0, 0.2)),
        ),
        bad("num_block", TypeError, num_block=3),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        MSDNet(**arguments)


def test_unknown_tiny_imagenet_option_is_refused():
    with pytest.raises(ValueError, match="Unknown `option` 'C'"):
        MSDNet.tiny_imagenet("C")


@pytest.mark.parametrize(
    "arguments",
    [{}, {"normalization": ((0.5,) * 3, (0.25,) * 3), "name": "mine"}],
)
def test_reloads(arguments, tmp_path):
    model = MSDNet(**SMALL, **arguments)
    battery.assert_reloads(model, tmp_path / "model.keras")
