"""PGD on one exit or on their average, and the max-average attack.

All attacks run with the model in evaluation mode (batch norm and dropout are
fixed, running statistics stay as they are) and leave its mode and the
gradients of its weights as they found them. Every attack runs the whole
network, as triple-wins does.
"""

import contextlib

import torch
from torch.nn import functional


def attacked(model, x, y, epsilon, step_size, num_steps, generator=None):
    """Run the max-average attack from random starts.

    Args:
        model, x, y, epsilon, step_size, num_steps: see `pgd`.
        generator: `torch.Generator` of the random starts; `None` (default)
            for the global one.

    Returns:
        See `max_average`.
    """
    starts = [
        random_start(x, epsilon, generator) for _ in range(model.num_exits)
    ]
    return max_average(model, x, y, epsilon, step_size, num_steps, starts)


def random_start(x, epsilon, generator=None):
    """Draw a point of the L-infinity ball around each image.

    Args:
        x: images in [0, 1].
        epsilon: radius of the ball, in pixel units.
        generator: `torch.Generator`; `None` (default) for the global one.

    Returns:
        `x` plus noise uniform in (-epsilon, epsilon), clipped to [0, 1].
    """
    noise = torch.rand(x.shape, generator=generator, dtype=x.dtype)
    return _project(x + epsilon * (2 * noise.to(x.device) - 1), x, epsilon)


def pgd(model, x, y, exits, epsilon, step_size, num_steps, start):
    """Maximise the mean cross-entropy of some exits by signed gradient steps.

    Args:
        model: module that returns a list of logits.
        x: images, (batch, channels, height, width), in [0, 1].
        y: labels, (batch,), integers.
        exits: indices of the attacked exits; `None` for all.
        epsilon: radius of the L-infinity ball, in pixel units.
        step_size: length of a step, in pixel units.
        num_steps: number of steps.
        start: images to start from, shape of `x`; projected to the ball and
            to [0, 1] before the first gradient.

    Returns:
        The last iterate.
    """
    x_adv = _project(start.detach(), x, epsilon)
    with _evaluation_mode(model):
        for _ in range(num_steps):
            x_adv.requires_grad_(True)
            logits = model(x_adv)
            chosen = logits if exits is None else [logits[i] for i in exits]
            losses = [functional.cross_entropy(z, y) for z in chosen]
            (gradient,) = torch.autograd.grad(sum(losses) / len(losses), x_adv)
            x_adv = x_adv.detach() + step_size * gradient.sign()
            x_adv = _project(x_adv, x, epsilon)
    return x_adv


def max_average(model, x, y, epsilon, step_size, num_steps, starts):
    """Of the attacks on each single exit, keep the one that hurts most.

    Each image keeps the candidate with the largest sum of cross-entropies
    over all exits; the first of equal ones wins.

    Args:
        model, x, y, epsilon, step_size, num_steps: see `pgd`.
        starts: one tensor of images to start from per exit.

    Returns:
        Tuple of the images and of the index, (batch,), of the exit whose
        candidate was kept.
    """
    candidates, scores = [], []
    for i, start in enumerate(starts):
        x_adv = pgd(model, x, y, (i,), epsilon, step_size, num_steps, start)
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
