"""Every config of every data set builds, and can be trained."""

import functools
import importlib

import keras
import numpy as np
import pytest

from apps import building
from configs import default
from keras_neokd import methods

EXITS_AND_CLASSES = {
    "default": (3, 10),
    "digits": (3, 10),
    "mnist": (3, 10),
    "cifar10": (3, 10),
    "cifar100": (7, 100),
    "tiny_imagenet": (5, 200),
    "imagenet": (5, 1000),
    "kdiga_resnet": (1, 10),
    "kdiga_vision_transformer": (1, 10),
    "triple_wins_mnist": (3, 10),
    "triple_wins_cifar10": (3, 10),
    "msdnet_cifar100": (7, 100),
    "msdnet_imagenet": (5, 1000),
}
LARGE = (
    *("cifar100", "tiny_imagenet", "imagenet"),
    *("msdnet_cifar100", "msdnet_imagenet"),
)
OF_THE_PAPER = ("adversarial_training", "skd", "ard", "nkd", "eokd", "neo_kd")
OF_KDIGA = ("adversarial_training", "trades", "clean_training", "kd", "kdiga")
# Every variant on one small network; on the others those that it is made for.
MADE_FOR = {
    "mnist": tuple(methods.BY_NAME),
    "kdiga_resnet": OF_KDIGA,
    "kdiga_vision_transformer": OF_KDIGA,
    "triple_wins_mnist": ("triple_wins",),
    "triple_wins_cifar10": ("triple_wins",),
    "msdnet_cifar100": ("clean_training",),
    "msdnet_imagenet": ("clean_training",),
}
# The last variant of each network, and all of them on the small one; the other
# pairs are repeats.
STEPS = [
    pytest.param(
        *(name, variant),
        marks=[pytest.mark.slow]
        if name != "mnist" and variant != MADE_FOR.get(name, OF_THE_PAPER)[-1]
        else [],
    )
    for name in EXITS_AND_CLASSES
    for variant in MADE_FOR.get(name, OF_THE_PAPER)
]
# Sizes of networks that a test can train, by the beginning of their name or
# of that of the config; exits stay.
SMALL = {
    "triple_wins_cifar10": {
        "stage_blocks": (1, 1, 1),
        "stage_filters": (4, 4, 8),
    },
    "msdnet": {"base": 1, "step": 1, "initial_channels": 4, "growth_rate": 2},
    "resnet": {"stage_filters": (4, 4, 8, 8)},
    "vision_transformer": {"width": 16, "num_heads": 2, "depth": 2},
}
# Epsilon, step size, learning rate, milestones, epochs: the paper's, with
# weight decay 5e-4 and momentum 0.9 throughout.
PAPER = {
    "mnist": (0.3, 20 / 255, 0.01, (50,), 150),
    "cifar10": (8 / 255, 2 / 255, 0.1, (75, 115), 150),
    "cifar100": (8 / 255, 2 / 255, 0.1, (75, 115), 150),
    "tiny_imagenet": (2 / 255, 0.0052, 0.1, (50, 100), 150),
    "imagenet": (2 / 255, 0.0052, 0.001, (), 10),
}


def get_config(name, *variant):
    return importlib.import_module(f"configs.{name}").get_config(*variant)


def shrink(name, config):
    """Keep the exits and take out depth and width, to be quick in a test."""
    model = config.model.name
    found = [SMALL[key] for key in SMALL if f"{name} {model}".find(key) >= 0]
    config.model[model].update(found[0] if found else {})
    config.attack.num_steps = 1


@functools.cache
def shrunk_model(name):
    """Build one network for all variants, which do not differ in it."""
    config = get_config(name)
    shrink(name, config)
    return building.build_model(config)


