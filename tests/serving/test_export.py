"""SavedModels answer like the model they were written from."""

import contextlib
import importlib.util
import itertools
import re

import keras
import numpy as np
import pytest

from keras_neokd import MultiExitModel
from keras_neokd import models
from keras_neokd.serving import export
from keras_neokd.serving import tensorflow_process
from keras_neokd.serving.export import export_saved_model

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
    folder = tmp_path_factory.mktemp("export")
    path = folder / "folder" / "saved_model"
    # The second process finds the package wherever this one was started.
    with contextlib.chdir(folder), pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYTHONPATH", raising=False)
        return model, path, export_saved_model(model, path)


def test_signatures_of_all_exits_and_of_each_answer_and_were_compared(exported):
    import tensorflow as tf

    model, path, differences = exported
    assert set(differences) == {"serve", "serving_default", "exit_1", "exit_2"}
    assert max(differences.values()) < 1e-5
    images = np.random.default_rng(1).random((3, 6, 5, 1), "float32")
    expected = model.predict(images, verbose=0)
    signatures = tf.saved_model.load(str(path)).signatures
    for endpoint in differences:
        answers = signatures[endpoint](tf.constant(images))
        is_exit = endpoint in model.exit_names
        names = {endpoint} if is_exit else set(model.exit_names)
        assert set(answers) == names
        for name, logits in answers.items():
            np.testing.assert_allclose(logits, expected[name], atol=1e-5)


def test_the_signature_of_an_early_exit_computes_only_that_exit(exported):
    import tensorflow as tf

    _, path, _ = exported
    signatures = tf.saved_model.load(str(path)).signatures

    def convolutions(name):
        operations = signatures[name].graph.as_graph_def(add_shapes=False)
        functions = [each.node_def for each in operations.library.function]
        nodes = [*operations.node, *itertools.chain(*functions)]
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

    def full(function, model, folder):
        (folder / "saved_model").mkdir()
        raise RuntimeError("Its last words: ... No space left on device")

    path = tmp_path / "saved_model"
    path.mkdir()
    (path / "saved_model.pb").write_text("old")
    monkeypatch.setattr(tensorflow_process, "call", full)
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

    def fail(function, model, folder):
        raise RuntimeError("killed again")

    monkeypatch.setattr(tensorflow_process, "call", fail)
    with pytest.raises(RuntimeError, match="killed again"):
        export_saved_model(small_model(), tmp_path / "saved_model")
    assert not list(tmp_path.iterdir())


@needs_tensorflow
def test_something_else_is_not_replaced(tmp_path):
    thesis = tmp_path / "thesis.tex"
    thesis.write_text("years of work")
    for path in (tmp_path, thesis):
        with pytest.raises(ValueError, match="is not a SavedModel"):
            export_saved_model(small_model(), path)


@needs_tensorflow
def test_an_exit_may_not_take_the_name_of_a_signature(tmp_path):
    with pytest.raises(ValueError, match="serve"):
        export_saved_model(small_model(("serve", "late")), tmp_path / "model")


def model_of_any_size():
    images = keras.Input((None, None, 1))
    x = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(3, 3)(images))
    return MultiExitModel(
        images, [keras.layers.Dense(4)(x), keras.layers.Dense(4)(x)]
    )


@needs_tensorflow
def test_a_model_of_any_image_size_needs_images_to_compare_on(tmp_path):
    with pytest.raises(ValueError, match="`images` to compare on are needed"):
        export_saved_model(model_of_any_size(), tmp_path / "saved_model")


@needs_tensorflow
def test_the_method_of_the_model_goes_the_same_way(tmp_path, capsys):
    import tensorflow as tf

    model = models.SmallCNN.mnist()
    path = tmp_path / "saved_model"
    differences = model.export(path)
    assert set(differences) == {"serve", "serving_default", *model.exit_names}
    assert f"SavedModel in {path}" in capsys.readouterr().out
    images = np.random.default_rng(1).random((3, 28, 28, 1), "float32")
    loaded = tf.saved_model.load(str(path))
    answers = loaded.serve(images)
    expected = model.predict(images, verbose=0)
    for name in model.exit_names:
        np.testing.assert_allclose(answers[name], expected[name], atol=1e-5)


