"""Tiny-ImageNet, ImageNet and image folders, from original files to results.

The data sets are small, in the exact layouts of the real ones; the networks
are MSDNets of the configs' own five exits, with hardly any layers.
"""

import json

import keras
import pytest

from apps import preparing
from apps import training
from apps.evaluating import evaluate
from configs import imagenet
from configs import tiny_imagenet
from keras_neokd.evaluation import soundness
from tests.data import folders

pytest.importorskip("tensorflow_datasets")


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
    with config.model.options.unlocked():
        config.model.options.update(
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
    assert len(by_name["clean"]["top1"]) == 5
    assert json.loads((folder / "results.json").read_text())


@slow_where_compiled
def test_tiny_imagenet_at_64_pixels(tmp_path, capsys):
    folders.write_tiny_imagenet(tmp_path / "files", num_validation=4)
    data_dir = tmp_path / "data"
    preparing.prepare("tiny_imagenet", tmp_path / "files", data_dir, False)
    said = capsys.readouterr().out
    assert "train: 200 images" in said
    assert "whole data set has 100,000 and 10,000 images" in said
    assert "tfds.load needs TFRecord files" in said
    config = short(tiny_imagenet.get_config(), data_dir)
    assert (config.data.image_size, config.data.augment) == (None, "crop_flip")
    train_and_evaluate(config, tmp_path)


@slow_where_compiled
def test_imagenet_at_224_pixels(tmp_path):
    folders.write_imagenet(tmp_path / "files")
    data_dir = tmp_path / "data"
    preparing.prepare("imagenet2012", tmp_path / "files", data_dir, False)
    config = short(imagenet.get_config("adversarial_training"), data_dir)
    assert (config.data.image_size, config.data.resize) == (224, 256)
    assert config.data.augment == "random_part_flip"
    train_and_evaluate(config, tmp_path)


@pytest.mark.slow
def test_tiny_imagenet_resized_to_224_pixels(tmp_path):
    folders.write_tiny_imagenet(tmp_path / "files", num_validation=4)
    data_dir = tmp_path / "data"
    preparing.prepare("tiny_imagenet", tmp_path / "files", data_dir, False)
    config = short(tiny_imagenet.get_config(), data_dir)
    config.model.options.option = "A"
    config.data.update({"image_size": 224, "augment": "random_part_flip"})
    train_and_evaluate(config, tmp_path)
