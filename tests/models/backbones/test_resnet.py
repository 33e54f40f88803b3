"""ResNet: plain Keras for small images, keras-cv for large ones."""

import functools

import keras
import pytest
from keras import layers

from keras_neokd.models import ResNet
from tests import arrays
from tests.isolation import run_without
from tests.models.backbones import battery
from tests.refusals import bad

TINY = {
    "input_shape": (8, 8, 3),
    "num_classes": 2,
    "stage_blocks": (1, 1),
    "stage_filters": (4, 8),
}
TINY_LARGE = {
    "input_shape": (32, 32, 3),
    "num_classes": 2,
    "stage_blocks": (1, 1),
    "stage_filters": (4, 8),
    "block": "bottleneck",
    "stem": "imagenet",
}
ON_TENSORFLOW = pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="takes seconds, and is the same on every backend",
)


@pytest.fixture(params=["cifar", "imagenet"])
def tiny(request):
    """The arguments of a tiny network with either stem."""
    if request.param == "cifar":
        return TINY
    battery.needs_keras_cv()
    return TINY_LARGE


def test_one_exit_unless_asked_for_more(tiny):
    model = ResNet(**tiny)
    assert model.exit_names == ("exit_1",)
    assert model.num_classes == 2
    assert model.output["exit_1"].shape == (None, 2)


@pytest.mark.parametrize("exits", ["all", (1, 2), [1, 2]])
def test_every_stage_can_be_an_exit(tiny, exits):
    model = ResNet(**tiny, exits=exits)
    assert model.exit_names == ("exit_1", "exit_2")
    first = {layer.name for layer in model.exit_model("exit_1").layers}
    last = {layer.name for layer in model.exit_model("exit_2").layers}
    # An early exit runs nothing of the later stage.
    assert len(first - {"exit_1", "exit_1_pool"}) < len(last) / 1.5
    assert not [name for name in first if "stage_2" in name]
    assert not [name for name in first if "stack_1" in name]


def test_parameters_and_multiply_adds_of_a_tiny_network():
    model = ResNet(**TINY, exits="all")
    first, last = battery.costs_without_warnings(model)
    stem, stage_1 = 27 * 4, 2 * 36 * 4
    # Stage 2 has 4 x 4 positions; its shortcut is a 1 x 1 convolution.
    stage_2 = 36 * 8 + 72 * 8 + 4 * 8
    assert first.own.multiply_adds == 64 * (stem + stage_1) + 4 * 2
    assert last.own.multiply_adds == (
        64 * (stem + stage_1) + 16 * stage_2 + 8 * 2
    )
    norms = 2 * (3 * 4 + 3 * 8)
    assert last.own.parameters == stem + stage_1 + stage_2 + norms + 18
    assert last.cumulative.parameters == last.own.parameters + 10
    assert battery.trainable_count(model) == last.cumulative.parameters


def test_parameters_and_multiply_adds_of_keras_cv():
    battery.needs_keras_cv()
    first, last = battery.costs_without_warnings(
        ResNet(**TINY_LARGE, exits="all")
    )
    stem = 7 * 7 * 3 * 64
    # 8 x 8 positions after the stem; 1 x 1 shortcut, then the bottleneck.
    stage_1 = 64 * 16 + 64 * 4 + 9 * 4 * 4 + 4 * 16
    stage_2 = 16 * 32 + 16 * 8 + 9 * 8 * 8 + 8 * 32
    assert first.own.multiply_adds == 256 * stem + 64 * stage_1 + 16 * 2
    assert last.own.multiply_adds == (
        256 * stem + 64 * stage_1 + 16 * stage_2 + 32 * 2
    )
    norms = 2 * (64 + 16 + 4 + 4 + 16 + 32 + 8 + 8 + 32)
    expected = stem + stage_1 + stage_2 + norms + 32 * 2 + 2
    assert last.own.parameters == expected


def test_multiply_adds_of_resnet_18_for_cifar():
    # 0.56e9 multiply-adds and 11.17 million parameters, as widely reported.
    (cost,) = battery.costs_without_warnings(ResNet.cifar10())
    stem = 1024 * 27 * 64
    first = 4 * 1024 * 9 * 64**2
    # A later stage has a quarter of the positions and twice the filters: as
    # many multiply-adds, but for the narrower input of its first block.
    later = 3.5 * 256 * 9 * 128**2 + 256 * 64 * 128
    assert cost.own.multiply_adds == stem + first + 3 * later + 5120
    assert cost.own.parameters == 11_173_962


@ON_TENSORFLOW
@pytest.mark.parametrize(
    ("depth", "millions"), [(18, "11.174"), (34, "21.282"), (50, "23.521")]
)
def test_parameters_of_the_cifar_networks(depth, millions):
    model = ResNet.cifar10(depth)
    assert f"{battery.trainable_count(model) / 1e6:.3f}" == millions
    assert model.name == f"resnet_{depth}_cifar10"


