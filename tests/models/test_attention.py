"""The transformer's layers, against Keras' own and against NumPy."""

import keras
import numpy as np
import pytest
from keras import layers

from keras_neokd.models import layer_costs
from keras_neokd.models.attention import SelfAttention
from keras_neokd.models.attention import TokenEmbedding
from tests import arrays
from tests import saving


def test_self_attention_equals_keras():
    tokens = np.random.default_rng(0).random((2, 5, 8), "float32")
    own, other = SelfAttention(2), layers.MultiHeadAttention(2, 4)
    own.build(tokens.shape)
    other.build(tokens.shape, tokens.shape)
    kernel, bias, *output = own.get_weights()
    bias += np.random.default_rng(1).random(bias.shape, "float32")
    own.set_weights([kernel, bias, *output])
    weights = []
    for part in range(3):
        place = slice(8 * part, 8 * part + 8)
        weights += [
            kernel[:, place].reshape(8, 2, 4),
            bias[place].reshape(2, 4),
        ]
    other.set_weights([*weights, output[0].reshape(2, 4, 8), output[1]])
    arrays.close(own(tokens), other(tokens, tokens), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [SelfAttention(2), TokenEmbedding()])
def test_layers_come_back_from_their_config(layer):
    again = saving.rebuilt(layer)
    assert type(again) is type(layer)
    assert again.get_config() == layer.get_config()


@pytest.mark.parametrize("class_token", [True, False])
def test_embedding_adds_positions_after_the_class_token(class_token):
    tokens = np.random.default_rng(0).random((2, 3, 4), "float32")
    layer = TokenEmbedding(class_token)
    result = keras.ops.convert_to_numpy(layer(tokens))
    expected = tokens
    weights = layer.get_weights()
    if class_token:
        first = np.repeat(weights[0], 2, axis=0)
        expected = np.concatenate([first, tokens], axis=1)
    arrays.close(result, expected + weights[-1], rtol=1e-5)
    assert result.shape == layer.compute_output_shape(tokens.shape)


def test_embedding_starts_small_and_different():
    layer = TokenEmbedding()
    layer.build((None, 196, 192))
    positions = layer.get_weights()[1]
    assert positions.std() == pytest.approx(0.02, rel=0.02)
    assert not np.array_equal(positions[0, 0], positions[0, 1])


def test_heads_that_do_not_divide_the_width_are_refused():
    with pytest.raises(ValueError, match="3 heads for width 8"):
        SelfAttention(3).build((None, 5, 8))
    with pytest.raises(TypeError, match="`num_heads` needs an integer"):
        SelfAttention(2.0)


def test_costs_of_self_attention():
    # 5 tokens of 8 numbers in 2 heads: 4 matrices, 2 products, a softmax.
    multiply_adds = 5 * 4 * 64 + 2 * 25 * 8
    operations = multiply_adds + 5 * 4 * 8 + 2 * 25
    own = SelfAttention(2)
    own(keras.Input((5, 8)))
    assert layer_costs(own) == (operations, multiply_adds, 4 * (64 + 8))
    other = layers.MultiHeadAttention(2, 4)
    tokens = keras.Input((5, 8))
    other(tokens, tokens)
    assert layer_costs(other) == layer_costs(own)


def test_costs_of_attention_to_other_tokens():
    # 5 queries of 8 numbers, 7 keys of 6; heads of 4 and 3 numbers.
    layer = layers.MultiHeadAttention(2, 4, value_dim=3, use_bias=False)
    layer(keras.Input((5, 8)), keras.Input((7, 6)))
    multiply_adds = 5 * 8 * 8 + 7 * 6 * 8 + 7 * 6 * 6 + 5 * 6 * 8
    multiply_adds += 2 * 5 * 7 * (4 + 3)
    weights = 8 * 8 + 6 * 8 + 6 * 6 + 6 * 8
    assert layer_costs(layer) == (multiply_adds + 70, multiply_adds, weights)


def test_embedding_is_free_and_holds_weights():
    layer = TokenEmbedding()
    layer(keras.Input((5, 8)))
    assert layer_costs(layer) == (0, 0, 8 + 48)


def test_an_unknown_number_of_tokens_is_refused():
    tokens = keras.Input((None, 8))
    layer = layers.MultiHeadAttention(2, 4, name="mixer")
    layer(tokens, tokens)
    with pytest.raises(ValueError, match="input size of layer `mixer`"):
        layer_costs(layer)
