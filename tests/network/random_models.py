"""Multi-exit models drawn at random, of everything that Keras can connect."""

import keras
import numpy as np
from keras import ops

from keras_neokd import MultiExitModel
from tests.training import tiny

layers = keras.layers

SHAPE = (6, 6, 4)
NUM_CLASSES = 4


def random_model(seed):
    """Return a model; equal seeds give equal models."""
    return tiny.randomized(_Builder(seed).model(), seed)


class _Builder:
    """Draws layers, heads and how they are connected.

    All tensors of the trunk have `SHAPE`, so that any layer fits any tensor.
    """

    def __init__(self, seed):
        self._rng = np.random.default_rng(seed)
        self._used = []

    def _pick(self, options):
        return options[self._rng.integers(len(options))]

    def _often(self, probability=0.5):
        return self._rng.random() < probability

    def model(self):
        inputs = keras.Input((6, 6, 1))
        trunk = [self._conv()(inputs)]
        logits, heads = [], [self._head() for _ in range(2)]
        for _ in range(self._rng.integers(2, 5)):
            for _ in range(self._rng.integers(1, 4)):
                trunk.append(self._grow(trunk))
            logits.append(self._exit(trunk[-1], logits, heads))
            if self._often(0.3):
                # An exit's logits go back into the trunk.
                trunk.append(trunk[-1] * ops.tanh(logits[-1])[:, None, None])
        return MultiExitModel(inputs, logits)

    def _grow(self, trunk):
        """Return a tensor that follows from those there are."""
        x = trunk[-1]
        kind = self._pick(["layer", "layer", "layer", "again", "skip", "split"])
        if kind == "skip":
            other = self._pick(trunk)
            return self._pick(
                [
                    lambda: x + 0.5 * other,
                    lambda: layers.Add()([x, other, x]),
                    lambda: ops.concatenate([x[..., :2], other[..., 2:]], -1),
                    lambda: ops.where(other > 0.0, x, 2.0 * other),
                ]
            )()
        if kind == "split":
            return self._split(x)
        if kind == "again" and self._used:
            layer = self._pick(self._used)
            return self._pick([layer, lambda y: layer(layer(y))])(x)
        self._used.append(self._layer())
        return self._used[-1](x)

    def _split(self, x):
        """Use one or both of two tensors that a call gives."""
        source = keras.Input(SHAPE)
        first, second = self._conv()(source), layers.ReLU()(source)
        kind = self._pick(["list", "dict", "given", "operation", "inputs"])
        if kind == "operation":
            first, second = ops.split(x, 2, axis=-1)
            return layers.Concatenate()([second, first])
        if kind == "inputs":
            other = keras.Input(SHAPE)
            both = keras.Model([source, other], first - other)
            return both([x, self._conv()(x)])
        outputs = {
            "list": [first, second],
            "dict": {"z": first, "a": second},
            # The model hands on what it is given.
            "given": [source, second],
        }[kind]
        results = keras.Model(source, outputs)(x)
        first, second = keras.tree.flatten(results)
        return self._pick([first, second, first - second])

    def _layer(self, depth=0):
        plain = [
            self._conv,
            layers.BatchNormalization,
            layers.ReLU,
            lambda: layers.Activation("tanh"),
            lambda: layers.DepthwiseConv2D(3, padding="same"),
            lambda: layers.MaxPooling2D(3, strides=1, padding="same"),
            lambda: layers.Dropout(0.5),
        ]
        nested = [self._functional, self._sequential]
        if depth < 2 and self._often(0.4):
            return self._pick(nested)(depth + 1)
        return self._pick(plain)()

    def _conv(self):
        activation = self._pick([None, "relu"])
        return layers.Conv2D(4, 3, padding="same", activation=activation)

    def _functional(self, depth):
        source = keras.Input(SHAPE)
        layer = self._layer(depth)
        x = layer(self._layer(depth)(source))
        if self._often():
            x = layer(x) + source
        if self._often(0.3):
            # Another model has calls of the layer, too.
            keras.Model(source, layer(source))
        return keras.Model(source, x)

    def _sequential(self, depth):
        parts = [self._layer(depth) for _ in range(self._rng.integers(1, 3))]
        if self._often():
            parts.insert(0, keras.Input(SHAPE))
        return keras.Sequential(parts)

    def _head(self):
        pool = self._pick([layers.GlobalAveragePooling2D, layers.Flatten])
        dense = layers.Dense(NUM_CLASSES)
        kind = self._pick(["functional", "sequential", "layers", "pair"])
        if kind == "sequential":
            return keras.Sequential([pool(), dense])
        if kind == "layers":
            return lambda x: dense(pool()(x))
        source = keras.Input(SHAPE)
        logits = dense(pool()(source))
        if kind == "functional":
            return keras.Model(source, logits)
        pair = keras.Model(source, [logits, layers.Dense(4)(logits)])
        result = self._rng.integers(2)
        return lambda x: pair(x)[result]

    def _exit(self, x, earlier, heads):
        kind = self._pick(["head", "head", "bare", "own", "earlier"])
        if kind == "bare":
            return self._pick(
                [layers.GlobalMaxPooling2D(), lambda y: y[:, 0, 0]]
            )(x)
        head = self._head() if kind == "own" else self._pick(heads)
        logits = head(x)
        if kind == "earlier" and earlier:
            logits = logits + 0.5 * self._pick(earlier)
        return logits
