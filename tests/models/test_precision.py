"""Models in mixed precision: ends in float32, the rest as asked for."""

import keras
import pytest

from keras_neokd import models

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


@pytest.fixture(params=["mixed_bfloat16", "mixed_float16"])
def policy(request):
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy("float32")


@pytest.mark.parametrize(
    "build", [small_cnn, msdnet, resnet, vision_transformer]
)
def test_logits_and_pixels_are_float32_and_the_rest_is_not(policy, build):
    model = build()
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
    assert build is small_cnn or "normalization" in of_float32
    assert {each.dtype for each in model.trainable_weights} == {"float32"}
    assert any(
        layer.compute_dtype == policy.removeprefix("mixed_")
        for layer in model.layers
    )


@pytest.mark.parametrize(
    "build", [small_cnn, msdnet, resnet, vision_transformer]
)
def test_the_precision_is_part_of_a_file(policy, build, tmp_path):
    model = build()
    model.save(tmp_path / "model.keras")
    # Whatever else is built when it is loaded.
    keras.config.set_dtype_policy("float32")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert [each.dtype_policy.name for each in loaded.layers] == [
        each.dtype_policy.name for each in model.layers
    ]
    assert keras.config.dtype_policy().name == "float32"


def test_a_file_of_float32_stays_in_float32(policy, tmp_path):
    keras.config.set_dtype_policy("float32")
    small_cnn().save(tmp_path / "model.keras")
    keras.config.set_dtype_policy(policy)
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert {each.compute_dtype for each in loaded.layers} == {"float32"}
    assert keras.config.dtype_policy().name == policy
