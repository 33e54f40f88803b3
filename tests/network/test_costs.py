import types

import keras
import pytest
from keras import layers

from keras_neokd.models import MSDNet
from keras_neokd.models import SmallCNN
from keras_neokd.models import exit_costs
from keras_neokd.models import layer_costs

# Operations and parameters, calculated from the published counter's rules,
# independently of this code; those for ImageNet and for 5 exits on CIFAR-100
# are published numbers. In millions where there is a point.
CUMULATIVE = {
    "cifar10": ("10300682 16722452 22047006", "291882 602372 901182"),
    "cifar10_wide": ("14.755 21.767 27.670", "345794 677020 991222"),
    "cifar100": (
        "10934884 20022472 29987372 38632592 49047284 58121048 66852284",
        "367292 768928 1136656 1536516 1998584 2408524 2862480",
    ),
    "cifar100_wide": (
        "15.14 25.51 37.10 46.33 57.34 66.96 75.94",
        "433876 ? ? ? ? ? 3067960",
    ),
    "cifar100_lin_grow": (
        "6.86 14.35 27.54 41.71 58.48",
        "0.30 0.65 1.02 1.49 2.08",
    ),
    "imagenet": (
        "339.90 685.46 1008.16 1254.47 1360.53",
        "4238504 8772240 13073272 16748416 23958440",
    ),
    "imagenet_step_7": (
        "615.69 1436.39 2283.21 2967.42 3253.79",
        "8.76 20.15 31.73 41.86 62.31",
    ),
    "tiny_imagenet_a": (
        "339.59 684.84 1007.26 1253.33 1358.94",
        "3.93 8.16 12.17 15.61 22.37",
    ),
    "tiny_imagenet_b": (
        "360.30 803.08 1217.34 1533.63 1654.25",
        "3.93 8.15 12.17 15.60 22.36",
    ),
}
OWN = {
    "cifar10": "10.301 14.949 17.615",
    "cifar100": "10.935 17.057 23.172 28.926 35.565 39.978 45.449",
}
BUILDERS = {
    "cifar10": MSDNet.cifar10,
    "cifar10_wide": lambda: MSDNet.cifar10(initial_channels=16),
    "cifar100": MSDNet.cifar100,
    "cifar100_wide": lambda: MSDNet.cifar100(initial_channels=16),
    "cifar100_lin_grow": lambda: MSDNet.cifar100(
        initial_channels=16, num_blocks=5, step_mode="lin_grow", base=1, step=1
    ),
    "imagenet": MSDNet.imagenet,
    "imagenet_step_7": lambda: MSDNet.imagenet(base=7, step=7),
    "tiny_imagenet_a": lambda: MSDNet.tiny_imagenet("A"),
    "tiny_imagenet_b": MSDNet.tiny_imagenet,
}


# Networks take seconds to build, and cost the same on every backend.
@pytest.fixture(
    scope="module",
    params=[
        "cifar10",
        *(
            pytest.param(name, marks=pytest.mark.any_backend)
            for name in CUMULATIVE
            if name != "cifar10"
        ),
    ],
)
def msdnet_rows(request):
    return request.param, exit_costs(BUILDERS[request.param]())


def assert_printed(values, expected):
    for value, wanted in zip(values, expected.split(), strict=True):
        if "." in wanted:
            digits = len(wanted.split(".")[1])
            assert f"{value / 1e6:.{digits}f}" == wanted
        elif wanted != "?":
            assert value == int(wanted)


def test_msdnet_costs_equal_the_published_counter(msdnet_rows):
    name, rows = msdnet_rows
    operations, parameters = CUMULATIVE[name]
    assert_printed([row.cumulative.operations for row in rows], operations)
    assert_printed([row.cumulative.parameters for row in rows], parameters)


def test_msdnet_costs_without_the_heads_of_earlier_exits(msdnet_rows):
    name, rows = msdnet_rows
    assert rows[0].own == rows[0].cumulative
    if name in OWN:
        assert_printed([row.own.operations for row in rows], OWN[name])


def test_msdnet_costs_layer_by_layer():
    # Running totals after each layer of CIFAR-100, heads of earlier exits
    # included.
    expected = [2.049, 3.764, 5.738, 7.970, 13.425, 16.173, 24.993, 27.096]
    expected += [32.311, 34.856, 41.399, 44.386, 52.789, 54.861]
    expected += [60.341, 62.708]
    model = MSDNet.cifar100()
    block_of_layer = [1, 1, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6, 6, 7, 7]

    def is_counted(name, last):
        parts = name.split("_")
        if parts[0] == "exit":
            return int(parts[1]) < block_of_layer[last - 1]
        if parts[0] == "block" and parts[2] == "layer":
            return int(parts[3]) <= last
        return True

    costs = {
        layer.name: layer_costs(layer).operations for layer in model.layers
    }
    for last, wanted in enumerate(expected, start=1):
        total = sum(
            cost for name, cost in costs.items() if is_counted(name, last)
        )
        assert round(total / 1e6, 3) == wanted, f"layer {last}"


