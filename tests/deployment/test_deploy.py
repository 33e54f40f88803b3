"""Artefacts answer like the model they were written from, in every runtime."""

import importlib.util
import json
import shutil

import keras
import numpy as np
import pytest

from keras_neokd import MultiExitModel
from keras_neokd import deploy
from keras_neokd import load_artefact
from keras_neokd import models
from keras_neokd.base.exit_policy import ExitPolicy
from keras_neokd.deployment import formats
from keras_neokd.deployment import graphs
from keras_neokd.deployment import writer
from keras_neokd.deployment.artefact import EarlyExitArtefact
from keras_neokd.deployment.artefact import StagesArtefact
from keras_neokd.deployment.card import Card
from keras_neokd.deployment.gate import Gate
from keras_neokd.serving import tensorflow_process
from tests.deployment import tiny
from tests.isolation import run_without
from tests.reference import equations

# What other backends write comes from a process of TensorFlow: `test_gate.py`.
pytestmark = pytest.mark.any_backend

IMAGES, NAMES = tiny.IMAGES, tiny.NAMES
# Under other backends the files are written by a second process.
HAS_TENSORFLOW = keras.config.backend() == "tensorflow"
ALL = ("saved_model", "litert", "onnx", "openvino")
FORMATS = ALL if HAS_TENSORFLOW else ("litert",)
for _name in FORMATS:
    _kind = formats.BY_NAME[_name]
    for _package in (*_kind.writers, *_kind.runners):
        if importlib.util.find_spec(_package) is None:
            pytest.skip(f"needs {_package}", allow_module_level=True)


@pytest.fixture(scope="module")
def model():
    return tiny.model()


@pytest.fixture(scope="module")
def logits(model):
    """Logits of all exits, `(images, exits, classes)`."""
    found = model.predict(IMAGES, verbose=0)
    return np.stack([found[name] for name in model.exit_names], axis=1)


@pytest.fixture(scope="module")
def thresholds(logits):
    """Thresholds at which some images leave early, between confidences."""
    found = np.sort(equations.softmax(logits).max(axis=2), axis=0)
    return [float(found[15:17, 0].mean()), None, float(found[15:17, 2].mean())]


def another_policy(logits, confidence, temperatures):
    """Thresholds of another confidence, at which some images leave early."""
    scaled = logits / np.array(temperatures)[:, None]
    found = equations.confidence(confidence, equations.softmax(scaled))
    found = np.sort(found, axis=0)
    middle = [float(found[15:17, exit].mean()) for exit in (0, 2)]
    return ExitPolicy(
        (middle[0], None, middle[1]), True, confidence, temperatures
    )


@pytest.fixture(scope="module", params=FORMATS)
def folder(request, model, logits, thresholds, tmp_path_factory):
    """Artefacts of one format, in every form, by name."""
    path = tmp_path_factory.mktemp(request.param)
    temperatures = (1.5, 1.0, 0.7, 2.0)
    policies = {
        "early_exit": ExitPolicy(thresholds),
        "early_exit_ensemble": another_policy(logits, "margin", temperatures),
        "stages": another_policy(logits, "entropy", temperatures),
    }
    deploy(model, path / "exits", request.param, gate=Gate(IMAGES))
    deploy(model, path / "exit_10", request.param, exit="exit_10")
    for name, policy in policies.items():
        form = name.removesuffix("_ensemble")
        deploy(
            model, path / name, request.param, form, policy, gate=Gate(IMAGES)
        )
    return path


def test_exits_answer_by_name(folder, logits, model):
    answers = load_artefact(folder / "exits").answers(IMAGES)
    assert tuple(answers) == model.exit_names
    for index, name in enumerate(model.exit_names):
        np.testing.assert_allclose(
            answers[name], logits[:, index], rtol=1e-5, atol=1e-5
        )


def test_one_exit_is_alone_and_smaller(folder, logits, model):
    artefact = load_artefact(folder / "exit_10")
    answers = artefact.answers(IMAGES[:3])
    assert list(answers) == ["exit_10"]
    np.testing.assert_allclose(
        answers["exit_10"], logits[:3, 3], rtol=1e-5, atol=1e-5
    )
    with pytest.raises(ValueError, match="decides nothing"):
        artefact.decide(IMAGES)