@pytest.mark.parametrize("name", EXITS_AND_CLASSES)
def test_every_config_builds_the_full_model(name):
    if name in LARGE and keras.config.backend() != "tensorflow":
        pytest.skip("takes seconds, and is the same on every backend")
    config = get_config(name)
    model = building.build_model(config)
    assert (model.num_exits, model.num_classes) == EXITS_AND_CLASSES[name]


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    """Return a function from an image shape to a file for KDIGA."""
    folder = tmp_path_factory.mktemp("teachers")

    def file(shape):
        path = folder / f"{shape[0]}.keras"
        if not path.exists():
            inputs = keras.Input(shape)
            pooled = keras.layers.GlobalAveragePooling2D()(inputs)
            keras.Model(inputs, keras.layers.Dense(10)(pooled)).save(path)
        return str(path)

    return file


@pytest.mark.parametrize(("name", "variant"), STEPS)
def test_configs_take_a_real_step(name, variant, teacher_file):
    """The network is shrunk, and the attack makes one step; all else stays.

    Steps run eagerly, because tracing takes most of the time. JAX cannot.
    """
    eagerly = keras.config.backend() != "jax"
    if not eagerly and (name in LARGE or variant != "neo_kd"):
        pytest.skip("compiling takes JAX up to a minute; other backends step")
    config = get_config(name, variant)
    shrink(name, config)
    model = shrunk_model(name)
    if not eagerly:
        config.attack.name = "average"
    section = config.method[variant]
    if "teacher_file" in section:
        section.teacher_file = teacher_file(model.input_shape[1:])
    arguments = building.compile_arguments(config, model.num_exits, 2)
    model.compile(**arguments, run_eagerly=eagerly)
    generator = np.random.default_rng(0)
    images = generator.random((2, *model.input_shape[1:]), "float32")
    labels = generator.integers(0, model.num_classes, 2)
    if arguments["method"].num_examples:
        labels = {"label": labels, "index": np.arange(2)}
    before = weights_of(model)
    logs = model.train_on_batch(images, labels, return_dict=True)
    assert np.isfinite(float(logs["loss"]))
    assert ("nkd_loss" in logs) == (variant in ("nkd", "neo_kd"))
    assert ("eokd_loss" in logs) == (variant in ("eokd", "neo_kd"))
    assert any(
        np.any(old != new)
        for old, new in zip(before, weights_of(model), strict=True)
    )


def weights_of(model):
    return [
        keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights
    ]


@pytest.mark.parametrize("name", PAPER)
def test_settings_are_those_of_the_paper(name):
    config = get_config(name)
    epsilon, step_size, rate, milestones, epochs = PAPER[name]
    assert config.attack.epsilon == pytest.approx(epsilon)
    assert config.attack.step_size == pytest.approx(step_size, abs=5e-5)
    assert config.attack.num_steps == 7
    assert config.attack.name == "max_average"
    assert config.optimizer.learning_rate == rate
    assert config.optimizer.milestones == milestones
    assert config.optimizer.decay_factor == 0.1
    assert config.optimizer.momentum == 0.9
    assert config.optimizer.weight_decay == 5e-4
    assert config.train.epochs == epochs
    assert config.data.batch_size == 128
    assert config.evaluate.num_steps == 50
    method = config.method.neo_kd
    assert (method.nkd_weight, method.eokd_weight) == (3, 1)


# Batch, rate, weight decay, milestones, epochs, augmentation.
OTHER_RECIPES = {
    "triple_wins_mnist": (256, 0.033, 5e-4, (50, 55), 56, None),
    "triple_wins_cifar10": (128, 0.1, 1e-4, (82, 123), 164, "crop_flip"),
    "msdnet_cifar100": (64, 0.1, 1e-4, (150, 225), 300, "crop_flip"),
    "msdnet_imagenet": (256, 0.1, 1e-4, (30, 60), 90, "random_part_flip"),
}


@pytest.mark.parametrize("name", OTHER_RECIPES)
def test_settings_are_those_of_the_published_code(name):
    config = get_config(name)
    optimizer = config.optimizer
    assert (
        config.data.batch_size,
        optimizer.learning_rate,
        optimizer.weight_decay,
        optimizer.milestones,
        config.train.epochs,
        config.data.augment,
    ) == OTHER_RECIPES[name]
    assert (optimizer.momentum, optimizer.decay_factor) == (0.9, 0.1)
    assert config.method.name in ("triple_wins", "clean_training")


