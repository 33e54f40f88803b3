"""NEO-KD's training step in plain eager PyTorch, in the style of triple-wins.

The baseline of `benchmarks.run models`, and the independent implementation
that the tests compare the library with. For both reasons nothing here imports
keras_neokd or Keras.

    model = MSDNet.cifar10().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4
    )
    supports = orthogonal_supports(y, 3, 10, generator)
    x_adv, _ = attacked(model, x, y, 8 / 255, 2 / 255, 7, generator)
    logs = train_step(model, optimizer, x, x_adv, y, supports)

A model maps images (batch, channels, height, width) in [0, 1] to a list of
logits, one tensor (batch, classes) per exit, and with the index of an exit to
a list of its logits only. Labels `y` are integers, (batch,).
Exits count from 0 in arguments and from 1 in names. Radius and length of a step
are in pixel units, and `generator=None` stands for PyTorch's global one.
"""

import contextlib

import torch
from torch import nn
from torch.nn import functional

from benchmarks.torch_baseline.networks import MSDNet as MSDNet
from benchmarks.torch_baseline.networks import SmallCNN as SmallCNN

# Attacks. All run with the model in evaluation mode (batch norm and dropout
# are fixed), leave its mode and the gradients of its weights as they found
# them, and run the whole network, as triple-wins does, unless `truncated`.


def attacked(
    model, x, y, epsilon, step_size, num_steps, generator=None, truncated=False
):
    """Run `max_average` from random starts."""
    starts = [
        random_start(x, epsilon, generator) for _ in range(model.num_exits)
    ]
    budget = (epsilon, step_size, num_steps)
    return max_average(model, x, y, *budget, starts, truncated)


def random_start(x, epsilon, generator=None):
    """Add noise uniform in (-epsilon, epsilon), clipped to [0, 1]."""
    noise = torch.rand(x.shape, generator=generator, dtype=x.dtype)
    return _project(x + epsilon * (2 * noise.to(x.device) - 1), x, epsilon)


def pgd(
    model, x, y, exits, epsilon, step_size, num_steps, start, truncated=False
):
    """Maximise the mean cross-entropy of some exits by signed gradient steps.

    Args:
        model, x, y: network, images and labels.
        exits: indices of the attacked exits; `None` for all.
        epsilon: radius of the L-infinity ball.
        step_size: length of a step.
        num_steps: number of steps.
        start: images to start from; projected to the ball and to [0, 1]
            before the first gradient.
        truncated: run each of `exits` by itself, and the network no further.
            Defaults to False.

    Returns:
        The last iterate.
    """
    x_adv = _project(start.detach(), x, epsilon)
    with _evaluation_mode(model):
        for _ in range(num_steps):
            x_adv.requires_grad_(True)
            if truncated:
                chosen = [model(x_adv, i)[0] for i in exits]
            else:
                logits = model(x_adv)
                chosen = logits if exits is None else [logits[i] for i in exits]
            losses = [functional.cross_entropy(z, y) for z in chosen]
            (gradient,) = torch.autograd.grad(sum(losses) / len(losses), x_adv)
            x_adv = x_adv.detach() + step_size * gradient.sign()
            x_adv = _project(x_adv, x, epsilon)
    return x_adv


def max_average(
    model, x, y, epsilon, step_size, num_steps, starts, truncated=False
):
    """Of the attacks on each single exit, keep the one that hurts most.

    Each image keeps the candidate with the largest sum of cross-entropies
    over all exits; the first of equal ones wins.

    Args:
        model, x, y, epsilon, step_size, num_steps, truncated: see `pgd`.
        starts: one tensor of images to start from per exit.

    Returns:
        Tuple of the images and of the index, (batch,), of the exit whose
        candidate was kept.
    """
    budget = (epsilon, step_size, num_steps)
    candidates, scores = [], []
    for i, start in enumerate(starts):
        x_adv = pgd(model, x, y, (i,), *budget, start, truncated)
        with _evaluation_mode(model), torch.no_grad():
            losses = [
                functional.cross_entropy(z, y, reduction="none")
                for z in model(x_adv)
            ]
        candidates.append(x_adv)
        scores.append(sum(losses))
    chosen = torch.stack(scores).argmax(dim=0)
    best = candidates[0]
    for i, candidate in enumerate(candidates[1:], start=1):
        best = torch.where((chosen == i).view(-1, 1, 1, 1), candidate, best)
    return best, chosen


def _project(x_adv, x, epsilon):
    """Project to the ball around `x`, then to [0, 1]."""
    x_adv = torch.minimum(torch.maximum(x_adv, x - epsilon), x + epsilon)
    return x_adv.clamp(0, 1)


@contextlib.contextmanager
def _evaluation_mode(model):
    was_training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(was_training)


# The loss (Eq. 4-7 of the paper) and the step.


