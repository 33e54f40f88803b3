"""Frozen networks in 16 bits: what rounds, and how much."""

import contextlib

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import backend
from keras_neokd import models
from keras_neokd.evaluation.precision import in_float32
from keras_neokd.network.frozen import FrozenNetwork
from tests.network.models import images_for
from tests.training import tiny

layers = keras.layers

# The largest step between two numbers, relative to them.
STEP = {
    dtype: float(ml_dtypes.finfo(dtype).eps)
    for dtype in ("bfloat16", "float16")
}


def residual():
    """Return a model of what keeps 16 bits, and of layers that do not."""
    inputs = keras.Input((9, 8, 3))
    pooled = layers.MaxPooling2D(2)(layers.Rescaling(2.0, -1.0)(inputs))
    x = layers.Conv2D(4, 3, padding="same", name="of_pixels")(pooled)
    x = layers.BatchNormalization()(x)
    y = layers.ReLU()(x)
    y = layers.Conv2D(4, 3, padding="same", name="inner")(y)
    x = layers.Concatenate()([layers.Add()([x, y]), y])
    x = layers.Activation("relu")(x)
    x = layers.AveragePooling2D(2)(x)
    first = layers.Dense(8)(layers.GlobalAveragePooling2D()(x))
    x = layers.Conv2D(4, 1, name="before_operation")(x)
    x = ops.tanh(0.5 * x)
    x = layers.Conv2D(8, 2, name="of_logits")(x)
    second = layers.Flatten()(layers.AveragePooling2D((1, 1))(x))
    return MultiExitModel(inputs, [first, second])


def msdnet():
    return models.MSDNet(num_blocks=2, base=2, step=1, growth_rate=2)


def small_cnn():
    return models.SmallCNN(input_shape=(20, 20, 1))


def resnet():
    return models.ResNet(
        input_shape=(8, 8, 3),
        stage_blocks=(1, 1),
        stage_filters=(2, 3),
        exits="all",
        normalization=((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)),
    )


BUILT = {each.__name__: each for each in (residual, msdnet, small_cnn, resnet)}


@pytest.fixture(params=BUILT)
def build(request):
    return BUILT[request.param]


def dtypes_of_convolutions(function, monkeypatch):
    """Return the precisions of the kernels that a function convolves with."""
    convolve, seen = backend.convolve, []

    def spying(images, kernel, bias, **named):
        dtypes = {
            keras.backend.standardize_dtype(each.dtype)
            for each in (images, kernel, bias)
        }
        seen.append(*dtypes)  # They are of one precision.
        return convolve(images, kernel, bias, **named)

    with monkeypatch.context() as patch:
        patch.setattr(backend, "convolve", spying)
        function()
    return seen


def lowered_convolutions(model, monkeypatch):
    """Return the precisions of the convolutions of a lowered model."""
    predict = model.exit_logits().frozen("bfloat16")
    images = ops.convert_to_tensor(images_for(model))
    return dtypes_of_convolutions(lambda: predict(images), monkeypatch)


def deviation(received, expected):
    """Return the largest difference, relative to the largest number."""
    received, expected = (
        np.stack([tiny.array(each) for each in logits])
        for logits in (received, expected)
    )
    scale = max(1.0, np.abs(expected).max())
    return np.abs(received - expected).max() / scale


def test_convolutions_round_and_logits_do_not(monkeypatch):
    model = tiny.randomized(residual())
    images = ops.convert_to_tensor(images_for(model))
    predict = model.exit_logits().frozen("bfloat16")
    assert dtypes_of_convolutions(
        lambda: predict(images, (1,)), monkeypatch
    ) == ["bfloat16", "bfloat16", "bfloat16", "float32"]
    # The sum of logits is not a number of bfloat16.
    for logits in map(tiny.array, predict(images)):
        assert logits.dtype == "float32"
        rounded = logits.astype(ml_dtypes.bfloat16).astype("float32")
        assert (rounded != logits).mean() > 0.9


ENDS = {
    "flatten": [layers.Flatten()],
    "global_pooling": [layers.GlobalAveragePooling2D()],
    "activation": [layers.LeakyReLU(), layers.GlobalMaxPooling2D()],
    "dropout": [layers.Dropout(0.5), layers.Reshape((8,))],
    "operation": [lambda x: 2.0 * x, layers.Reshape((8,))],
}


