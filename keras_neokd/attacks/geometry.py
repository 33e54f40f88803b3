"""Balls around images: projection, norms, steps, random points.

Distances are in pixel units of images in [0, 1]. Norms are `"linf"` (largest
change of a pixel) and `"l2"` (Euclidean length of the change).
"""

from keras import ops

from keras_neokd.base import randomness

NORMS = ("linf", "l2")


def project(adversarial, images, epsilon, norm):
    """Project onto the ball around `images`, then onto [0, 1].

    Args:
        adversarial: tensor `(batch, ...)`.
        images: tensor of the same shape, in [0, 1].
        epsilon: radius of the ball; `None` is no ball.
        norm: `"linf"` or `"l2"`.

    Returns:
        Tensor of the same shape.
    """
    if epsilon is None:
        return ops.clip(adversarial, 0.0, 1.0)
    if norm == "linf":
        adversarial = ops.clip(adversarial, images - epsilon, images + epsilon)
    else:
        difference = adversarial - images
        scale = epsilon / ops.maximum(example_norm(difference), 1e-12)
        adversarial = images + difference * ops.minimum(scale, 1.0)
    # Clipping moves each pixel towards the image, so it stays in the ball.
    return ops.clip(adversarial, 0.0, 1.0)


def example_norm(x, norm="l2"):
    """Return the norm of each example, shaped to broadcast against `x`.

    Args:
        x: tensor `(batch, ...)`.
        norm: `"l2"` (default) or `"linf"`.
    """
    axes = tuple(range(1, len(x.shape)))
    if norm == "linf":
        return ops.max(ops.abs(x), axis=axes, keepdims=True)
    return ops.sqrt(ops.sum(ops.square(x), axis=axes, keepdims=True))


def steepest_step(gradient, norm):
    """Return the step of length 1 along which a linear function rises most.

    Args:
        gradient: tensor `(batch, ...)`.
        norm: of the length: `"linf"` gives the sign of the gradient,
            `"l2"` the gradient scaled to length 1. Where the gradient is 0,
            so is the step.
    """
    if norm == "linf":
        return ops.sign(gradient)
    # Two divisions: the square of a tiny gradient is zero in float32.
    gradient = gradient / ops.maximum(example_norm(gradient, "linf"), 1e-37)
    # Now the norm is at least 1, or the gradient is zero and stays so.
    return gradient / ops.maximum(example_norm(gradient), 1.0)


def random_direction(keys, shape, norm):
    """Draw one vector of length 1 per example.

    Args:
        keys: int32 tensor `(batch,)`, from `randomness.bits`.
        shape: shape of one example.
        norm: of the length: `"linf"` scales uniform numbers from (-1, 1),
            `"l2"` normal ones.

    Returns:
        float32 tensor `(batch, *shape)`.
    """
    if norm == "linf":
        noise = 2.0 * randomness.example_uniform(keys, shape) - 1.0
    else:
        noise = randomness.example_normal(keys, shape)
    return noise / example_norm(noise, norm)


def per_example(values, images):
    """Shape values `(batch,)` so that they broadcast against `images`.

    Args:
        values: tensor `(batch,)`.
        images: tensor `(batch, ...)`.
    """
    return ops.reshape(values, (-1,) + (1,) * (len(images.shape) - 1))


def select(condition, chosen, other):
    """Choose between two tensors, example by example.

    Args:
        condition: booleans `(batch,)`.
        chosen: tensor `(batch, ...)`, taken where `condition` holds.
        other: tensor of the same shape.
    """
    return ops.where(per_example(condition, chosen), chosen, other)
