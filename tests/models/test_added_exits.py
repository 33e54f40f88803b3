"""A trained classifier gets exits, and stays the last of them."""

import keras
import numpy as np
import pytest

from keras_neokd import EarlyExitPredictor
from keras_neokd import MultiExitModel
from keras_neokd import add_exits

IMAGES = np.random.default_rng(0).random((6, 32, 32, 3), "float32")
LABELS = np.arange(6) % 5


def residual(x, filters):
    y = keras.layers.Conv2D(filters, 3, padding="same")(x)
    y = keras.layers.BatchNormalization()(y)
    return keras.layers.Add()([keras.layers.Conv2D(filters, 1)(x), y])


def classifier(is_nested=False):
    """Return a small residual network, its trunk perhaps one layer."""
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, strides=2, activation="relu")(images)
    x = keras.layers.Activation("relu", name="block_1")(residual(x, 4))
    x = keras.layers.Activation("relu", name="block_2")(residual(x, 6))
    if is_nested:
        trunk = keras.Model(images, x, name="trunk")
        images = keras.Input((32, 32, 3))
        x = trunk(images)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(images, keras.layers.Dense(5, name="logits")(x))


@pytest.mark.parametrize("is_nested", [False, True])
def test_the_last_exit_is_the_classifier(is_nested):
    network = classifier(is_nested)
    model = add_exits(network, ["block_1", "block_2"])
    assert isinstance(model, MultiExitModel)
    assert model.exit_names == ("exit_1", "exit_2", "exit_3")
    expected = network.predict(IMAGES, verbose=0)
    logits = model.predict(IMAGES, verbose=0)
    np.testing.assert_allclose(logits["exit_3"], expected, atol=1e-6)
    costs = [each.cumulative.multiply_adds for each in model.exit_costs()]
    assert costs[0] < costs[1] < costs[2]
    # For real, too: what lies behind the exit is not computed.
    names = {each.name for each in model.exit_model(0).layers}
    assert "block_1" in names and not {"block_2", "trunk"} & names
    decision = EarlyExitPredictor(model, (0.0, 0.0))(IMAGES)
    np.testing.assert_array_equal(
        decision.label, logits["exit_1"].argmax(axis=1)
    )


def test_a_classifier_from_a_file_gets_exits(tmp_path):
    """Its layers have the names that new ones would be given."""
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, name="block")(images)
    for name in ("global_average_pooling2d", "exit_1_pooling"):
        pooled = keras.layers.GlobalAveragePooling2D(name=name)(x)
        logits = keras.layers.Dense(5, name="dense")(pooled)
        keras.Model(images, logits).save(tmp_path / "classifier.keras")
        keras.utils.clear_session()
        loaded = keras.models.load_model(tmp_path / "classifier.keras")
        model = add_exits(loaded, ["block"])
        expected = loaded.predict(IMAGES, verbose=0)
        found = model.predict(IMAGES, verbose=0)["exit_2"]
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_what_is_refused_is_not_frozen():
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 3, name="block")(images)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dense(5, activation="softmax")(x)
    network = keras.Model(images, x)
    with pytest.raises(ValueError, match="softmax"):
        add_exits(network, ["block"])
    assert len(network.trainable_variables) == 4


def test_new_heads_are_trained_and_the_classifier_stays():
    network = classifier()
    before = network.get_weights()
    model = add_exits(network, ["block_1"])
    assert len(model.trainable_variables) == 2
    model.compile(keras.optimizers.SGD(0.5), method="clean_training")
    start = model.predict(IMAGES, verbose=0)
    history = model.fit(IMAGES, LABELS, epochs=8, verbose=0).history
    assert history["loss"][-1] < history["loss"][0]
    end = model.predict(IMAGES, verbose=0)
    assert np.abs(end["exit_1"] - start["exit_1"]).max() > 1e-3
    for old, new in zip(before, network.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)
    np.testing.assert_allclose(end["exit_2"], start["exit_2"], atol=1e-6)


def test_without_freezing_all_is_trained():
    network = classifier()
    count = len(network.trainable_variables)
    model = add_exits(network, ["block_1"], freeze=False)
    assert len(model.trainable_variables) == count + 2


def test_preprocessing_is_part_of_the_model_and_of_its_file(tmp_path):
    network = classifier()
    model = add_exits(
        network,
        ["block_2"],
        preprocessing=lambda x: keras.ops.flip(255 * x, -1) - 99,
    )
    expected = network.predict(255 * IMAGES[..., ::-1] - 99, verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    for each in (model, loaded):
        found = each.predict(IMAGES, verbose=0)["exit_2"]
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-3)


def test_a_head_of_ones_own():
    def head(features, num_classes):
        x = keras.layers.Conv2D(3, 1, activation="relu", name="mine")(features)
        return keras.layers.Dense(num_classes)(keras.layers.Flatten()(x))

    model = add_exits(classifier(), ["block_1"], head=head)
    assert model.get_layer("mine").output.shape[1:3] == (15, 15)


def test_features_of_tokens_and_vectors():
    images = keras.Input((32, 32, 3))
    x = keras.layers.Conv2D(4, 16, strides=16)(images)
    tokens = keras.layers.Reshape((4, 4), name="tokens")(x)
    vector = keras.layers.Flatten(name="vector")(tokens)
    network = keras.Model(images, keras.layers.Dense(5)(vector))
    model = add_exits(network, ["tokens", "vector"])
    answers = model.predict(IMAGES, verbose=0)
    assert {each.shape for each in answers.values()} == {(6, 5)}


@pytest.mark.any_backend
def test_a_network_of_keras_applications():
    network = keras.applications.MobileNetV2(
        (32, 32, 3), 0.35, weights=None, classes=5, classifier_activation=None
    )
    model = add_exits(
        network,
        ["block_3_project_BN", "block_8_add"],
        preprocessing=lambda x: 2 * x - 1,
    )
    np.testing.assert_allclose(
        model.predict(IMAGES, verbose=0)["exit_3"],
        network.predict(2 * IMAGES - 1, verbose=0),
        atol=1e-5,
    )
    costs = [each.cumulative.multiply_adds for each in model.exit_costs()]
    assert costs[0] < costs[1] < costs[2]


def with_softmax():
    images = keras.Input((32, 32, 3))
    x = keras.layers.Flatten(name="block_1")(images)
    return keras.Model(images, keras.layers.Dense(5, "softmax")(x))


def called_twice():
    images = keras.Input((32, 32, 3))
    layer = keras.layers.Conv2D(3, 1, name="block_1")
    x = keras.layers.Flatten()(layer(layer(images)))
    return keras.Model(images, keras.layers.Dense(5)(x))


def with_two_outputs():
    images = keras.Input((32, 32, 3))
    x = keras.layers.Flatten(name="block_1")(images)
    return keras.Model(
        images, [keras.layers.Dense(5)(x), keras.layers.Dense(5)(x)]
    )


@pytest.mark.any_backend
@pytest.mark.parametrize(
    ("network", "at", "error", "message"),
    [
        (classifier, ["block1"], ValueError, "Names like it: .*block_1"),
        (classifier, [], ValueError, "at least one"),
        (classifier, "block_1", (TypeError, ValueError), "`at`"),
        (with_softmax, ["block_1"], ValueError, "softmax"),
        (called_twice, ["block_1"], ValueError, "gives 2 tensors"),
        (with_two_outputs, ["block_1"], ValueError, "received 1 and 2"),
        (lambda: None, ["block_1"], TypeError, "functional keras.Model"),
    ],
)
def test_what_does_not_fit_is_refused(network, at, error, message):
    with pytest.raises(error, match=message):
        add_exits(network(), at)
