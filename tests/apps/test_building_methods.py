"""The section `method` of a config becomes the method that it describes."""

import keras
import pytest

from apps.building_methods import build_method
from configs import default
from configs import mnist
from keras_neokd import methods
from keras_neokd import models

NUM_EXITS = 3
AUTHOR_2021 = {
    "alignment_weight": 0.5,
    "norm": "batch",
    "reduction": "mean",
}
# Class and arguments of every variant; arguments left out have the defaults
# of the class, but the teacher of KDIGA and the size of the data of TEAT.
EXPECTED = {
    "adversarial_training": (methods.AdversarialTraining, {}),
    "triple_wins": (
        methods.AdversarialTraining,
        {"clean_weight": 0.5, "adversarial_weight": 0.5},
    ),
    "clean_training": (
        methods.AdversarialTraining,
        {"adversarial_weight": 0.0},
    ),
    "nkd": (methods.NKD, {}),
    "eokd": (methods.EOKD, {}),
    "neo_kd": (methods.NEOKD, {}),
    "skd": (methods.SKD, {}),
    # Phuong and Lampert: everything times 10 / exits, half on the teacher.
    "skd_phuong": (
        methods.SKD,
        {
            "weight": 0.5,
            "temperature": 4.0,
            "divergence": "cross_entropy",
            "base_weight": 0.5,
            "scale": 10.0,
            "temperature_squared": True,
        },
    ),
    "skd_annealing": (
        methods.SKD,
        {
            "weight": 0.5,
            "temperature": 1.0,
            "divergence": "cross_entropy",
            "base_weight": 0.5,
            "scale": 10.0,
            "temperature_squared": True,
            "annealing": True,
        },
    ),
    "ard": (methods.ARD, {}),
    "ard_goldblum": (methods.ARD, {"temperature": 30.0, "reduction": "mean"}),
    "lw": (methods.LW, {}),
    "trades": (methods.TRADES, {}),
    "teat": (methods.TEAT, {"num_epochs": 150}),
    "teat_trades": (methods.TEAT, {"num_epochs": 150, "variant": "trades"}),
    "kdiga": (methods.KDIGA, {}),
    "kd": (methods.KDIGA, {"alignment_weight": 0.0}),
    "kdiga_author_2021": (methods.KDIGA, AUTHOR_2021),
    "kdiga_rs": (
        methods.KDIGA,
        {
            **AUTHOR_2021,
            "clean_weight": 0.0,
            "adversarial_weight": 0.5,
            "distillation": "adversarial",
            "alignment": "adversarial",
            "noise": 8 / 255,
        },
    ),
    "kdiga_rd": (
        methods.KDIGA,
        {
            **AUTHOR_2021,
            "alignment_weight": 0.0,
            "distillation": "adversarial",
        },
    ),
    "kdiga_ard": (
        methods.KDIGA,
        {**AUTHOR_2021, "distillation": "adversarial"},
    ),
}
PRESETS = {
    "kdiga_author_2021": methods.KDIGA.author_2021,
    "kdiga_rs": methods.KDIGA.kdiga_rs,
    "kdiga_rd": methods.KDIGA.ard,
    "kdiga_ard": methods.KDIGA.kdiga_ard,
}


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    """A file as apps.train writes it."""
    path = tmp_path_factory.mktemp("teacher") / "model.keras"
    models.SmallCNN.mnist().save(path)
    return str(path)


def get_config(variant, teacher_file=None):
    config = default.get_config(variant)
    config.method.kdiga.teacher_file = teacher_file
    return config


def build(config):
    return build_method(config, NUM_EXITS, num_examples=100)


def arguments_of(method):
    """Return the arguments, and the teacher's weights for the teacher."""
    arguments = method.arguments()
    if "teacher_exit" in arguments:
        arguments["teacher"] = arguments["teacher"].count_params()
    return arguments


def test_every_variant_has_its_expectation():
    assert set(EXPECTED) == set(default.VARIANTS)


@pytest.mark.parametrize("variant", EXPECTED)
def test_every_variant_is_the_method_that_its_name_says(variant, teacher_file):
    method = build(get_config(variant, teacher_file))
    method_class, changes = EXPECTED[variant]
    assert type(method) is method_class
    given = dict(changes)
    if method_class is methods.KDIGA:
        given["teacher"] = models.SmallCNN.mnist()
    if method_class is methods.TEAT:
        given["num_examples"] = 100
    assert arguments_of(method) == arguments_of(method_class(**given))


@pytest.mark.parametrize("variant", PRESETS)
def test_variants_of_kdiga_are_the_presets_of_its_authors(
    variant, teacher_file
):
    method = build(get_config(variant, teacher_file))
    preset = PRESETS[variant](models.SmallCNN.mnist())
    assert arguments_of(method) == arguments_of(preset)


