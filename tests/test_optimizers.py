"""TorchSGD: the steps of torch.optim.SGD, on every backend."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import optimizers

START = np.array([1.0, -2.0, 0.5, 3.0, 0.0], "float32")
RATES = (0.1,) * 5
DROPPED_RATES = (0.1,) * 5 + (0.01,) * 3
RECIPE = {"momentum": 0.9, "coupled_weight_decay": 5e-4}


def gradient_at(weights):
    """Gradient of a fixed, badly conditioned quadratic function."""
    matrix = np.diag([4.0, 2.0, 1.0, 0.5, 0.1]) + 0.1
    return (matrix @ weights - 1).astype("float32")


def value_of(variable):
    """The only number in a variable."""
    return float(np.squeeze(ops.convert_to_numpy(variable.value)))


def keras_weights(optimizer, rates):
    """Weights after each step of a Keras optimizer."""
    variable = keras.Variable(START)
    optimizer.build([variable])
    weights = []
    for rate in rates:
        optimizer.learning_rate = rate
        gradient = gradient_at(ops.convert_to_numpy(variable.value))
        optimizer.apply([ops.convert_to_tensor(gradient)], [variable])
        weights.append(ops.convert_to_numpy(variable.value).copy())
    return np.array(weights)


def torch_weights(rates, **arguments):
    """Weights after each step of PyTorch's optimizer."""
    torch = pytest.importorskip("torch")
    weight = torch.nn.Parameter(torch.tensor(START))
    optimizer = torch.optim.SGD([weight], lr=rates[0], **arguments)
    weights = []
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        weight.grad = torch.tensor(gradient_at(weight.detach().numpy()))
        optimizer.step()
        weights.append(weight.detach().numpy().copy())
    return np.array(weights)


@pytest.mark.parametrize(
    ("arguments", "weights"),
    [
        # g = 0.5 + 0.1 * 1 = 0.6, v = 0.6, w = 1 - 0.1 * 0.6 = 0.94
        # g = 0.5 + 0.1 * 0.94 = 0.594, v = 0.9 * 0.6 + 0.594 = 1.134
        ({"coupled_weight_decay": 0.1}, (0.94, 0.8266)),
        # v = 0.5, w = 1 - 0.1 * (0.5 + 0.9 * 0.5) = 0.905
        # v = 0.9 * 0.5 + 0.5 = 0.95, w = 0.905 - 0.1 * (0.5 + 0.855)
        ({"nesterov": True}, (0.905, 0.7695)),
    ],
)
def test_two_steps_by_hand(arguments, weights):
    variable = keras.Variable([1.0])
    optimizer = optimizers.TorchSGD(0.1, momentum=0.9, **arguments)
    for expected in weights:
        optimizer.apply([ops.convert_to_tensor([0.5])], [variable])
        assert value_of(variable) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "arguments",
    [{}, *({"momentum": 0.9, "nesterov": each} for each in (False, True))],
)
@pytest.mark.parametrize("rates", [RATES, DROPPED_RATES])
@pytest.mark.parametrize("decay", [0.0, 5e-4, 0.1])
def test_steps_equal_pytorch_also_after_a_drop_of_the_rate(
    arguments, rates, decay
):
    expected = torch_weights(rates, weight_decay=decay, **arguments)
    optimizer = optimizers.TorchSGD(
        rates[0], coupled_weight_decay=decay, **arguments
    )
    np.testing.assert_allclose(
        keras_weights(optimizer, rates), expected, rtol=0, atol=1e-6
    )


def test_keras_sgd_decays_weights_apart_from_the_momentum():
    # Why this class exists, part 1: with a gradient of 0 only decay moves
    # the weight. PyTorch adds decay to the gradient, so momentum sums it up:
    # 1 + 1.9 + 2.71 = 5.61 times lr * decay after three steps, to first
    # order. Keras subtracts lr * decay * w in each: 3 times.
    def moved(optimizer):
        variable = keras.Variable([1.0])
        for _ in range(3):
            optimizer.apply([ops.zeros((1,))], [variable])
        return 1 - value_of(variable)

    ours = optimizers.TorchSGD(0.1, momentum=0.9, coupled_weight_decay=1e-2)
    theirs = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=1e-2)
    assert moved(ours) == pytest.approx(5.61e-3, rel=0.01)
    assert moved(theirs) == pytest.approx(3e-3, rel=0.01)


def test_keras_sgd_keeps_the_old_rate_in_its_velocity():
    # Why this class exists, part 2: equal at a constant rate, different
    # after a drop.
    ours = keras_weights(optimizers.TorchSGD(0.1, momentum=0.9), DROPPED_RATES)
    theirs = keras_weights(
        keras.optimizers.SGD(0.1, momentum=0.9), DROPPED_RATES
    )
    np.testing.assert_allclose(ours[:5], theirs[:5], rtol=0, atol=1e-6)
    assert abs(ours[5:] - theirs[5:]).max() > 1e-2
    # With a gradient of 0, a velocity of 1 and a rate of 0.1, then 0.01:
    # PyTorch moves by 0.01 * 0.9, Keras still by 0.1 * 0.9.
    steps = []
    for optimizer in (
        optimizers.TorchSGD(0.1, momentum=0.9),
        keras.optimizers.SGD(0.1, momentum=0.9),
    ):
        variable = keras.Variable([0.0])
        optimizer.apply([ops.ones((1,))], [variable])
        before = value_of(variable)
        optimizer.learning_rate = 0.01
        optimizer.apply([ops.zeros((1,))], [variable])
        steps.append(before - value_of(variable))
    assert steps == pytest.approx([0.009, 0.09], abs=1e-7)


