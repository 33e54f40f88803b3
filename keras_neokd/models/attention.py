"""Self-attention and token embedding of vision transformers."""

import math

import keras
from keras import layers
from keras import ops

from keras_neokd.base import checks
from keras_neokd.models.initializers import EmbeddingNormal
from keras_neokd.models.parts import dense_layer


@keras.saving.register_keras_serializable("keras_neokd")
class SelfAttention(layers.Layer):
    """Mix tokens by how much each attends to the others, in several heads.

    Computes what `keras.layers.MultiHeadAttention` computes of one tensor.
    That layer calls PyTorch's fused attention, whose gradient has no gradient
    of its own, so methods that differentiate twice, such as input-gradient
    alignment, would fail. Here all operations are plain ones.

    Args:
        num_heads: Positive integer that divides the width of the tokens.
        **kwargs: Other arguments of `keras.layers.Layer`.
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = checks.integer("num_heads", num_heads, minimum=1)

    def build(self, input_shape):
        """Create the two projections."""
        width = input_shape[-1]
        if width % self.num_heads:
            raise ValueError(
                "`num_heads` needs to divide the width of the tokens: "
                f"received {self.num_heads} heads for width {width}."
            )
        policy = self.dtype_policy
        self.projection = dense_layer(
            3 * width, width, "projection", dtype=policy
        )
        self.output_projection = dense_layer(
            width, width, "output", dtype=policy
        )
        self.projection.build(input_shape)
        self.output_projection.build(input_shape)

    def call(self, tokens):
        """Return new tokens of the same shape `(batch, tokens, width)`."""
        count, width = tokens.shape[1:]
        size = width // self.num_heads
        x = ops.reshape(
            self.projection(tokens), (-1, count, 3, self.num_heads, size)
        )
        # Three times (batch, heads, tokens, size).
        x = ops.transpose(x, (2, 0, 3, 1, 4))
        query, key, value = x[0] / math.sqrt(size), x[1], x[2]
        scores = ops.matmul(query, ops.transpose(key, (0, 1, 3, 2)))
        x = ops.matmul(ops.softmax(scores, axis=-1), value)
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, count, width))
        return self.output_projection(x)

    def compute_output_shape(self, input_shape):
        """Return the shape of the input."""
        return input_shape

    def arithmetic(self, shape):
        """Return operations and multiply-adds of one image.

        Args:
            shape: `(batch, tokens, width)`.
        """
        _, tokens, width = shape
        multiply_adds = tokens * 4 * width**2 + 2 * tokens**2 * width
        biases, softmax = tokens * 4 * width, self.num_heads * tokens**2
        return multiply_adds + biases + softmax, multiply_adds

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "num_heads": self.num_heads}


@keras.saving.register_keras_serializable("keras_neokd")
class TokenEmbedding(layers.Layer):
    """Prepend a learned class token, and add a learned position to each token.

    Args:
        class_token: Whether to prepend the token. Defaults to `True`.
        **kwargs: Other arguments of `keras.layers.Layer`.
    """

    def __init__(self, class_token=True, **kwargs):
        super().__init__(**kwargs)
        self.class_token = checks.boolean("class_token", class_token)

    def build(self, input_shape):
        """Create the token and the positions."""
        _, count, width = self.compute_output_shape(input_shape)
        self.token = None
        if self.class_token:
            self.token = self.add_weight(
                shape=(1, 1, width),
                initializer=EmbeddingNormal(),
                name="class_token",
            )
        self.positions = self.add_weight(
            shape=(1, count, width),
            initializer=EmbeddingNormal(),
            name="positions",
        )

    def call(self, tokens):
        """Return tokens `(batch, tokens or tokens + 1, width)`."""
        if self.token is not None:
            # Added to zeros of the batch's size, known only when it runs.
            first = ops.zeros_like(tokens[:, :1]) + self.token
            tokens = ops.concatenate([first, tokens], axis=1)
        return tokens + self.positions

    def compute_output_shape(self, input_shape):
        """Return the shape of the input, with one token more."""
        batch, count, width = input_shape
        return batch, count + self.class_token, width

    def arithmetic(self, shape):
        """Return no operations: the embedding is free, as additions are."""
        return 0, 0

    def get_config(self):
        """Return the constructor arguments."""
        return {**super().get_config(), "class_token": self.class_token}
