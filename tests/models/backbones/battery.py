"""Checks that several architectures have to pass."""

import warnings

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import attacks
from keras_neokd.models import exit_costs
from tests import arrays
from tests.training import tiny

NEEDS_KERAS_CV = "keras-cv is not installed (pip install 'keras-neokd[cv]')"


def some_images(model, count=2):
    shape = (count, *model.input_shape[1:])
    return np.random.default_rng(0).random(shape, "float32")


def weights_of(model, name):
    """Return the weights of a layer as arrays."""
    return [ops.convert_to_numpy(w) for w in model.get_layer(name).weights]


def assert_reloads(model, path):
    images = some_images(model)
    model.save(path)
    loaded = keras.saving.load_model(path)
    assert type(loaded) is type(model)
    assert loaded.get_config() == model.get_config()
    assert loaded.exit_names == model.exit_names
    before, after = model(images), loaded(images)
    for name in model.exit_names:
        arrays.equal(before[name], after[name])


def assert_normalizes(build, rtol=0, atol=1e-5):
    """Compare models that do and do not normalize, on images that are."""
    mean, deviation = (0.5, 0.4, 0.3), (0.2, 0.25, 0.1)
    plain, model = build(), build(normalization=(mean, deviation))
    model.set_weights(plain.get_weights())
    images = some_images(model)
    moved = (images - np.array(mean)) / np.array(deviation)
    inside, outside = model(images), plain(moved.astype("float32"))
    for name in model.exit_names:
        arrays.close(inside[name], outside[name], rtol=rtol, atol=atol)


def assert_equal_seeds_give_equal_weights(build):
    keras.utils.set_random_seed(7)
    first = build().get_weights()
    keras.utils.set_random_seed(7)
    tiny.assert_equal_states(first, build().get_weights())
    return first


def assert_trains_as(ours, theirs, shape, units, *, rtol=1e-7, atol):
    """Compare a step of two layers, behind one that sees their gradient."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(4, *shape)).astype("float32")
    weights, after, outputs = None, [], []
    for layer in (ours, theirs):
        dense = keras.layers.Dense(units)
        model = keras.Sequential([keras.Input(shape), dense, layer])
        weights = weights or [
            rng.normal(size=each.shape) for each in model.get_weights()
        ]
        model.set_weights(weights)
        outputs.append(model.predict(images, verbose=0))
        model.compile("sgd", "mse")
        model.train_on_batch(images, np.ones_like(outputs[0]))
        after.append(model.get_weights())
    arrays.close(*outputs, rtol=rtol, atol=atol)
    for mine, expected in zip(*after, strict=True):
        arrays.close(mine, expected, rtol=rtol, atol=atol)


def trainable_count(model):
    return sum(int(np.prod(each.shape)) for each in model.trainable_weights)


def assert_trains(model):
    model.compile(
        optimizer=keras.optimizers.SGD(0.1),
        method="adversarial_training",
        attack=attacks.PGD(epsilon=0.03, step_size=0.01, num_steps=1),
    )
    before = model.get_weights()
    logs = model.train_on_batch(
        some_images(model, 4), np.arange(4) % 2, return_dict=True
    )
    assert np.isfinite(float(logs["loss"]))
    changed = [
        bool(np.any(old != new))
        for old, new in zip(before, model.get_weights(), strict=True)
    ]
    assert np.mean(changed) > 0.8


def costs_without_warnings(model):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return exit_costs(model)


def assert_second_order(model):
    """The input gradient's norm has a gradient for nearly all weights."""
    gradients = _gradients_of_gradient_norm(model, some_images(model, 4))
    assert len(gradients) == len(model.trainable_weights)
    assert all(np.isfinite(each).all() for each in gradients)
    shares = {
        weight.path: float(np.abs(each).max())
        for weight, each in zip(model.trainable_weights, gradients, strict=True)
    }
    silent = [path for path, value in shares.items() if value == 0]
    # Biases need not move the input gradient.
    assert not [path for path in silent if path.endswith("kernel")], silent
    return shares


def _summed_loss(logits, labels):
    """Add up the cross-entropy of all exits, as a scalar."""
    return sum(
        ops.sum(
            keras.losses.sparse_categorical_crossentropy(
                labels, each, from_logits=True
            )
        )
        for each in keras.tree.flatten(logits)
    )


def _gradients_of_gradient_norm(model, images):
    labels = np.arange(len(images)) % model.num_classes
    by_backend = {
        "tensorflow": _with_tensorflow,
        "jax": _with_jax,
        "torch": _with_torch,
    }
    differentiate = by_backend[keras.config.backend()]
    return differentiate(model, images, labels)


def _with_tensorflow(model, images, labels):
    import tensorflow as tf

    images = tf.constant(images)
    with tf.GradientTape() as outer:
        with tf.GradientTape() as inner:
            inner.watch(images)
            loss = _summed_loss(model(images, training=False), labels)
        gradient = inner.gradient(loss, images)
        norm = tf.reduce_sum(gradient**2)
    gradients = outer.gradient(
        norm,
        [each.value for each in model.trainable_weights],
        unconnected_gradients="zero",
    )
    return [each.numpy() for each in gradients]


def _with_jax(model, images, labels):
    import jax

    trainable = [each.value for each in model.trainable_variables]
    fixed = [each.value for each in model.non_trainable_variables]

    def loss(images, trainable):
        logits, _ = model.stateless_call(
            trainable, fixed, images, training=False
        )
        return _summed_loss(logits, labels)

    def norm(trainable):
        return (jax.grad(loss)(images, trainable) ** 2).sum()

    return [np.asarray(each) for each in jax.jit(jax.grad(norm))(trainable)]


def _with_torch(model, images, labels):
    import torch

    images = torch.tensor(images, requires_grad=True)
    labels = torch.tensor(labels)
    loss = _summed_loss(model(images, training=False), labels)
    (gradient,) = torch.autograd.grad(loss, images, create_graph=True)
    weights = [each.value for each in model.trainable_weights]
    gradients = torch.autograd.grad(
        (gradient**2).sum(), weights, allow_unused=True
    )
    return [
        np.zeros(weight.shape) if each is None else each.detach().numpy()
        for weight, each in zip(weights, gradients, strict=True)
    ]


def needs_keras_cv():
    """Skip a test where keras-cv is missing."""
    pytest.importorskip("keras_cv", reason=NEEDS_KERAS_CV)
