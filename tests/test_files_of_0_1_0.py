"""Models, policies and searches in files of 0.1.0 go on being read.

tests/fixtures/0_1_0/README.md says how the files were made. They are never
made again: whoever changes code so that a test here fails has changed what
happens to files that people have.
"""

import functools
import json
import lzma
import math
import re
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_neokd import ExitPolicy
from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import evaluation
from keras_neokd import models
from keras_neokd.serving import model_files

FIXTURES = Path(__file__).parent / "fixtures" / "0_1_0"
MODELS = FIXTURES / "models"
LAYERS = FIXTURES / "layers"
KINDS = {
    "small_cnn": models.SmallCNN,
    "msdnet": models.MSDNet,
    "resnet": models.ResNet,
    "resnet_bottleneck": models.ResNet,
    "vision_transformer": models.VisionTransformer,
    "vision_transformer_average": models.VisionTransformer,
    "own_layers": MultiExitModel,
}
NAMES = json.loads((FIXTURES / "names" / "registered.json").read_text())
COMPILED = json.loads((MODELS / "reprs.json").read_text())


@pytest.fixture(scope="module")
def file_of(tmp_path_factory):
    """Function from a model's name to its file, unpacked."""

    @functools.cache
    def file(name, folder=MODELS):
        packed = (folder / f"{name}.keras.xz").read_bytes()
        path = tmp_path_factory.mktemp("models") / f"{name}.keras"
        path.write_bytes(lzma.decompress(packed))
        return path

    return file


def recorded(name, folder=MODELS):
    with np.load(folder / f"{name}.npz") as archive:
        return dict(archive)


def assert_has_the_logits(model, name, folder=MODELS):
    """Compare all exits with what 0.1.0 computed under PyTorch."""
    arrays = recorded(name, folder)
    expected = {
        key.removeprefix("logits/"): array
        for key, array in arrays.items()
        if key.startswith("logits/")
    }
    assert list(model.exit_names) == list(expected)
    outputs = model(arrays["images"], training=False)
    for exit_name, logits in expected.items():
        assert np.ptp(logits, axis=0).max() > 1e-3  # Images matter.
        np.testing.assert_allclose(
            keras.ops.convert_to_numpy(outputs[exit_name]),
            logits,
            rtol=1e-5,
            atol=1e-5,
            err_msg=exit_name,
        )


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize(
    "load", [model_files.load, keras.saving.load_model], ids=["apps", "keras"]
)
def test_a_model_has_the_logits_that_it_had(file_of, load, name):
    model = load(file_of(name))
    assert isinstance(model, KINDS[name])
    assert_has_the_logits(model, name)


@pytest.mark.parametrize("name", KINDS)
def test_layers_are_found_under_the_names_that_files_have(file_of, name):
    """As in the file of a network of the user's own with layers of ours."""
    model = model_files.load(file_of(name, LAYERS))
    assert type(model) is MultiExitModel
    assert_has_the_logits(model, name, LAYERS)


