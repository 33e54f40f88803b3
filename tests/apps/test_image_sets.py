"""Tiny-ImageNet, ImageNet and image folders, from original files to results.

The data sets are small, in the exact layouts of the real ones; the networks
are MSDNets of the configs' own five exits, with hardly any layers.
"""

import json

import keras
import pytest

from apps import building
from apps import training
from apps.evaluating import evaluate
from apps.reporting import writing
from configs import imagenet
from configs import tiny_imagenet
from keras_neokd import MultiExitModel
from keras_neokd.evaluation import soundness
from tests.apps.tiny import tiny_config
from tests.data import folders
from tests.data import formats


def slow_where_compiled(test):
    """Mark a test: PyTorch runs at once what others take minutes to compile."""
    is_quick = keras.config.backend() == "torch"
    return test if is_quick else pytest.mark.slow(test)


@pytest.fixture(autouse=True)
def quick_signs(monkeypatch):
    """What looks for signs of a weak evaluation takes 40 steps elsewhere."""
    monkeypatch.setitem(soundness._ANYTHING, "num_steps", 1)


def short(config, folder):
    """Keep data, exits and attack, and take nearly everything else out."""
    config.data.update(
        {"dir": str(folder), "num_train": 4, "num_test": 2, "batch_size": 2}
    )
    config.model[config.model.name].update(
        {"base": 1, "step": 1, "initial_channels": 4, "growth_rate": 2}
    )
    config.attack.update({"name": "average", "num_steps": 1})
    config.train.epochs = 1
    config.evaluate.update(
        {"attacks": ("average",), "num_steps": 1, "batch_size": 2}
    )
    return config


def train_and_evaluate(config, folder):
    run = training.train(config, folder / "run")
    rows = run.read_history()
    assert len(rows) == config.train.epochs
    assert 0 <= rows[0]["data_share"] <= 1
    record = evaluate(
        config, run.model, folder / "results.json", folder / "plot.png"
    )
    by_name = {each["name"]: each for each in record["attacks"]}
    assert set(by_name) == {"clean", "average"}
    exits = {row["exit"] for row in by_name["clean"]["rows"]}
    assert len(exits) == 5
    assert json.loads((folder / "results.json").read_text())


@slow_where_compiled
def test_tiny_imagenet_at_64_pixels(tmp_path, capsys):
    folders.write_tiny_imagenet(tmp_path / "files", num_validation=4)
    config = short(tiny_imagenet.get_config(), tmp_path / "files")
    assert (config.data.image_size, config.data.augment) == (None, "crop_flip")
    train_and_evaluate(config, tmp_path)
    # A damaged file of the last two is found before training.
    assert "Decoding the 2 images of validation and" in capsys.readouterr().out


@slow_where_compiled
def test_imagenet_at_224_pixels(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    folders.write_imagenet(tmp_path / "files")
    config = imagenet.get_config("adversarial_training")
    config = short(config, tmp_path / "files")
    assert (config.data.image_size, config.data.resize) == (224, 256)
    assert config.data.augment == "random_part_flip"
    train_and_evaluate(config, tmp_path)


@pytest.mark.slow
def test_tiny_imagenet_resized_to_224_pixels(tmp_path):
    folders.write_tiny_imagenet(tmp_path / "files", num_validation=4)
    config = short(tiny_imagenet.get_config(), tmp_path / "files")
    config.model.msdnet_tiny_imagenet.option = "A"
    config.data.update({"image_size": 224, "augment": "random_part_flip"})
    train_and_evaluate(config, tmp_path)


def folder_config(folder, **changes):
    config = tiny_config("nkd")
    config.model.small_cnn_mnist.update(
        {"input_shape": (28, 28, 1), "num_classes": 3}
    )
    config.data.update(
        {
            **{"name": "image_folder", "dir": str(folder), "image_size": 28},
            **{"channels": 1, "num_train": 4, "num_test": None},
            **changes,
        }
    )
    return config


@pytest.mark.parametrize("part", ["val", "test"])
def test_a_damaged_image_is_found_before_training(tmp_path, part, capsys):
    folders.write_image_folder(tmp_path / "images")
    path = tmp_path / "images" / part / "bee" / "1.png"
    path.write_bytes(path.read_bytes()[:-200])
    config = folder_config(tmp_path / "images")
    with pytest.raises(ValueError, match=rf"{part}/bee/1\.png is no image"):
        training.train(config, tmp_path / "run")
    assert "Decoding the 18 images of validation and" in capsys.readouterr().out
    # Nothing has begun: with the image mended, the same command goes on.
    assert not (tmp_path / "run").exists()


def test_only_images_that_evaluation_reads_are_decoded(tmp_path):
    folders.write_image_folder(tmp_path / "images")
    config = folder_config(tmp_path / "images")
    model = building.build_model(config)
    dataset = building.load_data(config, model)
    # Of the test images, the second one is damaged.
    second = list(dataset.test.indices)[1]
    paths = sorted((tmp_path / "images/test").glob("*/*"))
    paths[second].write_bytes(paths[second].read_bytes()[:-200])
    for count, is_found in ((1, False), (2, True), (None, True)):
        config.evaluate.num_examples = count
        try:
            building.check_held_out(config, dataset)
        except ValueError as error:
            assert is_found and str(paths[second]) in str(error)
        else:
            assert not is_found


def test_grey_images_fit_a_model_for_grey_images(tmp_path):
    folders.write_image_folder(tmp_path / "images")
    config = folder_config(tmp_path / "images", channels=None)
    model = building.build_model(config)
    with pytest.raises(ValueError, match=r"28, 3\) of 3.*config.data.channels"):
        building.load_data(config, model)
    config.data.channels = 1
    assert building.load_data(config, model).image_shape == (28, 28, 1)


def test_results_call_a_data_set_by_its_title(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(soundness, "check_model", lambda *_: [])
    formats.write_mnist(tmp_path / "files", 12, 5)
    config = tiny_config()
    title = "Fashion-MNIST [/28 x 28]"
    config.data.update(
        {
            **{"name": "mnist", "dir": str(tmp_path / "files")},
            **{"title": title, "num_train": None, "num_test": None},
        }
    )
    config.evaluate.attacks = ()
    inputs = keras.Input((28, 28, 1))
    logits = keras.layers.Dense(10)(keras.layers.Flatten()(inputs))
    MultiExitModel(inputs, [logits]).save(tmp_path / "model.keras")
    results = tmp_path / "results.json"
    record = evaluate(
        config, tmp_path / "model.keras", results, tmp_path / "plot.png"
    )
    assert record["data"]["name"] == title
    assert f"5 test images of {title}; chance" in capsys.readouterr().out
    writing.write([results], tmp_path / "report", "report")
    assert "Fashion-MNIST" in (tmp_path / "report/tables.md").read_text()
    page = (tmp_path / "report/report.html").read_text()
    assert title in page and "mnist," not in page