def test_beta_is_smaller_on_mnist_as_in_the_code_of_trades():
    assert build(mnist.get_config("trades")).weight == 1.0
    assert build(mnist.get_config("teat_trades")).beta == 1.0


SETTINGS = {
    "nkd_weight": 2.0,
    "eokd_weight": 0.5,
    "exit_weights": (1.0, 1.0, 1.5),
    "teacher": "all",
    "radius": 2,
    "allocation": "batch",
    "left_over": "spread",
    "divergence": "kl",
    "temperature": 2.0,
}


def test_neo_kd_and_its_parts_get_the_settings_of_the_config():
    config = get_config("neo_kd")
    config.method.update(
        {
            "nkd_teacher" if name == "teacher" else name: value
            for name, value in SETTINGS.items()
        }
    )
    assert build(config).arguments() == SETTINGS
    for name, weight in (("nkd", 2.0), ("eokd", 0.5)):
        config.method.name = name
        arguments = build(config).arguments()
        assert arguments.pop("weight") == weight
        assert arguments == {key: SETTINGS[key] for key in arguments}


@pytest.mark.parametrize(
    ("variant", "changes", "expected"),
    [
        ("lw", {"weight": 0.1, "form": "hinge"}, None),
        ("lw", {"exit_weights": (0.0, 1.0, 2.0)}, None),
        ("teat", {"weight": 30.0, "momentum": 0.5}, None),
        ("skd", {"weight": 1.0, "temperature": 3.0}, None),
        ("ard", {"weight": 2.0, "reduction": "mean"}, None),
        (
            "kdiga",
            {"mask": "teacher_correct", "teacher_exit": "1", "exits": "1,3"},
            {"teacher_exit": 0, "exits": (0, 2)},
        ),
        ("kdiga", {"exits": "each", "teacher_exit": "exit_2"}, None),
        ("kdiga", {"exits": "2, 3"}, {"exits": (1, 2)}),
        ("kdiga", {"teacher_exit": "last"}, {"teacher_exit": -1}),
    ],
)
def test_methods_get_the_settings_of_their_sections(
    variant, changes, expected, teacher_file
):
    config = get_config(variant, teacher_file)
    config.method[variant].update(changes)
    arguments = build(config).arguments()
    for name, value in {**changes, **(expected or {})}.items():
        assert arguments[name] == value


def test_the_ramp_of_teat_is_as_long_as_the_training():
    config = get_config("teat")
    config.train.epochs = 20
    assert build(config).num_epochs == 20


@pytest.mark.parametrize(
    ("teacher", "expected"),
    [("last", -1), ("ensemble", "ensemble"), ("1", 0), ("3", 2)],
)
@pytest.mark.parametrize("name", ["skd", "skd_phuong", "ard"])
def test_exits_that_teach_are_counted_from_1(name, teacher, expected):
    config = get_config(name)
    assert config.method[name].teacher == "last"
    config.method[name].teacher = teacher
    assert build(config).teacher == expected


def test_methods_add_up(teacher_file):
    config = get_config("neo_kd+kdiga", teacher_file)
    assert config.method.name == "neo_kd+kdiga"
    summands = build(config).summands
    assert [type(method).__name__ for _, method in summands] == [
        "NEOKD",
        "KDIGA",
    ]
    assert [weight for weight, _ in summands] == [1.0, 1.0]
    config.method.sum_weights = (0.25,)
    assert [weight for weight, _ in build(config).summands] == [1.0, 0.25]


def test_three_methods_have_two_weights():
    config = get_config("nkd+skd+lw")
    config.method.sum_weights = (2.0, 3)
    summands = build(config).summands
    assert [weight for weight, _ in summands] == [1.0, 2.0, 3.0]


def test_variants_of_one_method_add_up_under_its_name(teacher_file):
    config = get_config("neo_kd+kdiga_ard", teacher_file)
    assert config.method.name == "neo_kd+kdiga"
    _, (_, kdiga) = build(config).summands
    assert (kdiga.norm, kdiga.distillation) == ("batch", "adversarial")


def test_of_a_setting_that_two_variants_change_the_first_counts():
    config = default.get_config("kdiga_author_2021+kd")
    assert config.method.kdiga.alignment_weight == 0.5
    config = default.get_config("kd+kdiga_author_2021")
    assert config.method.kdiga.alignment_weight == 0.0


def test_any_keras_model_can_be_the_teacher_of_kdiga(tmp_path):
    inputs = keras.Input((28, 28, 1))
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, logits).save(tmp_path / "plain.keras")
    method = build(get_config("kdiga", str(tmp_path / "plain.keras")))
    method.validate(models.SmallCNN.mnist())
    assert method.teacher.count_params() == 28 * 28 * 10 + 10
