"""Configs become the objects that they name."""

import keras
import pytest

from apps import building
from configs import cifar10
from configs import default
from configs import digits
from configs import mnist
from configs import tiny_imagenet
from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd import models
from tests.data import folders


def test_an_attack_gets_the_settings_of_the_config():
    config = mnist.get_config()
    attack = building.build_attack(config)
    assert isinstance(attack, attacks.MaxAverage)
    assert attack.attack.epsilon == 0.3
    assert attack.attack.num_steps == 7
    config.attack.update({"name": "single", "exit": 1, "norm": "l2"})
    attack = building.build_attack(config, num_steps=3)
    assert attack.objective.exit_indices(3) == (1,)
    assert (attack.norm, attack.num_steps) == ("l2", 3)
    config.attack.name = "average"
    assert building.build_attack(config).objective.exit_indices(3) == (0, 1, 2)
    config.attack.update({"name": "noise", "norm": "linf"})
    noise = building.build_attack(config)
    assert isinstance(noise, attacks.UniformNoise)
    assert noise.epsilon == 0.3


def test_the_learning_rate_drops_at_every_milestone():
    config = cifar10.get_config()
    rates = [building.learning_rate(config, e) for e in (0, 74, 75, 114, 115)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_compiling_gets_the_settings_of_the_config():
    config = cifar10.get_config("teat")
    arguments = building.compile_arguments(config, 3, 500)
    # Of what is kept per example.
    assert arguments["method"].num_examples == 500
    assert arguments["crafting_batch_size"] is None
    optimizer = arguments["optimizer"]
    assert optimizer.momentum == 0.9
    assert optimizer.coupled_weight_decay == 5e-4
    assert not optimizer.nesterov
    assert float(optimizer.learning_rate) == pytest.approx(0.1)
    assert optimizer.gradient_accumulation_steps is None
    config.train.gradient_accumulation_steps = 4
    config.train.crafting_batch_size = 32
    arguments = building.compile_arguments(config, 3, 500)
    assert arguments["optimizer"].gradient_accumulation_steps == 4
    assert arguments["crafting_batch_size"] == 32


def test_the_precision_of_attacks_is_handed_on():
    config = cifar10.get_config()
    arguments = building.compile_arguments(config, 3)
    assert arguments["crafting_dtype"] == "float32"
    config.train.crafting_dtype = "auto"
    arguments = building.compile_arguments(config, 3)
    assert arguments["crafting_dtype"] == "auto"


def test_only_the_model_of_the_config_is_made_in_its_precision():
    config = mnist.get_config()
    config.train.precision = "mixed_bfloat16"
    model = building.build_model(config)
    assert model.get_layer("trunk_conv_2").compute_dtype == "bfloat16"
    assert model.get_layer("exit_3").compute_dtype == "float32"
    assert keras.config.dtype_policy().name == "float32"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model.name", "lenet", "lenet.*small_cnn"),
        ("model.small_cnn_mnist.dropout", 1.5, "1.5"),
        ("method.name", "sdk", "sdk.*neo_kd"),
        ("method.neo_kd.nkd_weight", -1.0, ">= 0.*-1"),
        ("attack.name", "pdg", "pdg.*max_average"),
        ("attack.epsilon", 8.0, "8/255|8.0/255"),
        ("attack.epsilon", -1.0, ">= 0"),
        ("attack.num_steps", 0, ">= 1"),
        ("train.validation", "all", "all.*clean"),
        ("train.epochs", 0, ">= 1, received 0"),
        ("optimizer.learning_rate", -1.0, "> 0.*-1"),
        ("optimizer.decay_factor", 0.0, "> 0.*0"),
        ("optimizer.milestones", (-5,), ">= 0.*-5"),
        ("optimizer.weight_decay", -1.0, "-1"),
        ("optimizer.momentum", 1.0, "1"),
        ("train.steps_per_execution", 0, ">= 1"),
        ("train.precision", "float16", "mixed_float16"),
        ("train.gradient_accumulation_steps", 0, ">= 1"),
    ],
)
def test_an_impossible_setting_is_told_by_its_key(key, value, message):
    config = mnist.get_config()
    config.update_from_flattened_dict({key: value})
    with pytest.raises((TypeError, ValueError), match=message) as error:
        model = building.build_model(config)
        building.compile_arguments(config, model.num_exits)
    assert f"`{key}`" in str(error.value)


