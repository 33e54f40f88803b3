"""Diagnostics in apps.evaluate: recorded, resumed, refused, printed."""

import json
import sys

import keras
import numpy as np
import pytest

from apps import attacking
from apps import building
from apps import evaluating
from keras_neokd import evaluation
from keras_neokd.evaluation.protocol import known
from tests.apps.tiny import tiny_config
from tests.training.tiny import randomized

pytestmark = pytest.mark.any_backend

ALL = ("local_linearity", "gradient_alignment", "smoothing")
EXITS = ["exit_1", "exit_2", "exit_3"]
COUNT = 5


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Files of an untrained student and an untrained teacher."""
    folder = tmp_path_factory.mktemp("diagnosing")
    for name, seed in (("student", 0), ("teacher", 1)):
        # Not as they are built: SmallCNN's last layer begins with zeros.
        model = randomized(building.build_model(tiny_config()), seed)
        model.save(folder / f"{name}.keras")
    return folder


@pytest.fixture
def config(files):
    config = tiny_config()
    config.evaluate.update(
        {
            "attacks": (),
            "diagnostics": ALL,
            "diagnostics_examples": COUNT,
            "teacher_file": str(files / "teacher.keras"),
            "local_linearity": {"num_steps": 2},
            "smoothing": {"num_estimation": 30, "radii": (0.0, 0.1)},
        }
    )
    return config


def evaluate(config, files, results):
    return evaluating.evaluate(
        config, files / "student.keras", results, results.with_name("plot.png")
    )


def values(entry, what, **where):
    return [
        row[what]
        for row in entry["rows"]
        if all(row[name] == value for name, value in where.items())
    ]


def test_the_record_holds_the_numbers_of_the_library(config, files, tmp_path):
    results = tmp_path / "results.json"
    evaluate(config, files, results)
    record = json.loads(results.read_text())
    linearity, alignment, smoothing = record["diagnostics"]
    assert [each["name"] for each in record["diagnostics"]] == list(ALL)
    for entry in record["diagnostics"]:
        assert entry["settings"]["num_examples"] == COUNT
        assert entry["seconds"] >= 0
        assert [row["exit"] for row in entry["rows"][:3]] == EXITS
    student, teacher = (
        keras.saving.load_model(files / f"{name}.keras")
        for name in ("student", "teacher")
    )
    images, labels = (
        each[:COUNT]
        for each in building.load_data(config, student).test.arrays()
    )
    # Without a value of its own, epsilon is that of the attacks.
    assert linearity["settings"]["epsilon"] == 0.15
    bent = evaluation.local_linearity(
        student, images, labels, 0.15, num_steps=2, batch_size=16
    )
    np.testing.assert_allclose(
        values(linearity, "deviation_from_linear"), bent.mean(), rtol=1e-6
    )
    aligned = evaluation.gradient_alignment(student, teacher, images, labels)
    for what, expected in (
        ("distance_to_teacher_gradient", aligned.mean_distance()),
        ("cosine_with_teacher_gradient", aligned.mean_cosine()),
        ("gradient_norm", aligned.student_norms.mean(axis=0)),
    ):
        np.testing.assert_allclose(values(alignment, what), expected, rtol=1e-3)
    assert alignment["summary"]["teacher_gradient_norm"] == pytest.approx(
        aligned.teacher_norms.mean(), rel=1e-3
    )
    certified = evaluation.certify(
        student, images, labels, 0.25, num_estimation=30
    )
    for radius in (0, 0.1):
        np.testing.assert_allclose(
            values(smoothing, "certified_accuracy", radius=radius),
            certified.certified_accuracy(radius),
        )
    np.testing.assert_allclose(
        values(smoothing, "abstention_rate", radius=0),
        certified.abstention_rate(),
    )
    assert smoothing["summary"]["confidence"] == 0.999
    assert smoothing["summary"]["largest_radius"] == certified.largest_radius()


def test_an_interrupted_evaluation_goes_on(
    config, files, tmp_path, monkeypatch, capsys
):
    results = tmp_path / "results.json"
    config.evaluate.diagnostics = ()
    finished = evaluate(config, files, results)
    assert finished["diagnostics"] == []
    config.evaluate.diagnostics = ALL  # Asked for later.

    def interrupt(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        module = known()["gradient_alignment"].function.__module__
        patch.setattr(sys.modules[module], "_compiled_step", interrupt)
        with pytest.raises(KeyboardInterrupt):
            evaluate(config, files, results)
    kept = json.loads(results.read_text())["diagnostics"]
    assert [each["name"] for each in kept] == ["local_linearity"]
    capsys.readouterr()
    record = evaluate(config, files, results)
    assert record["attacks"] == finished["attacks"]
    assert record["diagnostics"][0] == kept[0]
    assert [each["name"] for each in record["diagnostics"]] == list(ALL)
    printed = " ".join(capsys.readouterr().out.split())
    assert "Measuring local_linearity" not in printed
    assert "Measuring smoothing on 5 images" in printed
    assert "Evaluating" not in printed
    for said in (
        "local linearity; num examples 5, epsilon 0.15",
        "deviation from linear",
        "teacher small_cnn, teacher exit last",
        "certified accuracy (%) │ 0.1000",
        "confidence 0.999",
        "failure probability 0.001",
    ):
        assert said in printed
    config.evaluate.local_linearity.epsilon = 0.1
    with pytest.raises(
        ValueError,
        match=r"local_linearity of other settings:\n  epsilon: there 0.15, now",
    ):
        evaluate(config, files, results)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"diagnostics": ("linearity",)}, ValueError, "evaluate.diagnostics"),
        ({"diagnostics_examples": 0}, ValueError, "diagnostics_examples"),
        ({"local_linearity": {"num_steps": 0}}, ValueError, "num_steps"),
        ({"smoothing": {"sigma": -1.0}}, ValueError, "smoothing.sigma` needs"),
        ({"smoothing": {"radii": (-0.1,)}}, ValueError, "smoothing.radii"),
        ({"teacher_file": ""}, ValueError, "set --config.evaluate.teacher_fi"),
        (
            {"teacher_file": "no.keras"},
            FileNotFoundError,
            "there is no file no.ker",
        ),
        ({"teacher_exit": "exit_7"}, ValueError, "has no exit 'exit_7'"),
        ({"teacher_exit": "4"}, ValueError, "has no exit 3"),
    ],
)
def test_impossible_settings_are_refused_before_anything_is_measured(
    config, files, tmp_path, changes, error, message
):
    config.evaluate.update(changes)
    results = tmp_path / "results.json"
    with pytest.raises(error, match=message):
        evaluate(config, files, results)
    assert not results.exists()


def test_the_epsilon_of_l2_attacks_is_not_taken(config, files, tmp_path):
    config.attack.norm = "l2"
    with pytest.raises(ValueError, match=r"local_linearity\.epsilon"):
        evaluate(config, files, tmp_path / "results.json")


@pytest.mark.parametrize(
    ("name", "index"), [("last", 2), ("1", 0), ("exit_2", 1)]
)
def test_the_exit_of_the_teacher_is_named_or_counted_from_1(
    config, files, tmp_path, name, index
):
    config.evaluate.diagnostics = ("gradient_alignment",)
    config.evaluate.teacher_file = str(files / "student.keras")
    config.evaluate.teacher_exit = name
    record = evaluate(config, files, tmp_path / "results.json")
    distances = values(record["diagnostics"][0], "distance_to_teacher_gradient")
    assert np.argmin(distances) == index
    assert distances[index] < 1e-6


def test_precision_is_measured_beside_float32(config, tmp_path):
    config.train.precision = "mixed_bfloat16"
    model = randomized(building.build_model(config), 0)
    model.save(tmp_path / "student.keras")
    config.evaluate.update({"diagnostics": ("precision",), "num_steps": 2})
    evaluate(config, tmp_path, tmp_path / "results.json")
    (entry,) = json.loads((tmp_path / "results.json").read_text())[
        "diagnostics"
    ]
    images, labels = (
        each[:COUNT] for each in building.load_data(config, model).test.arrays()
    )
    attack = building.build_attack(config, "average", num_steps=2)
    expected = evaluation.precision_agreement(model, images, labels, attack)
    for what, numbers in (
        ("sign_agreement_with_float32", expected.mean_sign_agreement()),
        ("accuracy_under_attack", expected.accuracy()),
        ("accuracy_under_attack_in_float32", expected.accuracy_in_float32()),
    ):
        np.testing.assert_allclose(values(entry, what), numbers, atol=1e-6)
    assert entry["settings"] == {
        "num_examples": COUNT,
        "attack_settings": attacking.described(attack),
    }


def test_precision_of_a_model_in_float32_is_refused(config, files, tmp_path):
    config.evaluate.diagnostics = ("precision",)
    with pytest.raises(ValueError, match="nothing to compare"):
        evaluate(config, files, tmp_path / "results.json")