@pytest.mark.parametrize(
    "name", ["early_exit", "early_exit_ensemble", "stages"]
)
def test_decisions_are_those_of_the_policy(folder, logits, name):
    artefact = load_artefact(folder / name)
    probabilities = equations.softmax(logits)
    expected = artefact.card.policy.decide(probabilities)
    decision = artefact.decide(IMAGES)
    np.testing.assert_array_equal(decision.exit_index, expected.exit_index)
    np.testing.assert_array_equal(decision.label, expected.label)
    np.testing.assert_allclose(
        decision.confidence, expected.confidence, rtol=1e-5
    )
    assert set(decision.exit_index) == {0, 2, 3}
    if artefact.card.policy.ensemble:
        config = {**artefact.card.policy.get_config(), "ensemble": False}
        alone = ExitPolicy.from_config(config)
        assert (alone.decide(probabilities).label != decision.label).any()
    assert artefact.decide(IMAGES[:0]).label.shape == (0,)
    assert artefact.card.figures["decisions_changed"] == 0


def test_the_logits_of_an_ensemble_are_those_of_its_mean(folder, logits):
    artefact = load_artefact(folder / "early_exit_ensemble")
    found = artefact.answers(IMAGES)
    temperatures = np.array(artefact.card.policy.temperatures)[:, None]
    probabilities = equations.softmax(logits / temperatures)
    for row, index in enumerate(found["exit_index"]):
        mean = probabilities[row, : index + 1].mean(axis=0)
        np.testing.assert_allclose(
            np.exp(found["logits"][row]), mean, rtol=1e-4, atol=1e-6
        )


def test_stages_take_batches_of_any_size(folder, logits, model):
    artefact = load_artefact(folder / "stages", num_threads=_threads(folder))
    for count in (1, 24, 7):
        answers = artefact.answers(IMAGES[:count])
        for index, name in enumerate(model.exit_names):
            np.testing.assert_allclose(
                answers[name], logits[:count, index], rtol=1e-5, atol=1e-5
            )


def _threads(folder):
    # TensorFlow, which is running, sets its threads once.
    return None if "saved_model" in folder.name else 1


def test_a_card_says_what_the_files_are(folder, model):
    card = json.loads((folder / "stages" / "card.json").read_text())
    kind = formats.BY_NAME[card["format"]]
    files = {path.name for path in (folder / "stages").iterdir()}
    assert {f"stage_{each + 1}{kind.ending}" for each in range(4)} < files
    assert card["exit_names"] == list(NAMES)
    assert card["policy"]["thresholds"][1] is None
    packages = {"keras", "keras_neokd", "numpy", *kind.writers, *kind.runners}
    assert set(card["versions"]) == packages
    costs = [each.cumulative.multiply_adds for each in model.exit_costs()]
    assert card["multiply_adds"] == costs
    times = card["figures"]["milliseconds"]
    assert 0 < times["p50"] <= times["p90"] <= times["p99"]
    for name, facts in card["files"].items():
        assert (folder / "stages" / name).stat().st_size == facts["bytes"]


def test_a_damaged_file_is_found(folder, tmp_path):
    shutil.copytree(folder / "exits", tmp_path / "exits")
    card = json.loads((tmp_path / "exits" / "card.json").read_text())
    path = tmp_path / "exits" / next(iter(card["files"]))
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ValueError, match=f"{path.name} differ"):
        load_artefact(tmp_path / "exits")


def test_a_model_that_answers_nan_is_not_deployed(tmp_path):
    broken = tiny.model()
    late = broken.exit_model(3).layers[-1]
    late.set_weights([np.nan * each for each in late.get_weights()])
    with pytest.raises(RuntimeError, match="'exit_10' .* differs .* by nan"):
        deploy(broken, tmp_path / "artefact")
    with pytest.raises(RuntimeError, match="'exit_10' .* differs .* by nan"):
        deploy(broken, tmp_path / "artefact", form="stages", policy=[0.5] * 3)
    assert not list(tmp_path.iterdir())


