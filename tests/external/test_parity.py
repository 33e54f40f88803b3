"""The record of tests/attacks/parity.py, computed again by torchattacks."""

import keras
import numpy as np
import pytest

from keras_neokd.adapters import as_single_output
from tests.attacks import parity

pytestmark = [
    pytest.mark.external,
    pytest.mark.skipif(
        keras.config.backend() != "torch", reason="torchattacks needs PyTorch"
    ),
]
torchattacks = pytest.importorskip("torchattacks")


def theirs(name, network, seed):
    """Return torchattacks' attack and the radius within which it counts."""
    linf, l2 = parity.EPSILON, parity.EPSILON_L2
    apgd = {"steps": parity.NUM_STEPS, "seed": seed}
    return {
        "apgd_ce": lambda: torchattacks.APGD(network, eps=linf, **apgd),
        "apgd_dlr": lambda: torchattacks.APGD(
            network, eps=linf, loss="dlr", **apgd
        ),
        "apgd_ce_l2": lambda: torchattacks.APGD(
            network, norm="L2", eps=l2, **apgd
        ),
        "apgd_t": lambda: torchattacks.APGDT(network, eps=linf, **apgd),
        "fab": lambda: torchattacks.FAB(network, eps=linf, **apgd),
        "fab_l2": lambda: torchattacks.FAB(network, norm="L2", eps=l2, **apgd),
        "fab_t": lambda: torchattacks.FAB(
            network, eps=linf, multi_targeted=True, **apgd
        ),
        "square": lambda: torchattacks.Square(
            network,
            eps=linf,
            n_queries=parity.NUM_QUERIES,
            seed=seed,
            resc_schedule=False,
        ),
        "square_l2": lambda: torchattacks.Square(
            network,
            norm="L2",
            eps=l2,
            n_queries=parity.NUM_QUERIES,
            seed=seed,
            resc_schedule=False,
        ),
        "cw": lambda: torchattacks.CW(network, c=parity.OURS["cw"].c),
    }[name]()


def robust(name, seed):
    import torch

    model = parity.build_model()
    images, labels = parity.examples(model)
    network = as_single_output(model, 0, channels_first=True)
    clean = torch.tensor(images).permute(0, 3, 1, 2).contiguous()
    labels = torch.tensor(labels).long()
    torch.manual_seed(seed)
    adversarial = theirs(name, network, seed)(clean, labels)
    if name.startswith("fab"):
        change = (adversarial - clean).flatten(1)
        order, radius = (
            (2, parity.EPSILON_L2)
            if name.endswith("l2")
            else (float("inf"), parity.EPSILON)
        )
        length = torch.linalg.vector_norm(change, order, dim=1)
        inside = (length <= radius + 1e-6)[:, None, None, None]
        adversarial = torch.where(inside, adversarial, clean)
    with torch.no_grad():
        return float((network(adversarial).argmax(1) == labels).float().mean())


@pytest.mark.parametrize("name", parity.OURS)
def test_the_record_is_what_torchattacks_finds(name):
    found = np.mean([robust(name, seed) for seed in parity.SEEDS])
    assert found == pytest.approx(parity.RECORDED[name], abs=0.01)
