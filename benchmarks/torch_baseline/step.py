"""NEO-KD's loss (Eq. 4-7 of the paper) and one training step."""

import torch
from torch.nn import functional


def orthogonal_supports(y, num_exits, num_classes, generator=None):
    """Draw the classes that each exit learns in EOKD (Eq. 6).

    Every exit keeps the true class and floor((C - 1) / L) random others,
    disjoint between the exits of an example. Drawn anew for every element of
    `y`; for a table that all examples of an epoch share, pass
    `torch.arange(num_classes)` and index the result with the labels.

    Args:
        y: labels, (batch,), integers.
        num_exits: number of exits L.
        num_classes: number of classes C, more than L.
        generator: `torch.Generator`; `None` (default) for the global one.

    Returns:
        Boolean tensor, (batch, exits, classes).

    Raises:
        ValueError: if there are not enough classes.
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
        clean_logits: one tensor, (batch, classes), per exit.
        adversarial_logits: logits of the adversarial images, likewise.
        y: labels, (batch,), integers.
        supports: classes that EOKD keeps, boolean, (batch, exits, classes),
            true class included.
        alpha: weight of NKD. Defaults to 3.
        beta: weight of EOKD. Defaults to 1.
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
    """Return `-sum q log p` over classes, (batch, exits)."""
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
    """Update the weights once.

    Clean and adversarial images pass in training mode, one after the other,
    so batch norm normalises each with its own statistics and moves the
    running ones twice.

    Args:
        model: module that returns a list of logits.
        optimizer: for example `torch.optim.SGD` with momentum and weight
            decay.
        x: images, (batch, channels, height, width), in [0, 1].
        x_adv: adversarial images, see `attacks.attacked`.
        y: labels, (batch,), integers.
        supports, gamma: see `neo_kd_loss`.

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