def test_files_beside_an_artefact_are_no_damage_and_not_removed(
    model, folder, tmp_path
):
    shutil.copytree(folder / "exits", tmp_path / "exits")
    (tmp_path / "exits" / "notes.txt").write_text("years of work")
    load_artefact(tmp_path / "exits")
    with pytest.raises(ValueError, match="holds other files"):
        deploy(model, tmp_path / "exits", folder.name.rstrip("0123456789"))
    assert (tmp_path / "exits" / "notes.txt").exists()


def test_other_branches_are_no_part_of_what_an_early_image_runs(folder):
    """In the ONNX file, which is made from that of LiteRT."""
    if not folder.name.startswith("onnx"):
        pytest.skip("shown by the benchmark")
    import onnx

    def convolutions(graph, is_deep):
        count = sum(node.op_type == "Conv" for node in graph.node)
        inner = [
            attribute.g
            for node in graph.node
            for attribute in node.attribute
            if attribute.type == onnx.AttributeProto.GRAPH
        ]
        return count + is_deep * sum(convolutions(each, True) for each in inner)

    graph = onnx.load(folder / "early_exit" / "model.onnx").graph
    assert convolutions(graph, False) == 1
    assert convolutions(graph, True) == 4


def test_an_image_leaves_where_nan_is(model):
    (graph,) = graphs.build(model, "early_exit", ExitPolicy([0.9] * 3))
    image = IMAGES[:1] * np.float32("nan")
    found = graph.compute(keras.ops.convert_to_tensor(image))
    assert int(found["exit_index"][0]) == 0
    confidence = keras.ops.convert_to_numpy(found["confidence"])
    assert np.isnan(confidence[0])


ANSWER = """
import sys

import numpy as np

from keras_neokd import load_artefact

artefact = load_artefact(sys.argv[2])
print(artefact.decide(np.zeros((2, 6, 5, 1), "float32")).label.tolist())
"""


@pytest.mark.skipif(HAS_TENSORFLOW, reason="Keras runs on TensorFlow here")
def test_no_tensorflow_is_needed_to_run_files(folder):
    if folder.name.startswith("saved_model"):
        pytest.skip("TensorFlow runs it")
    images = np.zeros((2, 6, 5, 1), "float32")
    expected = load_artefact(folder / "early_exit").decide(images).label
    result = run_without(["tensorflow"], ANSWER, folder / "early_exit")
    assert result.stdout.strip() == str(expected.tolist()), result.stderr


@pytest.mark.parametrize("form", ["early_exit", "stages"])
def test_an_exit_that_answers_nan_is_named(form):
    """A file that was sound on the images of the check may not be later."""
    card = Card(
        format="litert",
        form=form,
        precision="float32",
        exit_names=("first", "second"),
        input_shape=(6, 5, 1),
        num_classes=2,
        policy=ExitPolicy((0.7,)),
        weights_sha256="",
        files={},
        multiply_adds=None,
        versions={},
        figures={},
    )

    def first(inputs):
        count = len(inputs["images"])
        return {
            "logits": np.zeros((count, 2), "float32"),
            "features_1": np.zeros((count, 3), "float32"),
        }

    def broken(inputs):
        count = len(next(iter(inputs.values())))
        return {
            "logits": np.full((count, 2), np.nan, "float32"),
            "exit_index": np.ones(count, "int32"),
            "confidence": np.full(count, np.nan, "float32"),
        }

    def last(inputs):
        return {"logits": broken(inputs)["logits"]}

    artefact = {
        "early_exit": EarlyExitArtefact(card, [broken]),
        "stages": StagesArtefact(card, [first, last]),
    }[form]
    with pytest.raises(ValueError, match="'second' returned NaN for 3 of 3"):
        artefact.decide(IMAGES[:3])


