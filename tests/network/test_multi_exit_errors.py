"""What is no multi-exit model is refused; doubtful ones are warned about."""

import warnings

import keras
import pytest
from keras import layers
from keras import ops

from keras_neokd import MultiExitModel
from tests.network.models import inputs_and_logits

# What is refused.


def build(outputs, inputs=None, **arguments):
    inputs = keras.Input((8, 8, 1)) if inputs is None else inputs
    return MultiExitModel(inputs, outputs(inputs), **arguments)


def dense(units=4, **arguments):
    return lambda x: layers.Dense(units, **arguments)(layers.Flatten()(x))


def pair(first, second):
    return lambda x: [first(x), second(x)]


NOT_LOGITS = [
    (
        dense(),
        layers.Conv2D(4, 3),
        r"Exit 'exit_2' needs logits of shape \(batch, classes\), received "
        r"shape \(None, 6, 6, 4\)",
    ),
    (dense(), layers.Conv2D(4, 8), r"received shape \(None, 1, 1, 4\)"),
    (
        dense(4),
        dense(5),
        r"same number of classes, received \{'exit_1': 4, 'exit_2': 5\}",
    ),
    (
        dense(),
        lambda x: ops.sum(dense()(x), axis=1),
        r"received shape \(None,\)",
    ),
    (
        dense(1),
        dense(1),
        r"two logits or more, received one per exit.*Dense\(2\), and give "
        "labels 0 and 1",
    ),
]


@pytest.mark.parametrize(("first", "second", "message"), NOT_LOGITS)
def test_outputs_that_are_no_logits_are_refused(first, second, message):
    with pytest.raises(ValueError, match=message):
        build(pair(first, second))


HEADS = {
    "activation": dense(activation="softmax"),
    "activation_layer": lambda x: layers.Activation("softmax")(dense()(x)),
    "softmax_layer": lambda x: layers.Softmax()(dense()(x)),
    "softmax_op": lambda x: ops.softmax(dense()(x)),
    "log_softmax": dense(activation="log_softmax"),
    "log_softmax_op": lambda x: ops.log_softmax(dense()(x)),
    "sigmoid": dense(activation="sigmoid"),
    "sigmoid_op": lambda x: ops.sigmoid(dense()(x)),
    "float32_softmax": lambda x: layers.Activation(
        keras.activations.softmax, dtype="float32"
    )(dense()(x)),
    "linear_after_softmax": lambda x: layers.Activation(
        "linear", dtype="float32"
    )(dense(activation="softmax")(x)),
    "identity_after_softmax": lambda x: layers.Identity()(
        layers.Softmax()(dense()(x))
    ),
    "reshape_after_softmax": lambda x: layers.Reshape((4,))(
        layers.Activation("softmax")(dense()(x))
    ),
    "nested_model": lambda x: keras.Sequential(
        [layers.Dense(4, activation="softmax")]
    )(layers.Flatten()(x)),
}


@pytest.mark.parametrize("head", HEADS)
def test_heads_that_squash_their_logits_are_refused(head):
    with pytest.raises(
        ValueError, match="Exit 'exit_2' ends in .*(softmax|sigm)"
    ):
        build(pair(dense(), HEADS[head]))


@pytest.mark.parametrize(
    "head",
    [
        dense(),
        dense(activation="linear"),
        lambda x: layers.Activation("linear", dtype="float32")(dense()(x)),
        lambda x: 2.0 * dense()(x),
        lambda x: layers.Dense(4)(ops.softmax(dense()(x))),
    ],
)
def test_heads_of_logits_are_fine(head):
    build(lambda x: [head(x), head(x)])


def test_of_a_nested_model_the_output_counts_that_the_exit_is():
    inputs = keras.Input((8, 8, 1))
    nested = keras.Model(
        inputs, [dense()(inputs), dense(activation="softmax")(inputs)]
    )
    build(pair(lambda x: nested(x)[0], dense()))
    with pytest.raises(ValueError, match="Exit 'exit_1' ends in softmax"):
        build(pair(lambda x: nested(x)[1], dense()))


def test_what_a_nested_model_hands_on_is_looked_at_before_it():
    source = keras.Input((4,))
    nested = keras.Model(source, [layers.Identity()(source), source])
    for output in range(2):
        build(lambda x, i=output: nested(dense()(x))[i])
        with pytest.raises(ValueError, match="ends in softmax"):
            build(lambda x, i=output: nested(dense(activation="softmax")(x))[i])


def test_a_layer_called_twice_counts_where_the_exit_ends():
    shared, act = layers.Dense(4), layers.Activation("softmax")
    gated = build(lambda x: shared(act(shared(layers.Flatten()(x)[:, :4]))))
    assert gated.head_kernels()[0] is shared.kernel
    with pytest.raises(ValueError, match="Exit 'exit_1' ends in softmax"):
        build(lambda x: act(shared(act(dense()(x)))))