@pytest.mark.parametrize("name", ENDS)
def test_the_convolution_that_gives_logits_stays(name, monkeypatch):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, strides=2)(layers.Conv2D(4, 3)(inputs))
    x = layers.Conv2D(8, 2)(x)
    for each in ENDS[name]:
        x = each(x)
    model = tiny.randomized(MultiExitModel(inputs, [x]))
    assert lowered_convolutions(model, monkeypatch) == [
        "bfloat16",
        "bfloat16",
        "float32",
    ]


def test_dilated_convolutions_stay(monkeypatch):
    """TensorFlow does not have their gradient on all processors."""
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 2, dilation_rate=(2, 1))(inputs)
    x = layers.Conv2D(4, 2, dilation_rate=2)(x)
    first = layers.Dense(8)(layers.Flatten()(x))
    network = FrozenNetwork(MultiExitModel(inputs, [first]))
    assert not network.computes_in_16_bits()
    second = layers.Dense(8)(layers.Flatten()(layers.Conv2D(4, 3)(x)))
    model = tiny.randomized(MultiExitModel(inputs, [first, second]))
    assert model.frozen_network().computes_in_16_bits()
    assert lowered_convolutions(model, monkeypatch) == [
        "float32",
        "float32",
        "bfloat16",
    ]


def test_each_layer_before_dense_ones_hands_16_bits_on():
    model = tiny.randomized(residual())
    network = FrozenNetwork(model)
    seen = {}
    values = {network.input: ops.convert_to_tensor(images_for(model))}
    for call in network.calls((0, 1)):
        results = call(call.prepare("bfloat16"), values)
        values.update(results)
        (result,) = results.values()
        name = type(model.call_graph.operation(call.call)).__name__
        dtype = keras.backend.standardize_dtype(result.dtype)
        seen.setdefault(dtype, []).append(name)
    assert set(seen) == {"float32", "bfloat16"}
    assert seen["bfloat16"] == [
        "MaxPooling2D",
        "BatchNormalization",  # Part of the convolution before.
        "ReLU",
        "Conv2D",
        "Add",
        "Concatenate",
        "Activation",
        "AveragePooling2D",
        "Conv2D",
    ]


def test_bfloat16_gives_the_logits_of_float32_up_to_its_step(build):
    model = tiny.randomized(build())
    images = ops.convert_to_tensor(images_for(model, 6))
    predict = model.exit_logits()
    exact = predict.frozen()
    lowered = predict.frozen("bfloat16")
    assert lowered.exact is not lowered and exact.exact is exact
    difference = deviation(lowered(images), exact(images))
    assert 0 < difference < STEPS_OF_LOGITS * STEP["bfloat16"]
    assert deviation(lowered.exact(images), exact(images)) == 0


# Roundings of the layers before add up; more than so many steps they are not.
STEPS_OF_LOGITS = 4


@pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16"])
def test_models_of_16_bits_are_merged_and_stay_exact(policy, build):
    model = built_in(policy, build)
    images = ops.convert_to_tensor(images_for(model, 6))
    predict, expected = model.exit_logits(), in_float32(model)(images)
    expected = [expected[name] for name in model.exit_names]
    layer_by_layer, merged = predict(images), predict.frozen()(images)
    step = STEP[policy.removeprefix("mixed_")]
    for logits in (layer_by_layer, merged):
        assert {each.dtype for each in map(tiny.array, logits)} == {
            np.dtype("float32")
        }
        assert deviation(logits, expected) < STEPS_OF_LOGITS * step
    assert deviation(merged, layer_by_layer) < STEPS_OF_LOGITS * step


