"""NEO-KD's loss (Eq. 4-7 of the paper) and one training step."""

import torch
from torch.nn import functional

from apps.torch_baseline import attacks


def orthogonal_supports(y, num_exits, num_classes, generator=None):
    """Draw the classes that each exit learns in EOKD (Eq. 6).

    Every exit keeps the true class and floor((C - 1) / L) random others,
    disjoint between the exits of an example. Drawn anew for every element of
    `y`; for a table that all examples of an epoch share, pass
    `torch.arange(num_classes)` and index the result with the labels.

    Args:
        y: Labels, (batch,), integers.
        num_exits: Number of exits L.
        num_classes: Number of classes C, more than L.
        generator: `torch.Generator`; `None` (default) for the global one.

    Returns:
        Boolean tensor, (batch, exits, classes).

    Raises:
        ValueError: If there are not enough classes.
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
    kind="cross_entropy",
):
    """Compute NEO-KD's loss (Eq. 7).

    Args:
        clean_logits: One tensor, (batch, classes), per exit.
        adversarial_logits: The same for the adversarial images.
        y: Labels, (batch,), integers.
        supports: Classes that EOKD keeps, boolean, (batch, exits, classes),
            true class included.
        alpha: Weight of NKD. Defaults to 3.
        beta: Weight of EOKD. Defaults to 1.
        gamma: One weight of both per exit; `None` (default) for ones.
        kind: Distance to the teachers, `"cross_entropy"` (default) or
            `"kl"`.

    Returns:
        Tuple of the scalar loss and a dictionary of unweighted terms, each
        (batch, exits): `clean`, `adversarial`, `nkd`, `eokd`.
    """
    clean = torch.stack(tuple(clean_logits), dim=1)
    adversarial = torch.stack(tuple(adversarial_logits), dim=1)
    restricted = clean.detach().masked_fill(~supports, -torch.inf)
    terms = {
        "clean": _cross_entropy(clean, y),
        "adversarial": _cross_entropy(adversarial, y),
        "nkd": _distance(adversarial, _neighbor_mean(clean.detach()), kind),
        "eokd": _distance(adversarial, restricted.softmax(dim=-1), kind),
    }
    weights = [1.0] * clean.shape[1] if gamma is None else gamma
    weights = torch.as_tensor(weights, dtype=clean.dtype, device=clean.device)
    distillation = alpha * terms["nkd"] + beta * terms["eokd"]
    losses = terms["clean"] + terms["adversarial"] + weights * distillation
    return losses.sum(dim=1).mean(), terms


def _cross_entropy(logits, y):
    """Return the cross-entropy, (batch, exits)."""
    log_probabilities = logits.log_softmax(dim=-1)
    index = y.view(-1, 1, 1).expand(-1, logits.shape[1], 1)
    return -log_probabilities.gather(2, index).squeeze(2)


def _distance(logits, targets, kind):
    """Return soft cross-entropy or KL divergence, (batch, exits)."""
    distance = -(targets * logits.log_softmax(dim=-1)).sum(dim=-1)
    if kind == "kl":
        return distance + torch.xlogy(targets, targets).sum(dim=-1)
    if kind == "cross_entropy":
        return distance
    raise ValueError(
        f'`kind` must be "cross_entropy" or "kl", received {kind!r}.'
    )


def _neighbor_mean(logits):
    """Average the softmax of each exit with those beside it (Eq. 5)."""
    probabilities = logits.softmax(dim=-1)
    num_exits = logits.shape[1]
    means = [
        probabilities[:, max(0, i - 1) : i + 2].mean(dim=1)
        for i in range(num_exits)
    ]
    return torch.stack(means, dim=1)


def train_step(
    model,
    optimizer,
    x,
    y,
    supports,
    attack="max_average",
    attack_arguments=None,
    x_adv=None,
    loss_arguments=None,
    generator=None,
    memory_format=torch.contiguous_format,
):
    """Craft adversarial images, then update the weights once.

    Crafting is in evaluation mode. Clean and adversarial images then pass in
    training mode, one after the other, so batch norm normalises each with
    its own statistics and moves the running ones twice.

    Args:
        model: Module that returns a list of logits, see `models`; convert it
            to `memory_format` beforehand.
        optimizer: For example `torch.optim.SGD` with momentum and weight
            decay.
        x: Images, (batch, channels, height, width), in [0, 1].
        y: Labels, (batch,), integers.
        supports: See `neo_kd_loss`.
        attack: `"max_average"` (default) or `"average"`.
        attack_arguments: Dictionary with `epsilon`, `step_size`, `num_steps`
            and, if wanted, `truncated`; see `attacks.pgd`. Not needed where
            `x_adv` is given.
        x_adv: Adversarial images to use instead of crafting.
        loss_arguments: Dictionary of further arguments of `neo_kd_loss`.
        generator: `torch.Generator` of the random starts.
        memory_format: Layout of the images, `torch.contiguous_format`
            (default) or `torch.channels_last`.

    Returns:
        Dictionary of numbers: `loss`, and for every exit
        `exit_1_clean_loss`, `exit_1_adversarial_loss`, `exit_1_nkd_loss`,
        `exit_1_eokd_loss`, `exit_1_clean_accuracy`,
        `exit_1_adversarial_accuracy`; after max-average crafting also
        `exit_1_selected_share`.
    """
    x = x.contiguous(memory_format=memory_format)
    logs = {}
    if x_adv is None:
        x_adv, chosen = _craft(model, x, y, attack, attack_arguments, generator)
        if chosen is not None:
            for i in range(model.num_exits):
                share = (chosen == i).float().mean()
                logs[f"exit_{i + 1}_selected_share"] = share.item()
    x_adv = x_adv.contiguous(memory_format=memory_format)
    model.train()
    clean_logits = model(x)
    adversarial_logits = model(x_adv)
    loss, terms = neo_kd_loss(
        clean_logits, adversarial_logits, y, supports, **(loss_arguments or {})
    )
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    logs["loss"] = loss.item()
    for name, values in terms.items():
        for i, value in enumerate(values.mean(dim=0).tolist(), start=1):
            logs[f"exit_{i}_{name}_loss"] = value
    for name, logits in (
        ("clean", clean_logits),
        ("adversarial", adversarial_logits),
    ):
        for i, z in enumerate(logits, start=1):
            accuracy = (z.argmax(dim=1) == y).float().mean().item()
            logs[f"exit_{i}_{name}_accuracy"] = accuracy
    return logs


def _craft(model, x, y, attack, attack_arguments, generator):
    """Return adversarial images and the exits chosen, if any were."""
    epsilon = attack_arguments["epsilon"]
    if attack == "average":
        start = attacks.random_start(x, epsilon, generator)
        # The average needs the whole network, so nothing can be truncated.
        return attacks.pgd(
            model, x, y, None, start=start, **attack_arguments
        ), None
    if attack == "max_average":
        starts = [
            attacks.random_start(x, epsilon, generator)
            for _ in range(model.num_exits)
        ]
        return attacks.max_average(
            model, x, y, starts=starts, **attack_arguments
        )
    raise ValueError(
        f'`attack` must be "max_average" or "average", received {attack!r}.'
    )
