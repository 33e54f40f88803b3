"""Functional models with several exits, among them one that is hard to read."""

import collections

import keras
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd.models import MSDNet
from keras_neokd.models import ResNet
from keras_neokd.models import SmallCNN
from keras_neokd.models import VisionTransformer
from tests import arrays
from tests.training import tiny

layers = keras.layers


def inputs_and_logits(count=2, num_classes=4, shape=(8, 8, 1)):
    """Return an input and logits of ever deeper exits."""
    inputs = keras.Input(shape)
    x = layers.Flatten()(inputs)
    logits = []
    for _ in range(count):
        x = layers.Dense(5, "relu")(x)
        logits.append(layers.Dense(num_classes)(x))
    return inputs, logits


@keras.saving.register_keras_serializable("test_graphs")
class Counted(layers.Layer):
    """Hands its input on, and counts how often it is run."""

    runs = 0

    def call(self, x):
        self.runs += 1
        return x + 0.0

    def compute_output_shape(self, input_shape):
        return input_shape


def hand_made():
    """Return a graph of everything that is easy to get wrong.

    One layer is called in two stages and twice within one, operations take
    slices, lists and numbers, one gives two tensors, exit 2 taps a tensor
    from before exit 1's, and exit 4 ends in a layer of exit 1.
    """
    inputs = keras.Input((8, 8, 1), name="pixels")
    x = layers.Conv2D(4, 3, name="conv")(inputs)
    early = Counted(name="counted")(x)
    shared = layers.Conv2D(4, 3, padding="same", name="shared")
    x = ops.relu(shared(early))
    head = layers.Dense(8, name="head")
    first = head(layers.GlobalAveragePooling2D(name="pool_1")(x))
    # From before the tensor that exit 1 looks at.
    tapped = layers.GlobalMaxPooling2D(name="pool_2")(early)
    second = layers.Dense(8, name="head_2")(
        ops.concatenate([tapped, ops.mean(early, axis=(1, 2))], axis=-1)
    )
    scale = ops.mean(early[:, ::2], axis=(1, 2), keepdims=True)
    x = shared(shared(x)) * 0.5 + 2.0 * scale
    left, right = ops.split(x, 2, axis=-1)
    x = layers.Concatenate(name="join")((right, left))[:, 1:, :-1]
    third = layers.Dense(8, name="head_3")(layers.Flatten(name="flat")(x))
    x = layers.GlobalAveragePooling2D(name="pool_4")(x)
    fourth = head(x) + second
    return MultiExitModel(inputs, [first, second, third, fourth])


def images_for(model, count=3):
    """Return random images of the size that a model takes."""
    return tiny.data(count, shape=model.input_shape[1:])[0]


MODELS = {
    "hand_made": hand_made,
    "dense": lambda: tiny.dense_model(norm=True, dropout=0.5),
    "small_cnn": lambda: SmallCNN(input_shape=(20, 20, 1)),
    "msdnet": lambda: MSDNet(num_blocks=2, base=2, step=1, growth_rate=2),
    "resnet": lambda: ResNet(
        input_shape=(8, 8, 3),
        stage_blocks=(1, 1),
        stage_filters=(2, 3),
        exits="all",
        normalization=((0.5, 0.4, 0.3), (0.2, 0.2, 0.1)),
    ),
    "vision_transformer": lambda: VisionTransformer(
        input_shape=(8, 12, 3),
        width=8,
        depth=2,
        num_heads=2,
        dropout=0.1,
        exits="all",
    ),
    "single_exit": lambda: tiny.dense_model(num_exits=1),
}


def calls_of(model):
    """Count the calls of each operation in a functional graph."""
    # Models of the package have their arguments as a configuration.
    config = keras.Model(model.input, model.output).get_config()
    return collections.Counter(
        {
            entry["name"]: len(entry["inbound_nodes"])
            for entry in config["layers"]
            if entry["inbound_nodes"]
        }
    )


def logits_of(model, images):
    """Return Keras' logits, an array for each exit."""
    logits = model(images, training=False)
    return [arrays.array(logits[each]) for each in model.exit_names]


def assert_close(received, expected, tolerance=1e-5):
    """Compare up to rounding, relative to the largest of the numbers."""
    expected = arrays.array(expected)
    scale = max(1.0, abs(expected).max())
    arrays.close(received, expected, rtol=0, atol=tolerance * scale)