# Epsilon, step size, steps in training and in evaluation.
TRIPLE_WINS = {
    "triple_wins_mnist": (0.3, 0.01, 40, 40),
    "triple_wins_cifar10": (0.03137, 0.00784, 10, 20),
}


@pytest.mark.parametrize("name", TRIPLE_WINS)
def test_attacks_are_those_of_triple_wins(name):
    config = get_config(name)
    assert (
        config.attack.epsilon,
        config.attack.step_size,
        config.attack.num_steps,
        config.evaluate.num_steps,
    ) == TRIPLE_WINS[name]


# Initial channels, growth rate, mean of the blue channel in the data set.
MSDNETS = {
    "msdnet_cifar100": (16, 6, 0.4408),
    "msdnet_imagenet": (32, 16, 0.406),
}


@pytest.mark.parametrize("name", MSDNETS)
def test_msdnets_of_the_published_code_know_no_attack(name):
    config = get_config(name)
    assert building.build_method(config, 5).adversarial_weight == 0
    options = config.model[config.model.name]
    assert (
        options.initial_channels,
        options.growth_rate or 6,
        options.normalization[0][2],
    ) == MSDNETS[name]
    assert options.initialization == "torch_default"


def test_imagenet_is_attacked_as_it_is_fine_tuned():
    attack = get_config("msdnet_imagenet").attack
    assert attack.to_dict() == get_config("imagenet").attack.to_dict()


@pytest.mark.parametrize(
    ("name", "images", "steps"),
    [
        ("triple_wins_mnist", 60_000, (11_700, 12_900, 13_100)),
        ("triple_wins_cifar10", 50_000, (32_000, 48_000, 64_000)),
    ],
)
def test_epochs_of_triple_wins_are_its_steps(name, images, steps):
    config = get_config(name)
    batches = -(-images // config.data.batch_size)
    epochs = (*config.optimizer.milestones, config.train.epochs)
    assert epochs == tuple(round(step / batches) for step in steps)
    method = building.build_method(config, 3)
    assert (method.clean_weight, method.adversarial_weight) == (0.5, 0.5)
    assert config.attack.training_mode


@pytest.mark.parametrize("name", ["kdiga_resnet", "kdiga_vision_transformer"])
def test_settings_of_kdiga_are_those_of_its_author(name):
    config = get_config(name, "kdiga")
    assert config.data.batch_size == 128
    assert config.data.augment == "crop_flip"
    assert config.optimizer.momentum == 0.9
    assert config.optimizer.weight_decay == 2e-4
    assert config.optimizer.milestones == (100, 150)
    assert config.train.epochs == 200
    assert config.attack.epsilon == 8 / 255
    assert config.attack.step_size * 10 == pytest.approx(16 / 255)
    assert config.evaluate.num_steps == 20
    assert get_config(name, "kdiga_rs").method.kdiga_rs.noise == 8 / 255


def test_a_student_of_kdiga_can_have_several_exits():
    config = get_config("kdiga_resnet", "kdiga")
    shrink("kdiga_resnet", config)
    config.model.resnet_cifar10.exits = (2, 3, 4)
    assert building.build_model(config).num_exits == 3


def test_an_unknown_variant_is_refused():
    with pytest.raises(
        ValueError, match="'sdk'.*'adversarial_training', .*'kdiga', .*'skd',"
    ):
        get_config("mnist", "sdk")


def test_a_key_outside_the_schema_is_refused():
    for changes in ({"train": {"epoch": 3}}, {"train.epoch": 3}):
        with pytest.raises(KeyError, match="epoch"):
            default.derive("nkd", changes)


def test_a_value_of_another_type_is_refused():
    with pytest.raises(TypeError, match="epochs"):
        default.derive("nkd", {"model": {}, "train": {"epochs": "three"}})