def far_from_zero(mean_from):
    """Return a model in bfloat16 whose second batch norm takes 50 off.

    Its variance is 1e-3; the 50 come from the bias of the convolution before,
    or from a channel that is always 5.
    """
    inputs = keras.Input((8, 8, 1))
    with in_precision("mixed_bfloat16"):
        x = layers.Conv2D(4, 3)(inputs)
        x = layers.ReLU()(layers.BatchNormalization(name="before")(x))
        x = layers.Conv2D(6, 3, name="convolution")(x)
        x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
        x = layers.Dense(8, dtype="float32")(layers.Flatten()(x))
    model = tiny.randomized(MultiExitModel(inputs, [x]))
    convolution, norm = map(model.get_layer, ("convolution", "norm"))
    norm.moving_mean.assign(np.full(6, 50.0))
    norm.moving_variance.assign(np.full(6, 1e-3))
    if mean_from == "bias":
        convolution.bias.assign(np.full(6, 50.0))
        return model
    before, kernel = model.get_layer("before"), tiny.array(convolution.kernel)
    before.gamma.assign([0.0, 1.0, 1.0, 1.0])
    before.beta.assign([5.0, 0.0, 0.0, 0.0])
    kernel[:, :, 0] = 50 / (9 * 5)
    convolution.kernel.assign(kernel)
    return model


# A bias is merged in float32, and rounded then; that of 50 standard deviations
# which the inputs have to cancel is rounded more coarsely than their sum.
@pytest.mark.parametrize(("mean_from", "most"), [("bias", 0.1), ("inputs", 3)])
def test_merging_is_as_exact_as_the_bias(mean_from, most):
    model = far_from_zero(mean_from)
    images = ops.convert_to_tensor(images_for(model, 16))
    predict, expected = model.exit_logits(), in_float32(model)(images)
    expected = tiny.array(expected["exit_1"])

    def error(predict):
        return np.sqrt(
            ((tiny.array(predict(images)[0]) - expected) ** 2).mean()
        )

    assert 0 < error(predict.frozen()) < most * error(predict)


@contextlib.contextmanager
def in_precision(policy):
    earlier = keras.config.dtype_policy()
    keras.config.set_dtype_policy(policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(earlier)


def built_in(policy, build):
    with in_precision(policy):
        return tiny.randomized(build())


def test_models_of_16_bits_have_as_few_calls_as_those_of_float32(build):
    merged, expected = (
        [
            [name for name, _ in each.merged]
            for each in FrozenNetwork(model).calls(
                tuple(range(model.num_exits))
            )
        ]
        for model in (built_in("mixed_bfloat16", build), build())
    )
    assert list(map(len, merged)) == list(map(len, expected))
    # The layers of SmallCNN have nothing around them.
    assert (max(map(len, merged)) > 1) == (build is not small_cnn)


def test_float64_is_not_merged():
    if keras.config.backend() == "jax":
        pytest.skip("JAX computes in float32 unless it is told otherwise")
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(4, 3, dtype="float64")(inputs)
    x = layers.BatchNormalization(dtype="float64")(x)
    x = layers.MaxPooling2D(2, dtype="float64")(x)
    model = MultiExitModel(inputs, [layers.Dense(8)(layers.Flatten()(x))] * 1)
    calls = FrozenNetwork(model).calls((0,))
    assert {len(each.merged) for each in calls} == {1}


def test_batch_norm_does_not_make_float16_overflow():
    inputs = keras.Input((8, 8, 1))
    with in_precision("mixed_float16"):
        x = layers.Conv2D(4, 3)(inputs)
        x = layers.BatchNormalization()(x)
        x = layers.Flatten()(layers.ReLU()(x))
        x = layers.Dense(8, dtype="float32")(x)
    model = tiny.randomized(MultiExitModel(inputs, [x]))
    norm = model.layers[2]
    norm.moving_mean.assign(3000.0 + norm.moving_mean)
    norm.moving_variance.assign(0.0 * norm.moving_variance)
    model.layers[1].bias.assign(3000.0 + model.layers[1].bias)
    predict, images = model.exit_logits(), images_for(model)
    images = ops.convert_to_tensor(images)
    expected, merged = predict(images), predict.frozen()(images)
    assert np.isfinite(tiny.array(expected[0])).all()
    assert deviation(merged, expected) < STEPS_OF_LOGITS * STEP["float16"]


def test_padding_of_another_precision_stays():
    inputs = keras.Input((8, 8, 1))
    x = layers.ZeroPadding2D(1, dtype="bfloat16")(inputs)
    x = layers.Flatten()(layers.Conv2D(4, 3)(x))
    model = MultiExitModel(inputs, [layers.Dense(8)(x)])
    calls = FrozenNetwork(model).calls((0,))
    assert [len(each.merged) for each in calls] == [1, 1, 1, 1]
