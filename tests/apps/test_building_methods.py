"""The section `method` of a config becomes the method that it describes."""

import keras
import pytest

from apps.building import build_method
from configs import default
from configs import mnist
from keras_neokd import methods
from keras_neokd import models

NUM_EXITS = 3


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    """A file as apps.train writes it."""
    path = tmp_path_factory.mktemp("teacher") / "model.keras"
    models.SmallCNN.mnist().save(path)
    return str(path)


def get_config(name, teacher_file=None, **changes):
    """Return a config whose methods have a teacher and other settings."""
    config = default.get_config(name)
    for part in name.split("+"):
        section = config.method[part]
        section.update(changes)
        if "teacher_file" in section:
            section.teacher_file = teacher_file
    return config


def build(config):
    return build_method(config, NUM_EXITS, num_examples=100)


def arguments_of(method):
    """Return the arguments, and the teacher's size for the teacher."""
    arguments = method.arguments()
    if "teacher_exit" in arguments:
        arguments["teacher"] = arguments["teacher"].count_params()
    return arguments


@pytest.mark.parametrize("name", methods.BY_NAME.names())
def test_a_config_builds_what_its_name_stands_for(name, teacher_file):
    given = {"num_examples": 100, "num_epochs": 150}
    if methods.BY_NAME.made_by(name) is methods.KDIGA:
        given["teacher"] = models.SmallCNN.mnist()
    expected = methods.BY_NAME.build(name, **given)
    method = build(get_config(name, teacher_file))
    assert type(method) is type(expected)
    assert arguments_of(method) == arguments_of(expected)


PRESETS = {
    "kdiga_author_2021": methods.KDIGA.author_2021,
    "kdiga_rs": methods.KDIGA.kdiga_rs,
    "kdiga_rd": methods.KDIGA.ard,
    "kdiga_ard": methods.KDIGA.kdiga_ard,
}


@pytest.mark.parametrize("name", PRESETS)
def test_names_of_kdiga_are_the_presets_of_its_authors(name, teacher_file):
    method = build(get_config(name, teacher_file))
    preset = PRESETS[name](models.SmallCNN.mnist())
    assert arguments_of(method) == arguments_of(preset)


def test_beta_is_smaller_on_mnist_as_in_the_code_of_trades():
    assert build(mnist.get_config("trades")).weight == 1.0
    assert build(mnist.get_config("teat_trades")).beta == 1.0


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        (
            "neo_kd",
            {
                "nkd_weight": 2,
                "eokd_weight": 0.5,
                "exit_weights": (1.0, 1.0, 1.5),
                "teacher": "all",
                "radius": 2,
                "allocation": "batch",
                "left_over": "spread",
                "divergence": "kl",
                "temperature": 2.0,
            },
            {},
        ),
        ("nkd", {"weight": 2.0, "teacher": "none"}, {}),
        ("eokd", {"exit_weights": [1.0, 2.0]}, {"exit_weights": (1.0, 2.0)}),
        ("lw", {"weight": 0.1, "form": "hinge"}, {}),
        ("teat", {"weight": 30.0, "momentum": 0.5}, {}),
        ("ard", {"reduction": "mean", "student": 2}, {"student": 1}),
        (
            "kdiga",
            {"mask": "teacher_correct", "teacher_exit": 7, "exits": (1, 3)},
            {"teacher_exit": 6, "exits": (0, 2)},
        ),
        ("kd", {"exits": "each", "teacher_exit": "exit_2"}, {}),
        ("kdiga", {"teacher_exit": "last"}, {"teacher_exit": -1}),
    ],
)
def test_methods_get_the_settings_of_their_sections(
    name, changes, expected, teacher_file
):
    arguments = build(get_config(name, teacher_file, **changes)).arguments()
    for key, value in {**changes, **expected}.items():
        assert arguments[key] == value


def test_the_ramp_of_teat_is_as_long_as_the_training():
    config = get_config("teat")
    config.train.epochs = 20
    assert build(config).num_epochs == 20


