"""A model of a config starts from the weights of a file."""

import numpy as np
import pytest

from apps import building
from configs import default
from keras_neokd.serving import weights

OPTIONS = {"stage_blocks": (1, 1), "stage_filters": (4, 8), "exits": (1, 2)}


def tiny_config(weights=None, weights_of=None, **changes):
    section = {"input_shape": (8, 8, 3), **OPTIONS, **changes}
    return default.derive(
        "adversarial_training",
        {
            "model": {
                "name": "resnet_cifar10",
                "resnet_cifar10": section,
                "weights": weights,
                "weights_of": weights_of or {},
            }
        },
    )


def assert_equal_weights(first, second):
    for old, new in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(old, new)


@pytest.fixture(params=["x.weights.h5", "x.keras"])
def saved(request, tmp_path):
    """A model, and the file that holds its weights."""
    model = building.build_model(tiny_config())
    path = tmp_path / request.param
    (model.save if path.suffix == ".keras" else model.save_weights)(path)
    return model, str(path)


def test_a_model_starts_from_a_file(saved):
    model, path = saved
    assert_equal_weights(building.build_model(tiny_config(weights=path)), model)


def test_a_trained_model_with_dropout_lends_its_weights(tmp_path):
    config = default.get_config()
    model = building.build_model(config)
    model.compile(**building.compile_arguments(config, model.num_exits))
    model.save(tmp_path / "trained.keras")
    config.model.weights = str(tmp_path / "trained.keras")
    assert_equal_weights(building.build_model(config), model)


def test_another_number_of_classes_gets_fresh_heads(saved, capsys):
    model, path = saved
    other = building.build_model(
        tiny_config(num_classes=5, weights=path, weights_of={"num_classes": 10})
    )
    assert other.num_classes == 5
    assert "fresh: ['exit_1', 'exit_2']" in capsys.readouterr().out
    for layer in other.layers:
        if layer.name not in other.exit_names:
            assert_equal_weights(layer, model.get_layer(layer.name))


def test_a_classifier_becomes_a_multi_exit_model(saved, capsys):
    model, path = saved
    other = building.build_model(
        tiny_config(exits=(2,), weights=path, weights_of={"exits": (1, 2)})
    )
    assert other.num_exits == 1
    # Its `exit_1` is not the file's.
    assert "fresh: ['exit_1']" in capsys.readouterr().out
    stem = "stem_conv"
    assert_equal_weights(other.get_layer(stem), model.get_layer(stem))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        # Deeper than the file, as deep with other widths, and shallower.
        (
            {"stage_blocks": (1, 2)},
            r"the file: none; only in the model: \(3, 3, 8, 8\), \(8,\)\.",
        ),
        (
            {"stage_filters": (4, 6)},
            r"file: \(1, 1, 4, 8\), .*, \.\.\.; .* model: \(1, 1, 4, 6\), ",
        ),
        ({"exits": (2,)}, r"file: \(4, 10\), \(10,\); .*the model: none\."),
    ],
)
def test_weights_of_another_architecture_are_refused(saved, options, message):
    config = tiny_config(**options, weights=saved[1])
    with pytest.raises(ValueError, match=f"not those of.*{message}"):
        building.build_model(config)


def test_another_number_of_classes_has_to_be_said(saved):
    config = tiny_config(weights=saved[1], num_classes=5)
    with pytest.raises(
        ValueError, match="2 exits, 5 classes.*model.weights_of"
    ):
        building.build_model(config)


def test_options_that_no_shape_tells_are_compared(saved):
    model, path = saved
    config = tiny_config(activation="silu", weights=path)
    if path.endswith(".h5"):  # It does not say.
        assert_equal_weights(building.build_model(config), model)
        return
    with pytest.raises(
        ValueError, match='other options: activation there "relu", here "silu"'
    ):
        building.build_model(config)


def test_dropout_may_differ(tmp_path):
    config = default.get_config()
    model = building.build_model(config)
    model.save(tmp_path / "trained.keras")
    config.model.weights = str(tmp_path / "trained.keras")
    config.model.small_cnn_mnist.dropout = 0.1
    assert_equal_weights(building.build_model(config), model)


def test_a_missing_file_is_named(tmp_path):
    config = tiny_config(weights=str(tmp_path / "none.weights.h5"))
    with pytest.raises(FileNotFoundError, match=r"none\.weights\.h5.*leave it"):
        building.build_model(config)


@pytest.mark.parametrize("name", ["x.h5", "x.npz", "keras"])
def test_a_file_of_another_kind_is_refused(name, tmp_path):
    with pytest.raises(ValueError, match=r"ends in \.weights\.h5 or \.keras"):
        building.build_model(tiny_config(weights=str(tmp_path / name)))


@pytest.mark.parametrize("name", ["x.weights.h5", "x.keras"])
def test_a_damaged_file_is_refused(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(b"no weights")
    with pytest.raises(ValueError, match="or it is damaged"):
        building.build_model(tiny_config(weights=str(path)))


def test_a_difference_without_weights_is_refused():
    config = tiny_config(weights_of={"num_classes": 10})
    with pytest.raises(ValueError, match="there are no weights"):
        building.build_model(config)


def test_only_heads_may_start_fresh(saved):
    model, path = saved
    other = building.build_model(tiny_config(stage_filters=(4, 6)))
    with pytest.raises(ValueError, match="only heads may start fresh"):
        weights.load_matching_weights(model, other, path, keep_heads=True)
