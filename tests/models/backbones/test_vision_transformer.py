"""VisionTransformer: exits along its blocks, on every backend."""

import keras
import numpy as np
import pytest

from keras_neokd.models import VisionTransformer
from tests import arrays
from tests.models.backbones import battery
from tests.refusals import bad

TINY = {
    "input_shape": (8, 12, 3),
    "num_classes": 2,
    "patch_size": 4,
    "width": 8,
    "depth": 2,
    "num_heads": 2,
}


def parameters_by_formula(width, depth, patch_size, size, num_classes):
    """Count what the class token, positions, blocks and one head hold."""
    tokens = (size // patch_size) ** 2
    patches = (patch_size**2 * 3 + 1) * width
    embedding = width + (tokens + 1) * width
    # Four attention matrices, two of the perceptron with 4 * width units.
    block = 12 * width**2 + 13 * width
    head = 2 * width + (width + 1) * num_classes
    return patches + embedding + depth * block + head


def test_one_exit_unless_asked_for_more():
    model = VisionTransformer(**TINY)
    assert model.exit_names == ("exit_1",)
    logits = model(battery.some_images(model, 3))
    assert tuple(logits["exit_1"].shape) == (3, 2)


def test_every_block_can_be_an_exit():
    model = VisionTransformer(**{**TINY, "depth": 12}, exits="all")
    assert model.exit_names == tuple(f"exit_{i}" for i in range(1, 13))
    third = VisionTransformer(**{**TINY, "depth": 3}, exits=(1, 3))
    assert third.exit_names == ("exit_1", "exit_2")
    names = {layer.name for layer in third.exit_model("exit_1").layers}
    assert "block_1_mlp_2" in names
    assert not [name for name in names if name.startswith("block_2")]


def test_parameters_and_multiply_adds_of_a_tiny_network():
    model = VisionTransformer(**TINY, exits="all")
    first, last = battery.costs_without_warnings(model)
    # 2 x 3 patches and a class token.
    patches = 6 * 48 * 8
    attention = 7 * 8 * (3 * 8) + 2 * 7 * 7 * 8 + 7 * 8 * 8
    block = attention + 2 * 7 * 8 * 32
    assert first.own.multiply_adds == patches + block + 8 * 2
    assert last.own.multiply_adds == patches + 2 * block + 8 * 2
    embedding = 48 * 8 + 8 + 8 + 7 * 8
    block = 12 * 64 + 13 * 8
    head = 16 + 8 * 2 + 2
    assert first.own.parameters == embedding + block + head
    assert last.own.parameters == embedding + 2 * block + head
    assert last.cumulative.parameters == last.own.parameters + head
    assert battery.trainable_count(model) == last.cumulative.parameters


@pytest.mark.parametrize(
    ("size", "width", "parameters"),
    [("tiny", 192, 5_717_416), ("small", 384, 22_050_664)],
)
def test_the_imagenet_networks_are_the_known_ones(size, width, parameters):
    if keras.config.backend() != "tensorflow":
        pytest.skip("takes seconds, and is the same on every backend")
    model = VisionTransformer.imagenet(size)
    (cost,) = battery.costs_without_warnings(model)
    assert parameters_by_formula(width, 12, 16, 224, 1000) == parameters
    assert cost.own.parameters == parameters
    assert battery.trainable_count(model) == parameters
    # 1.254e9 and 4.599e9: published 1.26e9 and 4.61e9 count layer norms too.
    block = 197 * 12 * width**2 + 2 * 197**2 * width
    expected = 196 * 768 * width + 12 * block + width * 1000
    assert cost.own.multiply_adds == expected


def test_the_cifar_networks_have_small_patches():
    model = VisionTransformer.cifar10(depth=2, exits=(1, 2))
    assert model.get_layer("embedding").output.shape == (None, 65, 192)
    expected = parameters_by_formula(192, 2, 4, 32, 10)
    second_head = 2 * 192 + 193 * 10
    assert battery.trainable_count(model) == expected + second_head
    assert VisionTransformer.cifar100(depth=1).num_classes == 100


def test_the_average_of_the_tokens_can_be_classified():
    model = VisionTransformer(**TINY, pooling="average")
    assert model.get_layer("embedding").output.shape == (None, 6, 8)
    token = VisionTransformer(**TINY)
    saved = battery.trainable_count(token) - battery.trainable_count(model)
    assert saved == 2 * 8
    battery.costs_without_warnings(model)


@pytest.mark.parametrize("pooling", ["token", "average"])
def test_reloads(pooling, tmp_path):
    model = VisionTransformer(
        **TINY,
        exits="all",
        pooling=pooling,
        mlp_width=5,
        dropout=0.1,
        activation="silu",
        normalization=((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)),
    )
    battery.assert_reloads(model, tmp_path / "model.keras")


def test_trains():
    battery.assert_trains(
        VisionTransformer(**{**TINY, "depth": 1}, dropout=0.1)
    )


@pytest.mark.parametrize("activation", ["gelu", "relu"])
def test_the_input_gradient_can_be_differentiated(activation):
    battery.assert_second_order(
        VisionTransformer(**{**TINY, "depth": 1}, activation=activation)
    )


def test_a_seed_starts_equal_weights():
    battery.assert_equal_seeds_give_equal_weights(
        lambda: VisionTransformer(**TINY)
    )


def test_what_is_dropped_is_dropped_in_training_only():
    model = VisionTransformer(**TINY, dropout=0.5)
    images = battery.some_images(model)
    outputs = [
        keras.ops.convert_to_numpy(model(images, training=training)["exit_1"])
        for training in (False, False, True)
    ]
    arrays.equal(outputs[0], outputs[1])
    assert np.abs(outputs[0] - outputs[2]).max() > 1e-4


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        bad("multiples of `patch_size` 5", patch_size=5),
        bad("`width` 8.*`num_heads` 3", num_heads=3),
        bad("`depth`.*>= 1", depth=0),
        bad("`mlp_width`.*>= 1", mlp_width=0),
        bad("`width` needs an integer", TypeError, width=8.0),
        bad("`pooling` 'max'.*average", pooling="max"),
        bad("`dropout`.* <= 1, received 2", dropout=2.0),
        bad("`exits` needs block numbers", exits=(1,)),
        bad("`activation` 'gela'", activation="gela"),
        bad("3 values each", normalization=((0.5,) * 3,)),
        bad("`num_classes`.*>= 2", num_classes=1),
    ],
)
def test_wrong_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        VisionTransformer(**{**TINY, **arguments})


def test_an_unknown_size_is_refused():
    with pytest.raises(ValueError, match="`size` 'huge'.*tiny"):
        VisionTransformer.cifar10("huge")