@ON_TENSORFLOW
@pytest.mark.parametrize(
    ("depth", "parameters"), [(18, 11_689_512), (50, 25_557_032)]
)
def test_parameters_of_the_imagenet_networks(depth, parameters):
    # Those of PyTorch's models of the same names.
    battery.needs_keras_cv()
    model = ResNet.imagenet(depth)
    assert battery.trainable_count(model) == parameters
    assert model.input_shape == (None, 224, 224, 3)
    assert model.num_classes == 1000


@ON_TENSORFLOW
def test_cifar100_has_a_hundred_classes():
    model = ResNet.cifar100(exits="all", stage_filters=(4, 8, 16, 32))
    assert (model.num_classes, model.num_exits) == (100, 4)


def test_reloads(tiny, tmp_path):
    model = ResNet(
        **tiny,
        exits="all",
        activation="softplus",
        normalization=((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)),
    )
    battery.assert_reloads(model, tmp_path / "model.keras")


def test_weights_alone_reload(tiny, tmp_path):
    model = ResNet(**tiny)
    model.save_weights(tmp_path / "model.weights.h5")
    other = ResNet(**tiny)
    other.load_weights(tmp_path / "model.weights.h5")
    for old, new in zip(model.get_weights(), other.get_weights(), strict=True):
        arrays.equal(old, new)


def test_trains(tiny):
    battery.assert_trains(ResNet(**tiny, exits="all"))


@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_the_input_gradient_can_be_differentiated(tiny, activation):
    battery.assert_second_order(
        ResNet(**tiny, exits="all", activation=activation)
    )


def test_the_activation_is_the_chosen_one_everywhere(tiny):
    model = ResNet(**tiny, activation="silu")
    functions = {
        layer.activation
        for layer in model.layers
        if isinstance(layer, layers.Activation)
    }
    assert functions == {keras.activations.silu}


def test_pixels_are_normalized_inside_the_model(tiny):
    battery.assert_normalizes(functools.partial(ResNet, **tiny), rtol=1e-3)


def test_batch_norm_is_pytorchs_in_both(tiny):
    norms = [
        layer
        for layer in ResNet(**tiny).layers
        if isinstance(layer, layers.BatchNormalization)
    ]
    assert {layer.momentum for layer in norms} == {0.9}
    assert {round(layer.epsilon, 7) for layer in norms} == {1e-5}


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        bad("one value per stage", stage_blocks=(1, 1, 1)),
        bad(r"per stage each; received \(\) a", stage_blocks=()),
        bad("`stage_filters`.*>= 1", stage_filters=(4, 0)),
        bad("`block` 'wide'.*bottleneck", block="wide"),
        bad("`stem` 'mnist'.*imagenet", stem="mnist"),
        bad("`exits` needs stage numbers.*last", exits=(1,)),
        bad("ascending order.*2, 1", exits=(2, 1)),
        bad("from 1 to 2", exits=(1, 3)),
        bad("`exits` needs stage numbers", exits=()),
        bad("`exits` 'first'.*\"all\"", exits="first"),
        bad("`exits` needs an integer", TypeError, exits=(1.0, 2)),
        bad("`activation` 'relo'.*gelu", activation="relo"),
        bad("needs the name of a function", TypeError, activation=None),
        bad("3 values each", normalization=((0.5,), (0.2,))),
        bad("`num_classes`.*>= 2", num_classes=1),
        bad("at least 2 pixels", input_shape=(1, 8, 3)),
        bad(
            "`stage_filters` needs to be 64",
            stem="imagenet",
            input_shape=(32, 32, 3),
        ),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        ResNet(**{**TINY, **arguments})


def test_an_unknown_depth_is_refused():
    with pytest.raises(ValueError, match="`depth` 19.*18, 34, 50"):
        ResNet.cifar10(19)


def test_keras_cv_needs_channels_last():
    battery.needs_keras_cv()
    keras.config.set_image_data_format("channels_first")
    try:
        with pytest.raises(ValueError, match="'channels_first'.*cifar"):
            ResNet(**TINY_LARGE)
    finally:
        keras.config.set_image_data_format("channels_last")


WITHOUT_KERAS_CV = """
import keras_neokd
small = keras_neokd.models.ResNet(
    (8, 8, 3), 2, stage_blocks=(1,), stage_filters=(4,)
)
print("small", small.num_exits)
keras_neokd.models.ResNet.imagenet(18)
"""


def test_without_keras_cv_the_message_says_what_to_install():
    result = run_without(["keras_cv"], WITHOUT_KERAS_CV)
    assert "small 1" in result.stdout, result.stderr
    assert 'ImportError: A ResNet with `stem="imagenet"`' in result.stderr
    assert "keras-neokd[cv]" in result.stderr