def test_small_cnn_multiply_adds():
    rows = exit_costs(SmallCNN.mnist())
    own = [row.own.multiply_adds for row in rows]
    assert_printed(own, "1.015 7.708 9.952")
    cumulative = [row.cumulative.multiply_adds for row in rows]
    assert_printed(cumulative, "1.015 8.529 11.135")


def test_small_cnn_convolutions_equal_the_published_table():
    # 0.818, 7.00, 9.25 in units of 2 ** 20, heads of earlier exits left out.
    model = SmallCNN.mnist()
    totals = [
        sum(
            layer_costs(layer).multiply_adds
            for layer in model.exit_model(name).layers
            if isinstance(layer, layers.Conv2D)
        )
        for name in model.exit_names
    ]
    rounded = [round(total / 2**20, 4) for total in totals]
    assert rounded == [0.8185, 7.0060, 9.2560]


def test_small_cnn_parameters():
    rows = exit_costs(SmallCNN.mnist())
    trunk = [320, 320 + 9_248 + 18_496, 320 + 9_248 + 18_496 + 36_928]
    heads = [162_234, 362_410, 247_210]
    expected = [*map(sum, zip(trunk, heads, strict=True))]
    assert [row.own.parameters for row in rows] == expected
    assert rows[-1].cumulative.parameters == 836_846


@pytest.mark.parametrize(
    "layer, operations, multiply_adds, parameters",
    [
        # 6 x 6 x 4 in; 3 x 3 valid gives 4 x 4, 3 * 3 * 4 * 8 = 288 weights.
        (layers.Conv2D(8, 3), 16 * 288, 16 * 288, 296),
        (layers.Conv2D(8, 3, use_bias=False), 16 * 288, 16 * 288, 288),
        (
            layers.Conv2D(8, 3, activation="relu"),
            16 * 288 + 16 * 8,
            16 * 288,
            296,
        ),
        (layers.Conv2D(8, 3, strides=2), 4 * 288, 4 * 288, 296),
        (layers.Conv2D(8, 3, groups=2), 16 * 144, 16 * 144, 152),
        (layers.DepthwiseConv2D(3), 16 * 36, 16 * 36, 40),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), 16 * 72, 16 * 72, 80),
        # 36 depthwise and 4 * 8 pointwise weights.
        (layers.SeparableConv2D(8, 3), 16 * 68, 16 * 68, 76),
        (layers.MaxPooling2D(2), 3 * 3 * 4 * 4, 0, 0),
        (layers.AveragePooling2D(3, strides=1), 4 * 4 * 4 * 9, 0, 0),
        (layers.GlobalAveragePooling2D(), 144, 0, 0),
        (layers.GlobalMaxPooling2D(), 144, 0, 0),
        (layers.ReLU(), 144, 0, 0),
        (layers.Activation("relu"), 144, 0, 0),
        (layers.Activation("linear"), 0, 0, 0),
        (layers.BatchNormalization(), 0, 0, 8),
        (layers.Normalization(), 0, 0, 0),
        (layers.Dropout(0.5), 0, 0, 0),
        (layers.Flatten(), 0, 0, 0),
        # Applied at each of 36 positions.
        (layers.Dense(10), 36 * 50, 36 * 40, 50),
        (layers.Dense(10, use_bias=False), 36 * 40, 36 * 40, 40),
        (layers.Dense(10, activation="relu"), 36 * 60, 36 * 40, 50),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_costs_of_a_layer(layer, operations, multiply_adds, parameters):
    layer(keras.Input((6, 6, 4)))
    assert layer_costs(layer) == (operations, multiply_adds, parameters)


def test_freezing_a_layer_changes_no_cost():
    for layer in (layers.Conv2D(8, 3), layers.BatchNormalization()):
        layer(keras.Input((6, 6, 4)))
        costs = layer_costs(layer)
        layer.trainable = False
        assert layer_costs(layer) == costs


def test_activation_functions_called_as_operations_count():
    inputs = keras.Input((6, 6, 4))
    model = keras.Model(inputs, keras.ops.relu(inputs))
    assert layer_costs(model.operations[-1]).operations == 144


class Scale(layers.Layer):
    def build(self, input_shape):
        self.factor = self.add_weight(shape=(input_shape[-1],))

    def call(self, x):
        return x * self.factor