@pytest.mark.skipif(
    keras.config.backend() != "tensorflow",
    reason="says nothing more from another process, which takes its time",
)
def test_a_signature_sets_sizes_that_the_model_leaves_free(tmp_path, capsys):
    import tensorflow as tf

    model = model_of_any_size()
    signature = [keras.InputSpec("float32", (2, 6, None, 1))]
    with pytest.raises(ValueError, match="`images` to compare on are needed"):
        model.export(tmp_path / "model", input_signature=signature)
    signature = keras.InputSpec("float32", (2, 6, 5, 1))
    model.export(tmp_path / "model", verbose=False, input_signature=signature)
    assert not capsys.readouterr().out
    signatures = tf.saved_model.load(str(tmp_path / "model")).signatures
    for function in signatures.values():
        (images,) = function.structured_input_signature[1].values()
        assert images.shape == (2, 6, 5, 1)


@needs_tensorflow
@pytest.mark.parametrize(
    ("signature", "error", "message"),
    [
        ((None, 6, 5, 1), TypeError, "one keras.InputSpec with the shape"),
        (
            keras.InputSpec("float32", (None, 6, 7, 1)),
            ValueError,
            r"shape \(None, 6, 5, 1\); received float32 of shape "
            r"\(None, 6, 7, 1\)",
        ),
        (
            keras.InputSpec("uint8", (None, 6, 5, 1)),
            ValueError,
            "needs float32 images .* received uint8",
        ),
    ],
    ids=["no specification", "another size", "another type"],
)
def test_a_signature_that_does_not_fit_is_refused(
    tmp_path, signature, error, message
):
    with pytest.raises(error, match=message):
        small_model().export(tmp_path / "model", input_signature=signature)


@needs_tensorflow
def test_images_of_another_shape_are_not_compared_on(tmp_path):
    for shape in ((2, 6, 6, 1), (0, 6, 5, 1), (6, 5, 1)):
        with pytest.raises(
            ValueError, match=re.escape(f"received shape {shape}")
        ):
            export_saved_model(small_model(), tmp_path / "m", np.zeros(shape))


@needs_tensorflow
def test_options_for_jax_are_refused(tmp_path):
    with pytest.raises(TypeError, match=r"received \['is_static'\]. Leave"):
        small_model().export(tmp_path / "model", is_static=False)


def test_other_formats_are_written_by_keras(tmp_path, monkeypatch):
    received = {}

    def keras_export(model, filepath, **arguments):
        received.update(arguments, filepath=filepath, model=model)

    monkeypatch.setattr(keras.Model, "export", keras_export)
    model = small_model()
    model.export("model.tflite", "litert", optimizations=[])
    exported = received.pop("model")
    assert not isinstance(exported, MultiExitModel)
    assert list(exported.output) == ["exit_1", "exit_2"]
    assert received == {
        "filepath": "model.tflite",
        "format": "litert",
        "verbose": None,
        "input_signature": None,
        "optimizations": [],
    }


def test_files_that_would_be_wrong_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(keras.config, "backend", lambda: "jax")
    with pytest.raises(ValueError, match="KERAS_BACKEND=tensorflow"):
        small_model().export(tmp_path / "model.onnx", format="onnx")


def test_openvino_files_of_quantized_models_are_refused(tmp_path):
    model = small_model()
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dense):
            layer.quantize("int8")
    with pytest.raises(ValueError, match=r"received weights of \['int8'\]"):
        model.export(tmp_path / "model.xml", format="openvino")


def test_only_multi_exit_models_are_exported(tmp_path):
    with pytest.raises(TypeError, match="from_functional"):
        export_saved_model(keras.Sequential(), tmp_path / "model")


def test_without_tensorflow_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"keras-neokd\[export\]"):
        export_saved_model(small_model(), tmp_path / "model")
