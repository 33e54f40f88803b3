"""One NEO-KD training step again, in plain PyTorch and float64.

Written from the equations of NEO-KD (arXiv 2311.00428) for the network of
`tiny.conv_model`; imports nothing from keras_neokd.
"""

import torch
from torch import nn
from torch.nn import functional

from tests import numpy_reference

# The stream of EOKD's class draw: part of the contract, since a changed
# number would change every resumed run.
EOKD_STREAM = 0x0E0CD


class Network(nn.Module):
    """`tiny.conv_model`, channels first."""

    def __init__(self, num_classes=8):
        super().__init__()
        self.conv_1 = nn.Conv2d(1, 4, 3)
        self.norm_1 = nn.BatchNorm2d(4)
        self.head_1 = nn.Linear(4 * 6 * 6, num_classes)
        self.conv_2 = nn.Conv2d(4, 6, 3, stride=2)
        self.norm_2 = nn.BatchNorm2d(6)
        self.head_2 = nn.Linear(6 * 2 * 2, num_classes)
        self.dense = nn.Linear(6 * 2 * 2, 10)
        self.head_3 = nn.Linear(10, num_classes)
        self.double()

    def forward(self, images):
        """Return logits `(batch, exits, classes)` of channels-last images."""
        x = self.norm_1(self.conv_1(images.permute(0, 3, 1, 2))).relu()
        first = self.head_1(_flatten(x))
        x = _flatten(self.norm_2(self.conv_2(x)).relu())
        second = self.head_2(x)
        third = self.head_3(self.dense(x).relu())
        return torch.stack([first, second, third], dim=1)


def _flatten(x):
    return x.permute(0, 2, 3, 1).flatten(1)


def _values(network):
    """Return pairs of Keras' name and tensor of every weight."""
    for name, layer in network.named_children():
        if isinstance(layer, nn.BatchNorm2d):
            yield f"{name}/gamma", layer.weight
            yield f"{name}/beta", layer.bias
            yield f"{name}/moving_mean", layer.running_mean
            yield f"{name}/moving_variance", layer.running_var
        else:
            yield f"{name}/kernel", layer.weight
            yield f"{name}/bias", layer.bias


def load(network, weights):
    """Copy weights, a dict from Keras' names to arrays."""
    with torch.no_grad():
        for name, tensor in _values(network):
            value = torch.as_tensor(weights[name]).double()
            if value.ndim == 4:
                value = value.permute(3, 2, 0, 1)
            elif value.ndim == 2:
                value = value.T
            tensor.copy_(value)


def dump(network):
    """Return the weights in Keras' layout."""
    weights = {}
    for name, tensor in _values(network):
        value = tensor.detach().clone()
        if value.ndim == 4:
            value = value.permute(2, 3, 1, 0)
        elif value.ndim == 2:
            value = value.T
        weights[name] = value.numpy()
    return weights


def allowed_classes(labels, num_exits, num_classes, seed, epoch):
    """Return EOKD's classes, boolean `(batch, exits, classes)`."""
    allowed = torch.zeros(len(labels), num_exits, num_classes).bool()
    for row, label in enumerate(int(each) for each in labels):
        key = numpy_reference.bits_of_words(seed, EOKD_STREAM, epoch, label)
        chunks = numpy_reference.orthogonal_classes(
            label, num_exits, num_classes, key
        )
        for index, classes in enumerate(chunks):
            allowed[row, index, sorted(classes)] = True
    return allowed


def neo_kd_terms(clean, adversarial, labels, allowed):
    """Return the terms of Eq. 7, each `(batch, exits)`."""
    num_exits = clean.shape[1]
    every_exit = labels[:, None].expand(-1, num_exits)
    teachers = clean.detach().softmax(dim=2)
    neighbors = torch.stack(
        [
            teachers[:, max(0, i - 1) : i + 2].mean(dim=1)
            for i in range(num_exits)
        ],
        dim=1,
    )
    orthogonal = teachers * allowed
    orthogonal = orthogonal / orthogonal.sum(dim=2, keepdim=True)
    student = adversarial.log_softmax(dim=2)

    def cross_entropy(logits):
        return functional.cross_entropy(
            logits.permute(0, 2, 1), every_exit, reduction="none"
        )

    return {
        "clean": cross_entropy(clean),
        "adversarial": cross_entropy(adversarial),
        "nkd": -(neighbors * student).sum(dim=2),
        "eokd": -(orthogonal * student).sum(dim=2),
    }


class Training:
    """SGD with momentum and weight decay on Eq. 7.

    Args:
        network: a `Network`.
        gamma: weight of the distillation terms per exit.
        seed: seed of EOKD's class draw.
    """

    def __init__(self, network, gamma, seed):
        self.network = network
        self.gamma = torch.tensor(gamma).double()
        self.seed = seed
        self.optimizer = torch.optim.SGD(
            network.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4
        )

    def step(self, images, adversarial, labels, epoch):
        """Update the weights once; return the logs of the batch."""
        self.network.train()
        images, adversarial, labels = (
            torch.as_tensor(each) for each in (images, adversarial, labels)
        )
        labels = labels.long()
        clean = self.network(images.double())
        attacked = self.network(adversarial.double())
        allowed = allowed_classes(
            labels, clean.shape[1], clean.shape[2], self.seed, epoch
        )
        terms = neo_kd_terms(clean, attacked, labels, allowed)
        distillation = 3.0 * terms["nkd"] + 1.0 * terms["eokd"]
        loss = terms["clean"] + terms["adversarial"]
        loss = (loss + self.gamma * distillation).sum(dim=1).mean()
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return _logs(
            loss, terms, {"clean": clean, "adversarial": attacked}, labels
        )


def _logs(loss, terms, logits, labels):
    quantities = {f"{name}_loss": each for name, each in terms.items()}
    for kind, values in logits.items():
        correct = values.argmax(dim=2) == labels[:, None]
        quantities[f"{kind}_accuracy"] = correct.double()
    logs = {"loss": loss.item()}
    for name, values in quantities.items():
        logs[name] = values.mean().item()
        for i, value in enumerate(values.mean(dim=0)):
            logs[f"exit_{i + 1}_{name}"] = value.item()
    return logs


def biased_variance(torch_variance, start, num_updates, count):
    """Turn PyTorch's running variance into one of biased batch variances.

    PyTorch enters the unbiased variance of a batch, `count / (count - 1)`
    times the biased one, into the running average.

    Args:
        torch_variance: running variance after `num_updates` batches.
        start: running variance before.
        num_updates: number of forward passes in training mode.
        count: number of values per channel in each batch.
    """
    kept = 0.9**num_updates * start
    return kept + (torch_variance - kept) * (count - 1) / count
