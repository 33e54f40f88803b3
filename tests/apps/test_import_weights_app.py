"""apps.import_weights as a program, as docs/models.md has it."""

import keras
import pytest

torch = pytest.importorskip("torch")

from benchmarks import torch_baseline  # noqa: E402
from tests.apps.test_import_weights import THEIRS  # noqa: E402
from tests.apps.test_import_weights import TINY  # noqa: E402
from tests.isolation import run_app  # noqa: E402

pytestmark = pytest.mark.any_backend


@pytest.fixture
def arguments(tmp_path):
    """The command, for an ImageNet network that is small."""
    network = torch_baseline.MSDNet(
        **{"data": "ImageNet", "num_classes": 4, "nBlocks": 5, **THEIRS},
        **{"grFactor": (1, 2, 4, 4), "bnFactor": (1, 2, 4, 4)},
    )
    torch.save({"state_dict": network.state_dict()}, tmp_path / "x.pth.tar")
    return (
        "import_weights",
        "--config=configs/imagenet.py",
        f"--file={tmp_path / 'x.pth.tar'}",
        f"--output={tmp_path / 'imagenet.keras'}",
        "--config.model.msdnet_imagenet.num_classes=4",
        *(f"--config.model.msdnet_imagenet.{k}={TINY[k]}" for k in TINY),
        "--config.model.msdnet_imagenet.normalization="
        "((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))",
    )


def test_an_imagenet_network_is_imported(arguments, tmp_path):
    result = run_app(*arguments)
    assert result.returncode == 0, result.stderr
    assert "msdnet_imagenet with 5 exits" in result.stdout
    assert "mean (0.5, 0.5, 0.5), std (0.2, 0.2, 0.2)" in result.stdout
    assert (tmp_path / "imagenet.keras").exists()


def test_without_pytorch_the_app_says_what_to_install(arguments):
    if keras.config.backend() == "torch":
        pytest.skip("PyTorch is there")
    result = run_app(*arguments, hidden=["torch"])
    assert result.returncode == 1
    assert 'pip install "keras-neokd[torch]"' in result.stderr
