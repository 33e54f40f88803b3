"""From a weights file of MSDNet-PyTorch to a run that goes on from it."""

import keras
import numpy as np
import pytest

torch = pytest.importorskip("torch")

from apps import building  # noqa: E402
from apps import callbacks  # noqa: E402
from apps import training  # noqa: E402
from apps.import_weights import import_weights  # noqa: E402
from benchmarks import torch_baseline  # noqa: E402
from configs import default  # noqa: E402
from configs import imagenet  # noqa: E402
from tests.apps.tiny import Killed  # noqa: E402
from tests.apps.tiny import assert_same_model  # noqa: E402
from tests.apps.tiny import kill  # noqa: E402
from tests.models.torch_weights import randomized  # noqa: E402

TINY = {"base": 1, "step": 1, "growth_rate": 2, "initial_channels": 4}
THEIRS = {"base": 1, "step": 1, "growthRate": 2, "nChannels": 4}
MEAN, DEVIATION = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def tiny_config():
    """MSDNet of two layers on 20 x 20 images, trained as on ImageNet."""
    config = default.derive(
        "clean_training",
        {
            "model": {
                "name": "msdnet_cifar10",
                "msdnet_cifar10": {
                    "input_shape": (20, 20, 3),
                    "num_classes": 4,
                    "num_blocks": 2,
                    "normalization": (MEAN, DEVIATION),
                    **TINY,
                },
            },
            "data": {"name": "npz", "batch_size": 8},
        },
    )
    config.optimizer.update(imagenet.get_config().optimizer)
    config.train.epochs = 2
    return config


def write_state(path, seed=0):
    network = torch_baseline.MSDNet(
        data="cifar10", num_classes=4, nBlocks=2, **THEIRS
    )
    torch.save(randomized(network, seed).state_dict(), path)
    return network


@pytest.fixture
def state(tmp_path):
    write_state(tmp_path / "msdnet.pth")
    return tmp_path / "msdnet.pth"


def test_the_file_holds_the_network_with_its_normalisation(
    state, tmp_path, capsys
):
    output = tmp_path / "new" / "msdnet.keras"
    import_weights(tiny_config(), str(state), str(output))
    said = capsys.readouterr().out
    assert "with 2 exits" in said
    assert "normalised: mean (0.5, 0.4, 0.3), std (0.2, 0.25, 0.3)" in said
    assert [each.name for each in output.parent.iterdir()] == ["msdnet.keras"]
    images = np.random.default_rng(0).random((3, 20, 20, 3), "float32")
    model = keras.saving.load_model(output)
    normalised = (images - np.float32(MEAN)) / np.float32(DEVIATION)
    network = write_state(state)
    with torch.no_grad():
        expected = network(torch.from_numpy(normalised).permute(0, 3, 1, 2))
    logits = model.predict(images, verbose=0)
    for name, others in zip(model.exit_names, expected, strict=True):
        np.testing.assert_allclose(logits[name], others.numpy(), atol=1e-4)


def test_a_missing_normalisation_is_pointed_out(state, tmp_path, capsys):
    config = tiny_config()
    config.model.msdnet_cifar10.normalization = None
    import_weights(config, str(state), str(tmp_path / "x.keras"))
    assert "are taken as they are" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("changes", "output", "message"),
    [
        ({}, "x.h5", "needs a new file that ends in .keras"),
        ({}, "there.keras", "there.keras', which is there"),
        (
            {"name": "resnet_cifar10"},
            "x.keras",
            "name one, such as msd.*'resnet_cifar10'",
        ),
        ({"weights": "x.keras"}, "x.keras", "model.weights None.*'x.keras'"),
        (
            {"msdnet_cifar10": {"num_classes": 5}},
            "x.keras",
            r"linear.* \(4, 128\), expected \(5",
        ),
    ],
)
def test_what_cannot_be_imported(state, tmp_path, changes, output, message):
    (tmp_path / "there.keras").touch()
    config = tiny_config()
    config.model.update(changes)
    with pytest.raises(ValueError, match=message):
        import_weights(config, str(state), str(tmp_path / output))
    assert not (tmp_path / "x.keras").exists()


def test_the_config_of_imagenet_normalises_as_published_networks_do():
    mean, deviation = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    options = imagenet.get_config().model.msdnet_imagenet
    assert options.normalization == (mean, deviation)


@pytest.fixture
def fine_tuning(state, tmp_path):
    """A config to fine-tune imported weights with."""
    generator = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 24), ("test", 8)):
        arrays[f"x_{part}"] = generator.random((count, 20, 20, 3), "float32")
        arrays[f"y_{part}"] = np.arange(count) % 4
    np.savez(tmp_path / "data.npz", **arrays)
    config = tiny_config()
    config.data.dir = str(tmp_path / "data.npz")
    output = str(tmp_path / "msdnet.keras")
    import_weights(config, str(state), output)
    config.model.weights = output
    return config


def weights_of(model):
    return [keras.ops.convert_to_numpy(each) for each in model.weights]


def test_a_run_begins_with_the_imported_weights(fine_tuning):
    imported = keras.saving.load_model(fine_tuning.model.weights)
    for ours, theirs in zip(
        weights_of(building.build_model(fine_tuning)),
        weights_of(imported),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)


def test_a_run_goes_on_from_its_checkpoint_with_the_same_file_only(
    fine_tuning, state, tmp_path, monkeypatch
):
    whole = training.train(fine_tuning, tmp_path / "whole")
    rates = [row["learning_rate"] for row in whole.read_history()]
    assert rates == pytest.approx([0.001, 0.001])
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.Progress, "on_epoch_end", kill)
        with pytest.raises(Killed):
            training.train(fine_tuning, tmp_path / "run")
    file = tmp_path / "msdnet.keras"
    file.rename(tmp_path / "then.keras")
    with pytest.raises(ValueError, match=r"model\.weights: .*now null\nBring"):
        training.train(fine_tuning, tmp_path / "run")
    write_state(state, seed=1)
    import_weights(tiny_config(), str(state), str(file))
    with pytest.raises(ValueError, match="files of another content.*SHA-256"):
        training.train(fine_tuning, tmp_path / "run")
    file.unlink()
    (tmp_path / "then.keras").rename(file)
    run = training.train(fine_tuning, tmp_path / "run")
    assert_same_model(run, whole)
    # What is finished needs its files no more.
    file.unlink()
    training.train(fine_tuning, tmp_path / "run")


def test_weights_of_another_normalisation_are_refused(fine_tuning):
    fine_tuning.model.msdnet_cifar10.normalization = (MEAN, MEAN)
    with pytest.raises(
        ValueError,
        match=r"other options: normalization there \[\[0\.5, 0\.4, 0\.3\], "
        r"\[0\.2, .*here \[\[0\.5, 0\.4, 0\.3\], \[0\.5, ",
    ):
        building.build_model(fine_tuning)