def orthogonal_supports(y, num_exits, num_classes, generator=None):
    """Draw the classes that each exit learns in EOKD (Eq. 6).

    Every exit keeps the true class and floor((C - 1) / L) random others of
    the C classes, disjoint between the L exits of an example. Drawn anew for
    every element of `y`; for a table that all examples of an epoch share, pass
    `torch.arange(num_classes)` and index the result with the labels.

    Returns:
        Boolean tensor, (batch, exits, classes).

    Raises:
        ValueError: if there are not more classes than exits.
    """
    num_others = (num_classes - 1) // num_exits
    if num_others < 1:
        raise ValueError(
            "EOKD needs more classes than exits: received "
            f"num_classes={num_classes}, num_exits={num_exits}."
        )
    is_true = functional.one_hot(y, num_classes).bool()
    draw = torch.rand(is_true.shape, generator=generator).to(y.device)
    # The true class gets the last rank, which belongs to no chunk.
    order = draw.masked_fill(is_true, 2.0).argsort(dim=1)
    rank = order.argsort(dim=1)
    exits = torch.arange(num_exits, device=y.device).view(1, -1, 1)
    chunk = (rank // num_others).unsqueeze(1)
    return (chunk == exits) & ~is_true.unsqueeze(1) | is_true.unsqueeze(1)


def neo_kd_loss(
    clean_logits,
    adversarial_logits,
    y,
    supports,
    alpha=3.0,
    beta=1.0,
    gamma=None,
):
    """Compute NEO-KD's loss (Eq. 7) with cross-entropy as distance.

    Args:
        clean_logits, adversarial_logits: a tensor per exit.
        y: labels.
        supports: classes that EOKD keeps, see `orthogonal_supports`.
        alpha, beta: weights of NKD and of EOKD. Default to 3 and 1.
        gamma: one weight of both per exit; `None` (default) for ones.

    Returns:
        Tuple of the scalar loss and a dictionary of unweighted terms, each
        (batch, exits): `clean`, `adversarial`, `nkd`, `eokd`.
    """
    clean = torch.stack(tuple(clean_logits), dim=1)
    adversarial = torch.stack(tuple(adversarial_logits), dim=1)
    teachers = clean.detach()
    restricted = teachers.masked_fill(~supports, -torch.inf).softmax(dim=-1)
    true = functional.one_hot(y, clean.shape[2]).unsqueeze(1)
    terms = {
        "clean": _cross_entropy(clean, true),
        "adversarial": _cross_entropy(adversarial, true),
        "nkd": _cross_entropy(adversarial, _neighbor_mean(teachers)),
        "eokd": _cross_entropy(adversarial, restricted),
    }
    weights = [1.0] * clean.shape[1] if gamma is None else gamma
    weights = torch.as_tensor(weights, dtype=clean.dtype, device=clean.device)
    distillation = alpha * terms["nkd"] + beta * terms["eokd"]
    losses = terms["clean"] + terms["adversarial"] + weights * distillation
    return losses.sum(dim=1).mean(), terms


def _cross_entropy(logits, targets):
    return -(targets * logits.log_softmax(dim=-1)).sum(dim=-1)


def _neighbor_mean(logits):
    """Average the softmax of each exit with those beside it (Eq. 5)."""
    probabilities = logits.softmax(dim=-1)
    means = [
        probabilities[:, max(0, i - 1) : i + 2].mean(dim=1)
        for i in range(logits.shape[1])
    ]
    return torch.stack(means, dim=1)


def train_step(model, optimizer, x, x_adv, y, supports, gamma=None):
    """Update the weights once; see `attacked` and `neo_kd_loss`.

    Clean and adversarial images pass in training mode, one after the other,
    so batch norm normalises each with its own statistics and moves the
    running ones twice.

    Returns:
        Dictionary of numbers: `loss`, and the means of `clean_loss`,
        `adversarial_loss`, `nkd_loss`, `eokd_loss`, `clean_accuracy` and
        `adversarial_accuracy`, over all exits and, as `exit_1_clean_loss`
        and so on, of each.
    """
    model.train()
    logits = {"clean": model(x), "adversarial": model(x_adv)}
    loss, terms = neo_kd_loss(*logits.values(), y, supports, gamma=gamma)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    quantities = {f"{name}_loss": each for name, each in terms.items()}
    for name, values in logits.items():
        correct = torch.stack(values, dim=1).argmax(dim=2) == y[:, None]
        quantities[f"{name}_accuracy"] = correct.to(loss.dtype)
    logs = {"loss": loss.item()}
    for name, values in quantities.items():
        means = values.mean(dim=0)
        logs[name] = means.mean().item()
        for i, mean in enumerate(means.tolist(), start=1):
            logs[f"exit_{i}_{name}"] = mean
    return logs


# Weights under the names and in the layout of Keras. A module's path with
# underscores is the layer's name, without a closing `_logits`:
# `exit_1.dense_1.weight` is `exit_1_dense_1/kernel`. Dense layers that follow
# images must flatten them channels last.

_NAMES = {"weight": "kernel", "bias": "bias"}
_NORM_NAMES = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def load(network, weights):
    """Copy weights, a dict from Keras' paths to arrays, into a network.

    Raises:
        ValueError: if a weight is missing or has another shape.
    """
    for path, tensor in _keras_weights(network):
        value, shape = weights.get(path), tuple(tensor.shape)
        if value is None or tuple(value.shape) != shape:
            found = "no such weight" if value is None else value.shape
            raise ValueError(
                f"The network needs a weight {path!r} of shape {shape}, "
                f"found {found}."
            )
        tensor.copy_(torch.as_tensor(value))


def dump(network):
    """Return the weights as a dict from Keras' paths to arrays."""
    return {
        path: tensor.clone().numpy() for path, tensor in _keras_weights(network)
    }


def _keras_weights(network):
    """Yield Keras' path of each weight, and a view with Keras' axes."""
    for path, layer in network.named_modules():
        is_norm = isinstance(layer, nn.BatchNorm2d)
        layer_name = path.replace(".", "_").removesuffix("_logits")
        for name, keras_name in (_NORM_NAMES if is_norm else _NAMES).items():
            tensor = getattr(layer, name, None)
            if isinstance(tensor, torch.Tensor):
                tensor = tensor.detach()
                axes = (2, 3, 1, 0) if tensor.ndim == 4 else (1, 0)
                if tensor.ndim > 1:
                    tensor = tensor.permute(axes)
                yield f"{layer_name}/{keras_name}", tensor
