"""SavedModels answer like the model they were written from."""

import importlib.util

import keras
import numpy as np
import pytest

from keras_neokd import MultiExitModel
from keras_neokd import export
from keras_neokd.export import export_saved_model

needs_tensorflow = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow") is None,
    reason="TensorFlow writes SavedModels",
)


def small_model(names=("exit_1", "exit_2")):
    images = keras.Input((6, 5, 1))
    x = keras.layers.Conv2D(3, 3, activation="relu")(images)
    x = keras.layers.BatchNormalization()(x)
    early = keras.layers.Dense(4)(keras.layers.Flatten()(x))
    x = keras.layers.Conv2D(2, 3)(x)
    late = keras.layers.Dense(4)(keras.layers.Flatten()(x))
    return MultiExitModel(images, dict(zip(names, (early, late), strict=True)))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow writes SavedModels")
    model = small_model()
    path = tmp_path_factory.mktemp("export") / "folder" / "saved_model"
    return model, path, export_saved_model(model, path)


def test_every_signature_was_compared(exported):
    _, _, differences = exported
    assert set(differences) == {"serve", "serving_default", "exit_1", "exit_2"}
    assert max(differences.values()) < 1e-5


def test_a_signature_of_all_exits_and_one_per_exit(exported):
    import tensorflow as tf

    model, path, _ = exported
    images = np.random.default_rng(1).random((3, 6, 5, 1), "float32")
    expected = model.predict(images, verbose=0)
    signatures = tf.saved_model.load(str(path)).signatures
    answers = signatures["serving_default"](tf.constant(images))
    assert set(answers) == {"exit_1", "exit_2"}
    for name in model.exit_names:
        np.testing.assert_allclose(answers[name], expected[name], atol=1e-5)
        single = signatures[name](tf.constant(images))
        assert set(single) == {name}
        np.testing.assert_allclose(single[name], expected[name], atol=1e-5)


def test_the_signature_of_an_early_exit_computes_only_that_exit(exported):
    import tensorflow as tf

    _, path, _ = exported
    signatures = tf.saved_model.load(str(path)).signatures

    def convolutions(name):
        operations = signatures[name].graph.as_graph_def(add_shapes=False)
        nodes = [
            *operations.node,
            *(
                node
                for function in operations.library.function
                for node in function.node_def
            ),
        ]
        return sum(node.op == "Conv2D" for node in nodes)

    assert convolutions("exit_1") < convolutions("exit_2")


@needs_tensorflow
def test_a_saved_model_is_replaced(exported):
    model, path, _ = exported
    (path / "marker").write_text("old")
    export_saved_model(model, path)
    assert not (path / "marker").exists()
    assert [each.name for each in path.parent.iterdir()] == [path.name]


@needs_tensorflow
def test_wrong_answers_are_not_exported(tmp_path, monkeypatch):
    monkeypatch.setattr(export, "_TOLERANCE", -1.0)
    with pytest.raises(RuntimeError, match="answers other logits"):
        export_saved_model(small_model(), tmp_path / "saved_model")
    assert not list(tmp_path.iterdir())


@needs_tensorflow
def test_a_full_disk_leaves_the_old_saved_model_and_names_the_new_one(
    tmp_path, monkeypatch
):
    """TensorFlow's error is none of the system's, in a process or here."""

    def full(model, folder):
        (folder / "saved_model").mkdir()
        raise RuntimeError("Its last words: ... No space left on device")

    path = tmp_path / "saved_model"
    path.mkdir()
    (path / "saved_model.pb").write_text("old")
    monkeypatch.setattr(export, "_write_and_answer", full)
    monkeypatch.setattr(export, "_write_in_tensorflow", full)
    with pytest.raises(OSError, match="no room for .*saved_model: No space"):
        export_saved_model(small_model(), path)
    assert [each.name for each in tmp_path.iterdir()] == ["saved_model"]
    assert (path / "saved_model.pb").read_text() == "old"


@needs_tensorflow
def test_what_a_killed_export_left_is_removed_by_the_next(
    tmp_path, monkeypatch
):
    pytest.importorskip("fcntl", reason="nothing left over is removed here")
    left_over = tmp_path / ".unfinished.0123456789abcdef" / "saved_model"
    left_over.mkdir(parents=True)
    (left_over / "saved_model.pb").write_text("half")
    monkeypatch.setattr(export, "_write_in_tensorflow", fail)
    monkeypatch.setattr(export, "_write_and_answer", fail)
    with pytest.raises(RuntimeError, match="killed again"):
        export_saved_model(small_model(), tmp_path / "saved_model")
    assert not list(tmp_path.iterdir())


def fail(model, folder):
    raise RuntimeError("killed again")


@needs_tensorflow
def test_something_else_is_not_replaced(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is not a SavedModel"):
        export_saved_model(small_model(), tmp_path)


@needs_tensorflow
def test_an_exit_may_not_take_the_name_of_a_signature(tmp_path):
    with pytest.raises(ValueError, match="serve"):
        export_saved_model(small_model(("serve", "late")), tmp_path / "model")


@needs_tensorflow
def test_a_model_of_any_image_size_needs_images_to_compare_on(tmp_path):
    images = keras.Input((None, None, 1))
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(3, 3)(images))
    model = MultiExitModel(
        images, [keras.layers.Dense(4)(x), keras.layers.Dense(4)(x)]
    )
    with pytest.raises(ValueError, match="`images` to compare on are needed"):
        export_saved_model(model, tmp_path / "saved_model")


def test_only_multi_exit_models_are_exported(tmp_path):
    with pytest.raises(TypeError, match="from_functional"):
        export_saved_model(keras.Sequential(), tmp_path / "model")


def test_without_tensorflow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"keras-neokd\[export\]"):
        export_saved_model(small_model(), tmp_path / "model")