REFUSED = [
    ({"format": "coreml"}, ValueError, "Unknown `format` 'coreml'"),
    ({"form": "blocks"}, ValueError, "Unknown `form` 'blocks'"),
    ({"form": "stages"}, ValueError, "`policy` is needed for the forms"),
    ({"policy": [0.5] * 3}, ValueError, "for them alone"),
    (
        {"form": "stages", "policy": [0.5]},
        ValueError,
        "1 thresholds are for a model of 2",
    ),
    (
        {"form": "stages", "policy": [0.5] * 3, "exit": 0},
        ValueError,
        "`exit` is for the form 'exits'",
    ),
    ({"exit": "exit_11"}, ValueError, "exit_11"),
    ({"gate": Gate(IMAGES[:, :4])}, ValueError, r"\(batch, 6, 5, 1\)"),
    ({"gate": Gate(IMAGES[:0])}, ValueError, "received 0"),
    (
        {"gate": Gate(IMAGES, np.full(24, 4))},
        ValueError,
        "4",
    ),
    ({"precision": "int4"}, ValueError, "Unknown `precision`"),
    (
        {"precision": "int8", "format": "onnx"},
        ValueError,
        r"'onnx' has the precisions \['float32'\]",
    ),
    ({"precision": "int8"}, ValueError, "'int8' without them"),
    ({"representative": IMAGES}, ValueError, "'float32' with them"),
    (
        {
            "precision": "int8",
            "representative": IMAGES,
            "form": "early_exit",
            "policy": [0.5] * 3,
        },
        ValueError,
        "use the form 'stages'",
    ),
]


@pytest.mark.parametrize(("changes", "error", "message"), REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    model, tmp_path, monkeypatch, changes, error, message
):
    monkeypatch.setattr(tensorflow_process, "call", None)
    with pytest.raises(error, match=message):
        deploy(model, tmp_path / "artefact", **changes)
    assert not list(tmp_path.iterdir())


def test_only_multi_exit_models_of_float32_are_deployed(tmp_path):
    with pytest.raises(TypeError, match="from_functional"):
        deploy(keras.Sequential(), tmp_path / "artefact")
    images = keras.Input((6, 5, 1))
    x = keras.layers.Flatten()(images)
    half = keras.layers.Dense(4, dtype="mixed_bfloat16", name="half")(x)
    mixed = MultiExitModel(images, {"exit_1": half})
    inner = MultiExitModel(
        images, {"exit_1": keras.Model(images, half)(images)}
    )
    for model in (mixed, inner):
        with pytest.raises(ValueError, match="'half' .* 'mixed_bfloat16'"):
            deploy(model, tmp_path / "artefact")


def test_a_missing_package_is_named_with_its_extra(
    model, tmp_path, monkeypatch
):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"keras-neokd\[litert\]"):
        deploy(model, tmp_path / "artefact")


def test_something_else_is_not_replaced(model, tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match="is no artefact"):
        deploy(model, tmp_path)


def test_other_logits_are_not_deployed(model, tmp_path, monkeypatch):
    """A second model answers in the place of the first."""
    other = tiny.untrained_model()

    def swapped(function, model, folder):
        function(other, folder)

    if not HAS_TENSORFLOW:
        call = tensorflow_process.call

        def swapped(function, model, folder):
            call(function, other, folder)

    monkeypatch.setattr(tensorflow_process, "call", swapped)
    with pytest.raises(RuntimeError, match="'exit_1' .* differs from"):
        deploy(model, tmp_path / "artefact")
    assert not list(tmp_path.iterdir())


def test_an_interrupted_export_leaves_nothing(model, tmp_path, monkeypatch):
    def interrupted(function, model, folder):
        (folder / writer.FILES).mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(tensorflow_process, "call", interrupted)
    with pytest.raises(KeyboardInterrupt):
        deploy(model, tmp_path / "artefact")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="the same in another process")
