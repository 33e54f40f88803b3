"""The contract of multi-exit models: names, order, sub-models, errors."""

import keras
import numpy as np
import pytest
from keras import layers
from keras import ops

from keras_neokd import MultiExitModel
from tests import arrays
from tests import saving
from tests.network.models import inputs_and_logits
from tests.reference import equations
from tests.training import tiny

# "exit_10" sorts before "exit_2".
NAMES_OF_12 = tuple(f"exit_{i}" for i in range(1, 13))
IMAGES, LABELS = tiny.data(20)


@pytest.fixture(scope="module")
def model_of_12():
    return tiny.dense_model(num_exits=12, num_classes=13)


@pytest.fixture(scope="module")
def predictions_of_12(model_of_12):
    return model_of_12.predict(IMAGES, verbose=0)


@pytest.mark.parametrize("kind", [list, tuple])
def test_exits_of_a_sequence_are_numbered(kind):
    inputs, logits = inputs_and_logits(3)
    model = MultiExitModel(inputs, kind(logits))
    assert model.exit_names == ("exit_1", "exit_2", "exit_3")
    assert list(model.predict(IMAGES, verbose=0)) == list(model.exit_names)


def test_exits_of_a_dict_keep_names_and_order():
    inputs, logits = inputs_and_logits(3)
    outputs = dict(zip(("shallow", "middle", "deep"), logits, strict=True))
    model = MultiExitModel(inputs, outputs, name="net")
    assert model.name == "net"
    assert model.exit_names == ("shallow", "middle", "deep")
    assert (model.num_exits, model.num_classes) == (3, 4)
    outputs = model(IMAGES)
    assert set(outputs) == {"shallow", "middle", "deep"}
    for name in model.exit_names:
        arrays.close(model.exit_model(name)(IMAGES), outputs[name], atol=1e-6)


def test_exit_names_can_be_given_for_both_kinds_of_outputs():
    inputs, logits = inputs_and_logits()
    model = MultiExitModel(inputs, logits, exit_names=["early", "late"])
    assert model.exit_names == ("early", "late")
    outputs = {"late": logits[1], "early": logits[0]}
    model = MultiExitModel(inputs, outputs, exit_names=["early", "late"])
    assert model.exit_names == ("early", "late")
    assert model.exit_model(0).output is logits[0]


def test_twelve_exits_are_in_depth_order(model_of_12):
    assert model_of_12.exit_names == NAMES_OF_12
    sizes = [len(model_of_12.exit_model(i).layers) for i in range(12)]
    assert sizes == [4 + i for i in range(12)]


def test_every_way_to_an_exit_gives_the_same_logits(
    model_of_12, predictions_of_12
):
    seen = model_of_12.exit_logits()(ops.convert_to_tensor(IMAGES))
    assert len(seen) == 12
    for i, name in enumerate(NAMES_OF_12):
        for alias in (name, i, i - 12):
            single = model_of_12.exit_model(alias)
            assert single is model_of_12.exit_model(name)
        arrays.close(single(IMAGES), predictions_of_12[name], atol=1e-6)
        arrays.close(seen[i], predictions_of_12[name], atol=1e-6)


def test_an_attack_gets_the_exits_it_asks_for_in_its_order(
    model_of_12, predictions_of_12
):
    predict = model_of_12.exit_logits()
    for exits in ((11, 1, 9), (4,), (0, 10)):
        logits = predict(ops.convert_to_tensor(IMAGES), exits)
        assert isinstance(logits, tuple)
        for index, values in zip(exits, logits, strict=True):
            arrays.close(
                values, predictions_of_12[NAMES_OF_12[index]], atol=1e-6
            )


def test_logs_of_twelve_exits_belong_to_their_exits(
    model_of_12, predictions_of_12
):
    labels = predictions_of_12["exit_10"].argmax(axis=1)
    tiny.compiled(
        model_of_12,
        method="adversarial_training",
        attack=tiny.GivenImages(IMAGES),
        metrics=[keras.metrics.SparseTopKCategoricalAccuracy(2, name="top_2")],
    )
    trained = model_of_12.train_on_batch(IMAGES, labels, return_dict=True)
    # Predictions are those before the step.
    accuracies = []
    for name in NAMES_OF_12:
        logits = predictions_of_12[name].astype("float64")
        accuracy = (logits.argmax(axis=1) == labels).mean()
        top_2 = (np.argsort(-logits)[:, :2] == labels[:, None]).any(axis=1)
        loss = equations.cross_entropy(logits, labels).mean()
        for kind in ("clean", "adversarial"):
            assert trained[f"{name}_{kind}_accuracy"] == pytest.approx(accuracy)
            found = trained[f"{name}_{kind}_top_2"]
            assert found == pytest.approx(top_2.mean())
            found = trained[f"{name}_{kind}_loss"]
            assert found == pytest.approx(loss, abs=1e-5)
        accuracies.append(accuracy)
    assert accuracies[9] == 1
    assert max(accuracies[:9] + accuracies[10:]) < 1
    evaluated = tiny.evaluate(model_of_12, IMAGES, labels)
    after = model_of_12.predict(IMAGES, verbose=0)
    for name in NAMES_OF_12:
        assert evaluated[f"{name}_clean_accuracy"] == pytest.approx(
            (after[name].argmax(axis=1) == labels).mean()
        )


