"""Models in mixed precision: ends in float32, the rest as asked for."""

import itertools

import keras
import pytest

from keras_neokd import models
from tests import saving

NORMALIZATION = ((0.5,) * 3, (0.2,) * 3)


def small_cnn():
    return models.SmallCNN.mnist()


def msdnet():
    return models.MSDNet.cifar10(
        num_blocks=2, base=1, step=1, normalization=NORMALIZATION
    )


def resnet():
    return models.ResNet.cifar10(
        stage_blocks=(1, 1),
        stage_filters=(4, 8),
        exits=(1, 2),
        normalization=NORMALIZATION,
    )


def vision_transformer():
    return models.VisionTransformer.cifar10(
        width=12,
        depth=2,
        num_heads=3,
        mlp_width=16,
        exits=(1, 2),
        normalization=NORMALIZATION,
    )


POLICIES = ("mixed_bfloat16", "mixed_float16")


def built(policy, build):
    keras.config.set_dtype_policy(policy)
    try:
        return build()
    finally:
        keras.config.set_dtype_policy("float32")


@pytest.fixture(
    scope="module",
    params=[
        *itertools.product(
            POLICIES, (small_cnn, msdnet, resnet, vision_transformer)
        )
    ],
    ids=lambda each: f"{each[0]}-{each[1].__name__}",
)
def given(request):
    """A policy, and a model that was built under it."""
    return request.param[0], built(*request.param)


def test_logits_and_pixels_are_float32_and_the_rest_is_not(given):
    policy, model = given
    assert {each.dtype for each in model.outputs} == {"float32"}
    heads = {
        head.name
        for head in model.layers
        if head.name in model.exit_names or head.name.endswith("_head")
    }
    of_float32 = {
        layer.name for layer in model.layers if layer.compute_dtype == "float32"
    }
    kernels = {id(kernel) for kernel in model.head_kernels()}
    of_heads = {
        layer.name
        for layer in model.layers
        if id(getattr(layer, "kernel", None)) in kernels
    }
    assert len(of_heads) == model.num_exits and heads <= of_heads
    with_weights = {layer.name for layer in model.layers if layer.weights}
    assert of_float32 & with_weights == of_heads
    assert isinstance(model, models.SmallCNN) or "normalization" in of_float32
    assert {each.dtype for each in model.trainable_weights} == {"float32"}
    assert any(
        layer.compute_dtype == policy.removeprefix("mixed_")
        for layer in model.layers
    )


def test_the_precision_is_part_of_a_file(given, tmp_path):
    # Whatever else is built when it is loaded.
    assert keras.config.dtype_policy().name == "float32"
    _, model = given
    loaded = saving.reloaded(model, tmp_path)
    assert [each.dtype_policy.name for each in loaded.layers] == [
        each.dtype_policy.name for each in model.layers
    ]
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize("policy", POLICIES)
def test_a_file_of_float32_stays_in_float32(policy, tmp_path):
    small_cnn().save(tmp_path / "model.keras")

    def load():
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        assert keras.config.dtype_policy().name == policy
        return loaded

    loaded = built(policy, load)
    assert {each.compute_dtype for each in loaded.layers} == {"float32"}