def test_methods_add_up_with_the_weights_of_the_name(teacher_file):
    config = get_config("neo_kd+kdiga", teacher_file)
    assert [weight for weight, _ in build(config).summands] == [1.0, 1.0]
    config.method.name = "neo_kd+0.25*kdiga"
    (_, neo_kd), (weight, kdiga) = build(config).summands
    assert isinstance(neo_kd, methods.NEOKD) and weight == 0.25
    assert isinstance(kdiga, methods.KDIGA)


def test_each_part_of_a_sum_has_its_own_settings():
    config = default.get_config("nkd+skd+lw")
    config.method.skd.temperature = 3.0
    config.method.lw.weight = 0.5
    (_, nkd), (_, skd), (_, lw) = build(config).summands
    assert (nkd.temperature, skd.temperature, lw.weight) == (1.0, 3.0, 0.5)


def test_any_keras_model_can_be_the_teacher_of_kdiga(tmp_path):
    inputs = keras.Input((28, 28, 1))
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    keras.Model(inputs, logits).save(tmp_path / "plain.keras")
    method = build(get_config("kdiga", str(tmp_path / "plain.keras")))
    method.validate(models.SmallCNN.mnist())
    assert method.teacher.count_params() == 28 * 28 * 10 + 10


# Settings that are not possible.


@pytest.mark.parametrize("name", ["kdiga", "kd"])
@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        (None, ValueError, "config.method.{}.teacher_file"),
        (
            "nowhere.keras",
            FileNotFoundError,
            "method.{}.teacher_file: there is no file nowhere.keras",
        ),
    ],
)
def test_a_missing_teacher_is_told_by_its_key(name, file, error, message):
    with pytest.raises(error, match=message.format(name)):
        build(get_config(name, file))


def test_a_file_that_is_no_model_is_no_teacher(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("no model")
    with pytest.raises(
        ValueError, match=r"method\.kdiga\.teacher_file.*notes\.txt"
    ):
        build(get_config("kdiga", str(path)))


def test_teat_needs_the_size_of_the_training_set():
    with pytest.raises(TypeError, match="num_examples.*None"):
        build_method(get_config("teat"), NUM_EXITS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sdk", r"`method\.name`: Unknown.*'sdk'.*neo_kd"),
        ("neo_kd+", r"`method\.name`: Unknown.*''.*neo_kd"),
        ("neo_kd+x*lw", "needs a number before each .*'x'.*neo_kd"),
        ("neo_kd+-1*lw", "weight of 'lw'.*>= 0, received -1"),
        ("neo_kd+nkd", "terms of different names"),
    ],
)
def test_an_impossible_name_is_refused(name, message):
    config = default.get_config()
    config.method.name = name
    with pytest.raises(ValueError, match=message):
        build(config)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("neo_kd", "teacher", "last", "'last'.*neighbors|neighbors.*'last'"),
        ("neo_kd", "nkd_weight", -1.0, ">= 0, received -1"),
        ("trades", "weight", -6.0, ">= 0, received -6"),
        ("skd", "teacher", "none", "'ensemble'.*received 'none'"),
        ("skd", "teacher", 4, "from 1 to 3, received 4"),
        ("ard", "teacher", "0", "from 1 to 3, received '0'"),
        ("lw", "form", "l1", "hinge.*'l1'|'l1'.*hinge"),
        ("lw", "exit_weights", (1.0, "2"), "number"),
        ("teat", "variant", "mart", "'mart'"),
        ("teat", "momentum", 1.0, "received 1"),
        ("kdiga", "exits", (1, 4), "from 1 to 3, received 4"),
        ("kdiga", "norm", "batches", "'batches'"),
    ],
)
def test_an_impossible_setting_is_told_by_its_key(
    name, key, value, message, teacher_file
):
    config = get_config(name, teacher_file, **{key: value})
    with pytest.raises((TypeError, ValueError), match=message) as error:
        build(config)
    assert f"`method.{name}.{key}`" in str(error.value)
