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
        adversarial, images: tensors `(batch, ...)`; images are in [0, 1].
        epsilon: radius of the ball; `None` is no ball.
        norm: `"linf"` or `"l2"`.
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
    """Return the norm of each example, shaped to broadcast against `x`."""
    if norm == "linf":
        return ops.max(ops.abs(x), axis=_pixels(x), keepdims=True)
    return ops.sqrt(ops.sum(ops.square(x), axis=_pixels(x), keepdims=True))


def example_sum(x):
    """Return the sum of each example, `(batch,)`."""
    return ops.sum(x, axis=_pixels(x))


def _pixels(x):
    return tuple(range(1, len(x.shape)))


def steepest_step(gradient, norm):
    """Return the step of length 1 along which a linear function rises most.

    That is the sign of the gradient (`"linf"`) or the gradient scaled to
    length 1 (`"l2"`). Where the gradient is 0, so is the step.
    """
    if norm == "linf":
        return ops.sign(gradient)
    # Two divisions: the square of a tiny gradient is zero in float32.
    gradient = gradient / ops.maximum(example_norm(gradient, "linf"), 1e-37)
    # Now the norm is at least 1, or the gradient is zero and stays so.
    return gradient / ops.maximum(example_norm(gradient), 1.0)


def random_direction(keys, shape, norm):
    """Draw one vector of length 1 per example, `(batch, *shape)`.

    `"linf"` scales uniform numbers from (-1, 1), `"l2"` normal ones; the
    int32 `keys` come from `randomness.bits`.
    """
    if norm == "linf":
        noise = 2.0 * randomness.example_uniform(keys, shape) - 1.0
    else:
        noise = randomness.example_normal(keys, shape)
    return noise / example_norm(noise, norm)


def per_example(values, images):
    """Shape values `(batch,)` so that they broadcast against `images`."""
    return ops.reshape(values, (-1,) + (1,) * (len(images.shape) - 1))


def select(condition, chosen, other):
    """Return examples of `chosen` where the condition holds, else `other`."""
    return ops.where(per_example(condition, chosen), chosen, other)
