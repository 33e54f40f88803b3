"""Configs become the objects that they name."""

import keras
import pytest

from apps import building
from configs import cifar10
from configs import digits
from configs import mnist
from configs import tiny_imagenet
from keras_neokd import attacks
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


def test_the_learning_rate_drops_at_every_milestone():
    config = cifar10.get_config()
    rates = [building.learning_rate(config, e) for e in (0, 74, 75, 114, 115)]
    assert rates == pytest.approx([0.1, 0.1, 0.01, 0.01, 0.001])


def test_the_optimizer_gets_the_settings_of_the_config():
    config = cifar10.get_config()
    optimizer = building.compile_arguments(config, 3)["optimizer"]
    assert optimizer.momentum == 0.9
    assert optimizer.coupled_weight_decay == 5e-4
    assert not optimizer.nesterov
    assert float(optimizer.learning_rate) == pytest.approx(0.1)


def test_gradients_add_up_over_as_many_batches_as_the_config_says():
    config = cifar10.get_config()
    optimizer = building.compile_arguments(config, 3)["optimizer"]
    assert optimizer.gradient_accumulation_steps is None
    config.train.gradient_accumulation_steps = 4
    optimizer = building.compile_arguments(config, 3)["optimizer"]
    assert optimizer.gradient_accumulation_steps == 4


def test_the_size_of_slices_is_handed_on():
    config = cifar10.get_config()
    assert building.compile_arguments(config, 3)["crafting_batch_size"] is None
    config.train.crafting_batch_size = 32
    assert building.compile_arguments(config, 3)["crafting_batch_size"] == 32


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


def test_data_that_do_not_fit_the_model_are_refused():
    config = cifar10.get_config()
    config.data.name = "digits"
    model = building.build_model(config)
    with pytest.raises(ValueError, match=r"32, 32, 3.*28, 28, 1"):
        building.load_data(config, model)


def test_validation_needs_images():
    config = digits.get_config()
    config.train.validation = "clean"
    model = building.build_model(config)
    with pytest.raises(ValueError, match=r"config\.data\.validation_size"):
        building.load_data(config, model)


def test_noise_takes_the_place_of_the_attack():
    config = mnist.get_config()
    config.attack.name = "noise"
    noise = building.build_attack(config)
    assert isinstance(noise, attacks.UniformNoise)
    assert noise.epsilon == 0.3


def test_a_method_that_keeps_something_per_example_gets_their_number():
    config = mnist.get_config("teat")
    method = building.compile_arguments(config, 3, 500)["method"]
    assert method.num_examples == 500