def test_scales_and_biases_decay_like_kernels():
    variables = [
        keras.Variable(np.ones(shape), name=name)
        for name, shape in (("kernel", (2, 2)), ("gamma", (2,)), ("bias", ()))
    ]
    optimizer = optimizers.TorchSGD(0.5, coupled_weight_decay=0.1)
    gradients = [ops.zeros(variable.shape) for variable in variables]
    optimizer.apply(gradients, variables)
    for variable in variables:
        np.testing.assert_allclose(
            ops.convert_to_numpy(variable.value), 0.95, rtol=1e-6
        )


def test_each_variable_has_its_own_velocity():
    first, second = keras.Variable([0.0]), keras.Variable([0.0])
    optimizer = optimizers.TorchSGD(1.0, momentum=0.5)
    for _ in range(2):
        optimizer.apply([ops.ones((1,)), ops.zeros((1,))], [first, second])
    # 1 + (0.5 + 1)
    assert value_of(first) == pytest.approx(-2.5)
    assert value_of(second) == 0


def test_schedules_set_the_rate():
    schedule = keras.optimizers.schedules.PiecewiseConstantDecay(
        [1], [1.0, 0.1]
    )
    variable = keras.Variable([0.0])
    optimizer = optimizers.TorchSGD(schedule)
    places = []
    for _ in range(3):
        optimizer.apply([ops.ones((1,))], [variable])
        places.append(value_of(variable))
    np.testing.assert_allclose(places, [-1.0, -2.0, -2.1], rtol=1e-6)


@pytest.mark.skipif(
    keras.config.backend() == "tensorflow",
    reason="Keras has no stateless optimizer steps with TensorFlow",
)
def test_stateless_steps_equal_stateful_ones():
    def build():
        variable = keras.Variable(START)
        optimizer = optimizers.TorchSGD(0.1, nesterov=True, **RECIPE)
        optimizer.build([variable])
        return variable, optimizer

    gradient = ops.convert_to_tensor(gradient_at(START))
    stateful, optimizer = build()
    for _ in range(2):
        optimizer.apply([gradient], [stateful])
    variable, optimizer = build()
    trainable = [ops.copy(variable.value)]
    state = [ops.copy(each.value) for each in optimizer.variables]
    for _ in range(2):
        trainable, state = optimizer.stateless_apply(
            state, [gradient], trainable
        )
    np.testing.assert_allclose(
        ops.convert_to_numpy(trainable[0]),
        ops.convert_to_numpy(stateful.value),
        atol=1e-7,
    )


def test_round_trip_keeps_every_argument():
    optimizer = optimizers.TorchSGD(
        0.05, nesterov=True, name="mine", clipnorm=2.0, **RECIPE
    )
    text = json.dumps(keras.saving.serialize_keras_object(optimizer))
    loaded = keras.saving.deserialize_keras_object(json.loads(text))
    assert type(loaded) is optimizers.TorchSGD
    assert loaded.get_config() == optimizer.get_config()
    assert loaded.nesterov is True
    assert loaded.clipnorm == 2.0
    np.testing.assert_array_equal(
        keras_weights(loaded, RATES), keras_weights(optimizer, RATES)
    )


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"momentum": -0.1}, ValueError, "`momentum` needs .* >= 0"),
        (
            {"momentum": 1.0},
            ValueError,
            "`momentum` needs .* < 1, received 1.0",
        ),
        ({"nesterov": True}, ValueError, "`nesterov=True` needs a `momentum`"),
        ({"momentum": "0.9"}, TypeError, "`momentum` needs a number"),
        ({"nesterov": "no"}, TypeError, "`nesterov` needs True or False"),
        ({"lr": 0.1}, TypeError, "no argument `lr`: it is called `learning_ra"),
        (
            {"coupled_weight_decay": -1},
            ValueError,
            "`coupled_weight_decay` needs .* >= 0, received -1",
        ),
        (
            {"coupled_weight_decay": None},
            TypeError,
            "`coupled_weight_decay` needs a number, received None",
        ),
        (
            {"weight_decay": 5e-4},
            ValueError,
            "TorchSGD takes `coupled_weight_decay`. Received "
            "weight_decay=0.0005",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, error, message):
    with pytest.raises(error, match=message):
        optimizers.TorchSGD(0.1, **arguments)


@pytest.mark.parametrize("rate", [-1.0, np.nan, np.inf, "0.1", True, None])
def test_a_rate_that_climbs_is_refused(rate):
    error = ValueError if type(rate) is float else TypeError
    with pytest.raises(error, match="`learning_rate` needs .*, received"):
        optimizers.TorchSGD(rate)


def test_rates_and_schedules_pass():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.1, 10, 0.5)
    for rate in (0, np.float32(0.1), schedule):
        optimizers.TorchSGD(rate)
