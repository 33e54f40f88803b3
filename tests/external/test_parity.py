"""The record of tests/attacks/parity.py, computed again by torchattacks."""

import keras
import numpy as np
import pytest

from benchmarks.work.attacks import correct_answers
from keras_neokd.serving.adapters import as_single_output
from tests.attacks import parity

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        keras.config.backend() != "torch", reason="torchattacks needs PyTorch"
    ),
]
pytest.importorskip("torchattacks")


def robust(name, seed):
    import torch

    model = parity.build_model()
    images, labels = parity.examples(model)
    return correct_answers(
        parity.OURS[name],
        as_single_output(model, 0, channels_first=True),
        torch.tensor(images).permute(0, 3, 1, 2).contiguous(),
        torch.tensor(labels).long(),
        seed,
    ).mean()


@pytest.mark.parametrize("name", parity.OURS)
def test_the_record_is_what_torchattacks_finds(name):
    found = np.mean([robust(name, seed) for seed in parity.SEEDS])
    assert found == pytest.approx(parity.RECORDED[name], abs=0.01)