def test_every_constructor_argument_can_be_set_in_a_config():
    config = cifar10.get_config()
    section = config.model.msdnet_cifar10
    section.update({"num_blocks": 2, "base": 1, "step": 1})
    section.step_mode = "lin_grow"
    model = building.build_model(config)
    assert model.num_exits == 2
    assert model.get_config()["step_mode"] == "lin_grow"


def test_an_option_that_the_model_does_not_have_is_refused():
    config = mnist.get_config()
    with config.unlocked():
        config.model.small_cnn_mnist.depth = 3
    with pytest.raises(TypeError, match=r"small_cnn_mnist\.depth"):
        building.build_model(config)


def test_a_data_set_that_is_not_there_says_where_it_is_looked_for(tmp_path):
    config = tiny_imagenet.get_config()
    config.data.dir = str(tmp_path)
    model = building.build_model(mnist.get_config())
    with pytest.raises(
        FileNotFoundError, match=r"tiny-imagenet-200/wnids\.txt"
    ):
        building.load_data(config, model)


def test_the_size_of_images_is_that_of_the_config(tmp_path):
    folders.write_image_folder(tmp_path)
    config = cifar10.get_config()
    config.data.update(
        {"name": "image_folder", "dir": str(tmp_path), "image_size": 32}
    )
    config.model.msdnet_cifar10.num_classes = 3
    model = building.build_model(config)
    dataset = building.load_data(config, model)
    assert dataset.image_shape == (32, 32, 3)
    config.data.image_size = 48
    with pytest.raises(ValueError, match=r"48, 48.*config\.data\.image_size"):
        building.load_data(config, model)


def test_a_setting_of_data_of_a_later_version_is_left_out():
    config = digits.get_config()
    with config.data.unlocked():
        config.data.of_another_version = 1
    dataset = building.load_data(config, building.build_model(config))
    assert dataset.num_classes == 10


@pytest.mark.parametrize(
    ("configs", "changes", "message"),
    [
        (cifar10, {"data.name": "digits"}, r"32, 32, 3.*28, 28, 1"),
        (
            digits,
            {"train.validation": "clean"},
            r"config\.data\.validation_size",
        ),
    ],
    ids=["of another shape", "without validation images"],
)
def test_data_that_do_not_fit_are_refused(configs, changes, message):
    config = configs.get_config()
    config.update_from_flattened_dict(changes)
    with pytest.raises(ValueError, match=message):
        building.load_data(config, building.build_model(config))


# The section `method` becomes the method that it describes.

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
    return building.build_method(config, NUM_EXITS, num_examples=100)


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


def test_teat_knows_the_epochs_and_needs_the_size_of_the_training_set():
    config = get_config("teat")
    config.train.epochs = 20
    # Its ramp is as long as the training.
    assert build(config).num_epochs == 20
    with pytest.raises(TypeError, match="num_examples.*None"):
        building.build_method(config, NUM_EXITS)


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


# Methods that are not possible.


@pytest.mark.parametrize("name", ["kdiga", "kd"])
@pytest.mark.parametrize(
    ("file", "error", "message"),
    [
        (None, ValueError, "config.method.{}.teacher_file"),
        (3, TypeError, "method.{}.teacher_file needs the path of a file, a te"),
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
def test_an_impossible_setting_of_a_method_is_told_by_its_key(
    name, key, value, message, teacher_file
):
    config = get_config(name, teacher_file, **{key: value})
    with pytest.raises((TypeError, ValueError), match=message) as error:
        build(config)
    assert f"`method.{name}.{key}`" in str(error.value)