def test_the_files_name_layers_of_ours(file_of):
    """Else the test above would say nothing about them."""
    named = "".join(
        json.dumps(model_files.read_config(file_of(name, LAYERS)))
        for name in KINDS
    )
    found = set(re.findall(r'"registered_name": "keras_neokd>(\w+)"', named))
    assert found == {
        "Convolution",
        "ImageConv2D",
        "KaimingNormal",
        "MaxPooling",
        "MultiExitModel",
        "SelfAttention",
        "TokenEmbedding",
        "TorchDefault",
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_a_file_can_hold_is_known(name):
    assert keras.saving.get_registered_object(name).__name__ == NAMES[name]


def test_weights_of_a_file_go_into_a_new_model(file_of):
    arguments = {"stage_blocks": (1, 1, 1), "stage_filters": (4, 8, 8)}
    model = models.ResNet(
        (8, 8, 3),
        4,
        exits="all",
        normalization=((0.5, 0.4, 0.3), (0.2, 0.3, 0.4)),
        **arguments,
    )
    model.load_weights(file_of("resnet"))
    assert_has_the_logits(model, "resnet")


@pytest.mark.parametrize("name", COMPILED)
def test_a_compiled_model_has_method_attack_and_logits(file_of, name):
    model = keras.saving.load_model(file_of(name))
    attack = keras.saving.deserialize_keras_object(
        model.get_compile_config()["attack"]
    )
    assert repr(attack) == COMPILED[name]["attack"]
    # A teacher is not in the file.
    kept, then = (
        re.sub("teacher=(<[^>]*>|None)", "", described)
        for described in (repr(model.method), COMPILED[name]["method"])
    )
    assert kept == then
    assert int(model.optimizer.iterations) == 1
    assert_has_the_logits(model, name)
    assert_has_the_logits(model_files.load(file_of(name)), name)


def train_one_step(model):
    """Train as the script that made the files did."""
    shape = (8, *model.input_shape[1:])
    generator = np.random.default_rng(1)
    images = generator.integers(0, 256, shape) / np.float32(255)
    labels = np.arange(8) % 4
    target = labels
    if model.method.num_examples is not None:
        target = {"label": labels, "index": np.arange(8)}
    model.fit(
        images,
        target,
        batch_size=8,
        initial_epoch=1,
        epochs=2,
        shuffle=False,
        verbose=0,
    )


@pytest.mark.parametrize("name", COMPILED)
def test_training_goes_on_as_it_did(file_of, name):
    """The second step, with the optimizer and the method of the file."""
    if name == "trades" and keras.config.backend() != "torch":
        pytest.skip("Keras' Adam is saved as the class of its backend")
    model = keras.saving.load_model(file_of(name))
    if name == "kdiga":
        with pytest.raises(ValueError, match="model.set_teacher"):
            train_one_step(model)
        model.set_teacher(model_files.load(file_of("teacher")))
    before = [
        keras.ops.convert_to_numpy(variable).copy()
        for variable in model.trainable_variables
    ]
    train_one_step(model)
    assert int(model.optimizer.iterations) == 2
    arrays = recorded(name)
    expected = [arrays[key] for key in sorted(arrays) if "after/" in key]
    after = [
        keras.ops.convert_to_numpy(variable)
        for variable in model.trainable_variables
    ]
    assert [each.shape for each in after] == [each.shape for each in expected]
    before, after, expected = (
        np.concatenate([each.ravel() for each in arrays])
        for arrays in (before, after, expected)
    )
    error, moved = after - expected, expected - before
    if name == "trades":
        # Adam divides by the size of each weight's gradients, and so blows
        # the rounding of the smallest ones up.
        assert np.linalg.norm(error) < 0.01 * np.linalg.norm(moved)
        assert np.quantile(np.abs(error), 0.99) <= 2e-5
    else:
        assert np.abs(error).max() <= 2e-5
    assert np.abs(moved).max() > 5e-4  # Without a step, none would be equal.


def test_a_policy_is_read():
    policy = ExitPolicy.load(FIXTURES / "policies" / "policy.json")
    assert policy.thresholds == (0.75, math.inf)
    assert policy.ensemble is True


def searched(file_of, state_file):
    with np.load(
        FIXTURES / "searches" / keras.config.backend() / "found.npz"
    ) as archive:
        expected = dict(archive)
    attack = attacks.WorstCase(
        [attacks.APGD(0.3, num_steps=4), attacks.Square(0.3, num_queries=8)]
    )
    found = evaluation.search(
        model_files.load(file_of("own_layers")),
        expected["images"],
        expected["labels"],
        attack,
        batch_size=2,
        state_file=state_file,
    )
    return found, expected


def test_a_search_goes_on_from_its_state(file_of, tmp_path):
    state_file = tmp_path / "state.npz"
    stopped = FIXTURES / "searches" / keras.config.backend() / "state.npz"
    shutil.copyfile(stopped, state_file)
    # What it has found already stays: a mark that no attack would leave.
    with np.load(state_file) as archive:
        arrays = dict(archive)
    (found_before,) = np.nonzero(arrays["fooled_by"] >= 0)
    arrays["adversarial"][found_before] = 0.123
    np.savez(state_file, **arrays)
    found, expected = searched(file_of, state_file)
    np.testing.assert_array_equal(found.fooled_by, expected["fooled_by"])
    assert len(found_before) > 0
    np.testing.assert_array_equal(
        found.adversarial[found_before], np.float32(0.123)
    )
    others = np.setdiff1d(np.arange(len(found.fooled_by)), found_before)
    np.testing.assert_allclose(
        found.adversarial[others], expected["adversarial"][others], atol=1e-5
    )


def test_no_file_says_where_it_was_made():
    """Places and names of the computer do not belong in a repository."""
    files = [path for path in FIXTURES.rglob("*") if path.is_file()]
    assert len(files) > 40
    for path in files:
        content = path.read_bytes()
        if path.suffix == ".xz":
            content = lzma.decompress(content)
        found = re.search(rb"/(tmp|work|home|root|mnt)/", content)
        assert found is None, path