def test_a_layer_that_a_converter_cannot_take_is_named(tmp_path, monkeypatch):
    def fail(self, *arguments):
        raise RuntimeError("error: 'tf.Thing' op is neither a custom op")

    monkeypatch.setattr(formats.BY_NAME["litert"].__class__, "write", fail)
    with pytest.raises(RuntimeError, match="'litert' has no form .*tf.Thing"):
        deploy(tiny.model(), tmp_path / "artefact")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"schema": 2}, "schema"),
        ({"format": "coreml"}, "coreml"),
        ({"policy": {"thresholds": [0.5], "ensemble": False}}, "policy"),
        ({"figures": "none", "more": 1}, "more"),
    ],
)
def test_a_card_of_something_else_is_refused(tmp_path, change, message):
    card = {
        "schema": 1,
        "format": "litert",
        "form": "exits",
        "precision": "float32",
        "exit_names": ["exit_1"],
        "input_shape": [6, 5, 1],
        "num_classes": 4,
        "policy": None,
        "weights_sha256": "",
        "multiply_adds": [100],
        "files": {},
        "versions": {},
        "figures": {},
    }
    (tmp_path / "card.json").write_text(json.dumps({**card, **change}))
    with pytest.raises(ValueError, match=f"does not describe .*{message}"):
        load_artefact(tmp_path)


def test_a_folder_without_a_card_is_no_artefact(tmp_path):
    with pytest.raises(ValueError, match=r"holds no card\.json"):
        load_artefact(tmp_path)
    with pytest.raises(ValueError, match="num_threads"):
        load_artefact(tmp_path, num_threads=0)


@pytest.mark.parametrize("format", FORMATS)
def test_a_stage_may_take_the_images_again(tmp_path, format):
    """What the first stage hands on is then what it was given."""
    images = keras.Input((6, 5, 1))
    early = keras.layers.Dense(4)(keras.layers.Flatten()(images))
    x = keras.layers.Conv2D(4, 3)(images)
    late = keras.layers.Dense(4)(keras.layers.Flatten()(x))
    again = MultiExitModel(images, {"exit_1": early, "exit_2": late})
    for form in ("early_exit", "stages"):
        path = tmp_path / form
        card = deploy(again, path, format, form, [0.4], gate=Gate(IMAGES))
        assert card.figures["decisions_changed"] == 0
        found = load_artefact(path).decide(IMAGES).exit_index
        assert set(found) == {0, 1}


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="the same in another process")
@pytest.mark.parametrize("precision", ["float16", "int8"])
@pytest.mark.parametrize("form", ["exits", "stages"])
def test_files_of_smaller_numbers_answer_alike(
    model, logits, tmp_path, precision, form
):
    policy = None if form == "exits" else [0.5] * 3
    representative = IMAGES if precision == "int8" else None
    deploy(
        *(model, tmp_path / "small", "litert", form, policy),
        precision=precision,
        representative=representative,
        gate=Gate(IMAGES),
    )
    artefact = load_artefact(tmp_path / "small")
    assert artefact.card.precision == precision
    answers = artefact.answers(IMAGES)
    found = np.stack([answers[name] for name in NAMES], axis=1)
    apart = np.abs(found - logits).max()
    assert 1e-6 < apart < {"float16": 1e-2}.get(precision, 0.3)
    assert artefact.card.figures["max_logit_difference"] == pytest.approx(
        float(apart)
    )


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="the same in another process")
def test_files_of_smaller_numbers_are_smaller(tmp_path):
    """Kernels of fewer than 1,024 numbers keep float32 in int8_weights."""
    network = models.SmallCNN.mnist()
    sizes = {}
    for format, precision in (
        ("litert", "float32"),
        ("litert", "float16"),
        ("litert", "int8_weights"),
        ("openvino", "float16"),
    ):
        path = tmp_path / "small"
        files = deploy(
            network, path, format, precision=precision
        ).files.values()
        sizes[format, precision] = sum(each["bytes"] for each in files)
    whole = sizes.pop(("litert", "float32"))
    ratios = {name: size / whole for name, size in sizes.items()}
    assert ratios == {
        ("litert", "float16"): pytest.approx(0.5, abs=0.03),
        ("litert", "int8_weights"): pytest.approx(0.25, abs=0.03),
        ("openvino", "float16"): pytest.approx(0.5, abs=0.03),
    }