class Counted(layers.Layer):
    def call(self, x):
        return x

    def arithmetic(self, shape):
        return 2 * shape[1], shape[1]


def test_a_layer_may_tell_its_own_arithmetic():
    assert layer_costs(called(Counted(name="told"))) == (12, 6, 0)
    layer = called(Counted(name="told"), (None, 6, 4))
    with pytest.raises(ValueError, match="input size of layer `told`"):
        layer_costs(layer)


def called(layer, shape=(6, 6, 4)):
    layer(keras.Input(shape))
    return layer


def test_unknown_layers_with_weights_warn():
    layer = called(Scale(name="my_scale"))
    with pytest.warns(UserWarning, match="`my_scale` .Scale. holds weights"):
        assert layer_costs(layer) == (0, 0, 4)


def test_unknown_layers_without_weights_are_free():
    assert layer_costs(called(layers.Lambda(lambda x: x * 2))) == (0, 0, 0)


def test_unknown_input_size_is_refused():
    layer = called(layers.Conv2D(8, 3, name="stem"), (None, None, 3))
    with pytest.raises(ValueError, match="input size of layer `stem`.*fixed"):
        layer_costs(layer)


def exits(inputs, outputs):
    """The part of a multi-exit model that `exit_costs` relies on."""
    names = [f"exit_{number}" for number in range(1, len(outputs) + 1)]
    models = {
        name: keras.Model(inputs, output)
        for name, output in zip(names, outputs, strict=True)
    }
    return types.SimpleNamespace(
        inputs=[inputs], exit_names=tuple(names), exit_model=models.__getitem__
    )


def test_exits_share_the_trunk_and_own_their_heads():
    inputs = keras.Input((4,))
    trunk = layers.Dense(3)(inputs)
    deep = layers.Dense(2)(trunk)
    rows = exit_costs(
        exits(inputs, [layers.Dense(5)(trunk), layers.Dense(5)(deep)])
    )
    first, second = rows
    assert first.name == "exit_1"
    assert first.own == first.cumulative == (15 + 20, 12 + 15, 15 + 20)
    assert second.own == (15 + 8 + 15, 12 + 6 + 10, 15 + 8 + 15)
    assert second.cumulative.operations == 15 + 8 + 15 + 20


def test_a_shared_head_calculates_per_call_and_holds_weights_once():
    inputs = keras.Input((4,))
    trunk = layers.Dense(4)(inputs)
    head = layers.Dense(5)
    rows = exit_costs(exits(inputs, [head(inputs), head(trunk)]))
    assert rows[0].own == (25, 20, 25)
    assert rows[1].own == (20 + 25, 16 + 20, 20 + 25)
    assert rows[1].cumulative == (20 + 25 + 25, 16 + 20 + 20, 20 + 25)


def test_an_earlier_use_in_another_graph_does_not_matter():
    convolution = layers.Conv2D(8, 3)
    convolution(keras.Input((32, 32, 4)))
    inputs = keras.Input((6, 6, 4))
    outputs = layers.GlobalMaxPooling2D()(convolution(inputs))
    (row,) = exit_costs(exits(inputs, [outputs]))
    assert row.own.multiply_adds == 16 * 288


def test_models_inside_a_model_are_counted_through():
    inner_inputs = keras.Input((4,))
    inner = keras.Model(
        inner_inputs, layers.Dense(3, activation="relu")(inner_inputs)
    )
    sequential = keras.Sequential([layers.Dense(2), layers.Dense(5)])
    inputs = keras.Input((4,))
    rows = exit_costs(exits(inputs, [sequential(inner(inputs))]))
    assert rows[0].own == (15 + 3 + 8 + 15, 12 + 6 + 10, 15 + 8 + 15)


def test_a_model_may_charge_an_exit_for_layers_it_does_not_use():
    inputs = keras.Input((4,))
    early, late = layers.Dense(3), layers.Dense(2)
    early_outputs, late_outputs = early(inputs), late(inputs)
    merged = layers.Concatenate()([early_outputs, late_outputs])
    model = exits(inputs, [layers.Dense(5)(early_outputs)])
    model.exit_names += ("exit_2",)
    deep = keras.Model(inputs, layers.Dense(5)(merged))
    shallow = model.exit_model
    model.exit_model = lambda name: deep if name == "exit_2" else shallow(name)
    plain = exit_costs(model)
    model.layers_up_to = lambda exit_index: [early, late]
    charged = exit_costs(model)
    assert charged[0].own.operations == plain[0].own.operations + 10
    assert charged[1] == plain[1]