@pytest.mark.parametrize("exit", ["exit_13", 12, -13, "1", None, 1.0])
def test_unknown_exits_are_refused_with_the_known_ones(model_of_12, exit):
    with pytest.raises(
        ValueError, match=r"has no exit .*'exit_1', .*'exit_12'"
    ):
        model_of_12.exit_model(exit)


def test_exit_index_counts_from_both_ends(model_of_12):
    assert model_of_12.exit_index("exit_10") == 9
    assert model_of_12.exit_index(9) == 9
    assert model_of_12.exit_index(-1) == 11


def test_sub_models_share_layers_and_add_no_weights(model_of_12):
    inputs, logits = inputs_and_logits(3)
    model = MultiExitModel(inputs, logits)
    plain = keras.Model(inputs, logits)
    assert {id(each) for each in model.weights} == {
        id(each) for each in plain.weights
    }
    assert model.count_params() == plain.count_params()
    assert [each.name for each in model.layers] == [
        each.name for each in plain.layers
    ]
    early = model.exit_model("exit_1")
    assert {id(each) for each in early.weights} < {
        id(each) for each in model.weights
    }
    for variable in model.weights:
        variable.assign(np.zeros(variable.shape))
    assert not early.predict(IMAGES, verbose=0).any()


def test_logits_for_attacks_are_float32_whatever_the_precision():
    with_policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = MultiExitModel(*inputs_and_logits())
    finally:
        keras.config.set_dtype_policy(with_policy)
    for logits in model.exit_logits()(ops.convert_to_tensor(IMAGES)):
        assert keras.backend.standardize_dtype(logits.dtype) == "float32"


@pytest.mark.parametrize("kind", ["dict", "list", "tuple"])
def test_functional_models_convert_and_share_their_layers(kind):
    inputs, logits = inputs_and_logits(3)
    outputs = {
        "dict": dict(zip(("a", "b", "c"), logits, strict=True)),
        "list": logits,
        "tuple": tuple(logits),
    }[kind]
    plain = keras.Model(inputs, outputs, name="plain")
    model = MultiExitModel.from_functional(plain)
    assert model.name == "plain"
    assert model.exit_names == (
        ("a", "b", "c") if kind == "dict" else ("exit_1", "exit_2", "exit_3")
    )
    for a, b in zip(model.weights, plain.weights, strict=True):
        assert a is b
    expected = plain.predict(IMAGES, verbose=0)
    expected = list(expected.values()) if kind == "dict" else expected
    results = model.predict(IMAGES, verbose=0)
    for name, values in zip(model.exit_names, expected, strict=True):
        arrays.close(results[name], values, atol=1e-6)


def test_conversion_takes_names_and_a_name():
    inputs, logits = inputs_and_logits()
    plain = keras.Model(inputs, {"b": logits[0], "a": logits[1]})
    model = MultiExitModel.from_functional(
        plain, exit_names=["b", "a"], name="named"
    )
    assert (model.name, model.exit_names) == ("named", ("b", "a"))


def test_functional_models_with_their_input_in_a_list_convert():
    inputs, logits = inputs_and_logits()
    model = MultiExitModel.from_functional(keras.Model([inputs], logits))
    assert model.predict(IMAGES, verbose=0)["exit_2"].shape == (20, 4)


def test_models_that_are_not_functional_do_not_convert():
    class Subclassed(keras.Model):
        def call(self, images):
            return images

    for model in (Subclassed(), keras.Sequential([layers.Dense(2)]), 3):
        with pytest.raises(TypeError, match="needs a functional keras.Model"):
            MultiExitModel.from_functional(model)


def test_the_file_keeps_names_order_and_numbers(
    model_of_12, predictions_of_12, tmp_path
):
    model = tiny.dense_model(num_exits=12, num_classes=13)
    loaded = saving.reloaded(model, tmp_path)
    assert type(loaded) is MultiExitModel
    assert loaded.exit_names == NAMES_OF_12
    predictions = loaded.predict(IMAGES, verbose=0)
    for i, name in enumerate(NAMES_OF_12):
        for values in (predictions[name], loaded.exit_model(i)(IMAGES)):
            arrays.close(values, predictions_of_12[name], atol=1e-6)


def test_names_that_sort_backwards_survive_file_and_config(tmp_path):
    inputs, logits = inputs_and_logits()
    model = MultiExitModel(inputs, {"shallow": logits[0], "deep": logits[1]})
    model.save(tmp_path / "model.keras")
    for copy in (
        keras.models.load_model(tmp_path / "model.keras"),
        MultiExitModel.from_config(model.get_config()),
    ):
        assert copy.exit_names == ("shallow", "deep")
        copy.set_weights(model.get_weights())
        for name in copy.exit_names:
            arrays.close(
                copy.exit_model(name).predict(IMAGES, verbose=0),
                model.predict(IMAGES, verbose=0)[name],
                atol=1e-6,
            )
