"""PGD on one exit or on their average, and the max-average attack.

All attacks run with the model in evaluation mode (batch norm and dropout are
fixed, running statistics stay as they are) and leave its mode and the
gradients of its weights as they found them.
"""

import contextlib

import torch
from torch.nn import functional


def random_start(x, epsilon, generator=None):
    """Draw a point of the L-infinity ball around each image.

    Args:
        x: Images in [0, 1].
        epsilon: Radius of the ball, in pixel units.
        generator: `torch.Generator`; `None` (default) for the global one.

    Returns:
        `x` plus noise uniform in (-epsilon, epsilon), clipped to [0, 1].
    """
    noise = torch.rand(x.shape, generator=generator, dtype=x.dtype)
    return _project(x + epsilon * (2 * noise.to(x.device) - 1), x, epsilon)


def pgd(
    model,
    x,
    y,
    exit_index,
    epsilon,
    step_size,
    num_steps,
    start,
    truncated=False,
):
    """Maximise the cross-entropy by signed gradient steps.

    Args:
        model: Module that returns a list of logits, see `models`.
        x: Images, (batch, channels, height, width), in [0, 1].
        y: Labels, (batch,), integers.
        exit_index: Exit to attack, from 0; `None` for the average of all.
        epsilon: Radius of the L-infinity ball, in pixel units.
        step_size: Length of a step, in pixel units.
        num_steps: Number of steps.
        start: Images to start from, shape of `x`; projected to the ball and
            to [0, 1] before the first gradient.
        truncated: Run only the part of the network that `exit_index` needs.
            Defaults to False: the whole network, as triple-wins does.

    Returns:
        The last iterate.
    """
    last_exit = exit_index if truncated else None
    x_adv = _project(start.detach(), x, epsilon)
    with _evaluation_mode(model):
        for _ in range(num_steps):
            x_adv.requires_grad_(True)
            logits = model(x_adv, last_exit)
            if exit_index is None:
                losses = [functional.cross_entropy(z, y) for z in logits]
                loss = sum(losses) / len(losses)
            else:
                loss = functional.cross_entropy(logits[exit_index], y)
            (gradient,) = torch.autograd.grad(loss, x_adv)
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
        model: Module that returns a list of logits, see `models`.
        x: Images, (batch, channels, height, width), in [0, 1].
        y: Labels, (batch,), integers.
        epsilon: Radius of the L-infinity ball, in pixel units.
        step_size: Length of a step, in pixel units.
        num_steps: Number of steps of each attack.
        starts: One tensor of images to start from per exit, see `pgd`.
        truncated: See `pgd`. Defaults to False.

    Returns:
        Tuple of the images and of the index, (batch,), of the exit whose
        candidate was kept.
    """
    candidates, scores = [], []
    for exit_index, start in enumerate(starts):
        x_adv = pgd(
            model,
            x,
            y,
            exit_index,
            epsilon,
            step_size,
            num_steps,
            start,
            truncated,
        )
        with _evaluation_mode(model), torch.no_grad():
            losses = [
                functional.cross_entropy(z, y, reduction="none")
                for z in model(x_adv)
            ]
        candidates.append(x_adv)
        scores.append(sum(losses))
    chosen = torch.stack(scores).argmax(dim=0)
    best = candidates[0]
    for exit_index, candidate in enumerate(candidates[1:], start=1):
        is_chosen = (chosen == exit_index).view(-1, 1, 1, 1)
        best = torch.where(is_chosen, candidate, best)
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