@pytest.mark.parametrize("dtype", ["uint8", "int32"])
def test_images_are_floats(dtype):
    inputs = keras.Input((8, 8, 1), dtype=dtype)
    with pytest.raises(ValueError, match=f"dtype='{dtype}' would round to 0"):
        build(lambda x: [dense()(layers.Rescaling(1.0)(x))] * 2, inputs)


def test_a_softmax_model_does_not_convert():
    inputs, logits = inputs_and_logits()
    model = keras.Model(inputs, [layers.Softmax()(each) for each in logits])
    with pytest.raises(ValueError, match="Exit 'exit_1' ends in softmax"):
        MultiExitModel.from_functional(model)


@pytest.mark.parametrize(
    ("kind", "names", "message"),
    [
        (list, ["a", "a"], "none twice: received .'a', 'a'. for 2 outputs"),
        (list, ["a"], "one name per output"),
        (list, ["a", "b", "c"], "one name per output"),
        (dict, ["exit_1", "exit_1"], "`exit_names` needs each output once"),
        (dict, ["exit_1"], r"expected the names \['exit_1', 'exit_2'\]"),
        (dict, ["exit_1", "exit_3"], "received .'exit_1', 'exit_3'."),
    ],
)
def test_names_that_do_not_fit_are_refused(kind, names, message):
    inputs, logits = inputs_and_logits()
    if kind is dict:
        logits = {"exit_1": logits[0], "exit_2": logits[1]}
    with pytest.raises(ValueError, match=message):
        MultiExitModel(inputs, logits, exit_names=names)


def test_several_inputs_are_refused():
    first, logits = inputs_and_logits()
    second = keras.Input((8, 8, 1))
    both = layers.Dense(4)(layers.Flatten()(first + second))
    with pytest.raises(ValueError, match="one input of images"):
        MultiExitModel([first, second], [logits[0], both])
    with pytest.raises(ValueError, match="one input of images"):
        MultiExitModel({"a": first, "b": second}, [logits[0], both])


def test_an_input_that_is_no_image_is_refused():
    with pytest.raises(ValueError, match="one input of images"):
        build(pair(dense(), dense()), inputs=keras.Input((64,)))


def channels_first(turn):
    """Return the outputs of a network with its channels first."""
    inputs = keras.Input((8, 8, 3) if turn else (3, 8, 8))
    x = keras.layers.Permute((3, 1, 2))(inputs) if turn else inputs
    # Inside of a model of its own, as backbones are.
    inner = keras.Input(x.shape[1:])
    pool = keras.layers.MaxPooling2D(data_format="channels_first", name="pool")
    x = keras.Model(inner, pool(inner))(x)
    return inputs, keras.layers.Dense(4)(keras.layers.Flatten()(x))


def test_channels_come_last():
    message = r"\(height, width, channels\), and layer 'pool' has data_format"
    with pytest.raises(ValueError, match=message):
        MultiExitModel(*channels_first(turn=False))
    # The same layers behind images with their channels last.
    MultiExitModel(*channels_first(turn=True))


def test_the_wrong_order_is_warned_about():
    inputs, logits = inputs_and_logits(3)
    with pytest.warns(UserWarning, match=r"depth order: \['exit_1', 'exit_2'"):
        MultiExitModel(inputs, [logits[0], logits[2], logits[1]])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MultiExitModel(inputs, logits)


def flat_head(x):
    x = layers.Flatten()(x)
    for _ in range(4):
        x = layers.Dense(4)(x)
    return x


def nested_head(x):
    source = keras.Input(x.shape[1:])
    return keras.Model(source, flat_head(source))(x)


def sequential_head(x):
    return keras.Sequential([keras.Sequential([nested_layers()])])(x)


def nested_layers():
    return keras.Sequential(
        [layers.Flatten(), *(layers.Dense(4) for _ in range(4))]
    )


@pytest.mark.parametrize("head", [flat_head, nested_head, sequential_head])
@pytest.mark.parametrize("earlier", [flat_head, nested_head, sequential_head])
def test_a_nested_head_counts_as_its_layers(earlier, head):
    inputs = keras.Input((8, 8, 1))
    deeper = layers.Conv2D(2, 3)(inputs)
    MultiExitModel(inputs, [earlier(inputs), head(deeper)])
    with pytest.warns(UserWarning, match=r"computed by \[6, 5\] operations"):
        MultiExitModel(inputs, [earlier(deeper), head(inputs)])


def test_of_a_nested_trunk_an_exit_counts_what_it_needs():
    inputs = keras.Input((8, 8, 1))
    early = layers.Conv2D(2, 3)(inputs)
    late = layers.Conv2D(2, 3)(layers.Conv2D(2, 3)(early))
    trunk = keras.Model(inputs, [early, late])
    first, second = trunk(inputs)
    outputs = [flat_head(first), dense()(second)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        MultiExitModel(inputs, outputs[:1] + [flat_head(second)])
    with pytest.warns(UserWarning, match=r"computed by \[6, 5\] operations"):
        MultiExitModel(inputs, outputs)
