"""apps.import_weights as a program, as docs/models.md has it."""

import keras
import pytest

torch = pytest.importorskip("torch")

from benchmarks import torch_baseline  # noqa: E402
from tests.apps.test_mains import RUN_APP  # noqa: E402
from tests.isolation import run_without  # noqa: E402
from tests.marks import slow_but_on_tensorflow  # noqa: E402

pytestmark = slow_but_on_tensorflow


@pytest.fixture
def arguments(tmp_path):
    """The command, for an ImageNet network that is small."""
    network = torch_baseline.MSDNet(
        data="ImageNet",
        num_classes=4,
        nBlocks=5,
        base=1,
        step=1,
        growthRate=2,
        nChannels=4,
        grFactor=(1, 2, 4, 4),
        bnFactor=(1, 2, 4, 4),
    )
    torch.save({"state_dict": network.state_dict()}, tmp_path / "x.pth.tar")
    return (
        "apps.import_weights",
        "--config=configs/imagenet.py",
        f"--file={tmp_path / 'x.pth.tar'}",
        f"--output={tmp_path / 'imagenet.keras'}",
        "--config.model.msdnet_imagenet.num_classes=4",
        "--config.model.msdnet_imagenet.base=1",
        "--config.model.msdnet_imagenet.step=1",
        "--config.model.msdnet_imagenet.growth_rate=2",
        "--config.model.msdnet_imagenet.initial_channels=4",
        "--config.model.msdnet_imagenet.normalization="
        "((0.5, 0.5, 0.5), (0.2, 0.2, 0.2))",
    )


def test_an_imagenet_network_is_imported(arguments, tmp_path):
    result = run_without(("nothing",), RUN_APP, *arguments)
    assert result.returncode == 0, result.stderr
    assert "msdnet_imagenet with 5 exits" in result.stdout
    assert "mean (0.5, 0.5, 0.5), std (0.2, 0.2, 0.2)" in result.stdout
    assert (tmp_path / "imagenet.keras").exists()


def test_without_pytorch_the_app_says_what_to_install(arguments):
    if keras.config.backend() == "torch":
        pytest.skip("PyTorch is there")
    result = run_without(("torch",), RUN_APP, *arguments)
    assert result.returncode == 1
    assert 'pip install "keras-neokd[torch]"' in result.stderr
