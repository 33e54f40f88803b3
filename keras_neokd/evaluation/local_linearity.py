"""Measure local linearity: how far the loss is from its tangent plane.

    result = local_linearity(model, images, labels, epsilon=8 / 255)
    result.mean()              # nats, one number per exit

A loss that is linear around an image cannot hide a stronger attack than its
gradient shows; a large value says that gradients mislead (gradient masking).
A diagnostic in the code of KDIGA's authors (Shao et al. 2021), after Qin et al.
2019 ("Adversarial Robustness through Local Linearization").
"""

import dataclasses

import numpy as np
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd import losses
from keras_neokd.attacks.geometry import project
from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.typing import Array
from keras_neokd.base.typing import Row
from keras_neokd.evaluation import batches
from keras_neokd.evaluation.protocol import diagnostic
from keras_neokd.evaluation.result import Result
from keras_neokd.evaluation.result import table
from keras_neokd.network.multi_exit import MultiExitModel


@dataclasses.dataclass(frozen=True)
class LocalLinearityResult(Result):
    """Deviations of the loss of each exit from linear, on each image.

    Attributes:
        exit_names: names of the exits in depth order.
        epsilon: radius of the ball, in pixel units.
        deviations: float32 `(examples, exits)`, in nats, >= 0; 0 where the
            loss does not rise above its tangent plane.
    """

    columns = {"exit": "text", "deviation_from_linear": "number?"}
    spread = ("deviation_from_linear",)

    exit_names: tuple[str, ...]
    epsilon: float
    deviations: np.ndarray

    def mean(self) -> Array:
        """Return the mean over the images, `(exits,)`, in nats."""
        return self.deviations.mean(axis=0, dtype="float64")

    def rows(self) -> list[Row]:
        """Return a row per exit, with the mean over the images."""
        return table(exit=self.exit_names, deviation_from_linear=self.mean())


def _check(model, epsilon, step_size, num_steps):
    del model
    attacks.Attack(epsilon)  # Which checks it.
    checks.pixel_change("step_size", step_size, above=0)
    checks.integer("num_steps", num_steps, minimum=1)


@diagnostic("local_linearity", LocalLinearityResult, _check)
def local_linearity(
    model: MultiExitModel,
    images: Array,
    labels: Array,
    epsilon: float,
    step_size: float = 0.1,
    num_steps: int = 50,
    batch_size: int = 256,
    seed: int = 0,
    verbose: int = 0,
) -> LocalLinearityResult:
    """Return a `LocalLinearityResult`: how far each loss is from linear.

    That is the largest value found of `l(x + d) - l(x) - d . grad l(x)` over
    all `d` with `|d| <= epsilon` in every pixel and `x + d` in [0, 1], where
    `l` is the cross-entropy of one exit. The search is the one of KDIGA's
    authors: steps of fixed length along the sign of the gradient, each followed
    by a projection. Three details are a choice of this library. At `d = 0` the
    gradient of the measure is 0 and a search would stand still, so it starts
    at a random point, uniform among the allowed ones (PGD's start is clipped
    instead, which leaves half of the black pixels at `d = 0`). The largest
    value on the way counts, not the last one, because steps longer than the
    ball jump between its corners. And `d = 0` is in the ball, so no value is
    negative.

    The sign of the difference is kept, unlike in Qin et al., who take its
    absolute value: only a loss above its tangent plane is worse than the
    gradient says.

    Args:
        model, images, labels, batch_size, verbose: as for `anytime`.
        epsilon: radius of the L-infinity ball, from 0 to 1; with 0 every
            deviation is exactly 0. KDIGA's authors use 4/255 and 8/255 for
            CIFAR-10.
        step_size: length of a step, in pixel units, > 0. Defaults to 0.1.
        num_steps: number of steps, >= 1. Defaults to 50.
        seed: integer from 0 to 2**31 - 1; image `i` starts at the random
            point of (seed, i), whatever the batch size. Defaults to 0.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if an argument or the data is not as described, or the
            model returns NaN or infinite logits.
    """
    _check(model, epsilon, step_size, num_steps)
    images, labels = batches.check(model, images, labels, batch_size)
    search = float(epsilon), float(step_size), num_steps
    seed = np.array(randomness.check_seed(seed), "int32")
    shape = batches.shape(images, batch_size)
    step = model.programs.kept(_compiled_step, search, shape=shape)
    outputs = batches.over_examples(
        lambda *batch: step(*batch, seed), images, labels, batch_size, verbose
    )
    batches.check_finite(model, outputs["losses"], "losses")
    batches.check_finite(model, outputs["deviations"], "losses nearby")
    return LocalLinearityResult(
        model.exit_names, float(epsilon), outputs["deviations"]
    )


def _compiled_step(model, search):
    predict = model.exit_logits()

    def step(images, labels, index, seed):
        images = ops.convert_to_tensor(images)
        labels = ops.convert_to_tensor(labels)
        keys = randomness.bits(ops.convert_to_tensor(seed), index)
        found = [
            _search_exit(predict, exit, images, labels, search, keys)
            for exit in range(model.num_exits)
        ]
        return {
            "losses": ops.stack([each[0] for each in found], axis=1),
            "deviations": ops.stack([each[1] for each in found], axis=1),
        }

    return backend.compile_per_example(step, model.variables)


def _search_exit(predict, exit, images, labels, search, keys):
    """Return loss and largest deviation of one exit, `(batch,)` each.

    Steps may be far longer than the ball, of which `attacks.PGD` warns.
    """
    epsilon, step_size, num_steps = search

    def loss(points):
        return losses.cross_entropy(predict(points, (exit,))[0], labels)

    value, slope = backend.value_and_input_gradient(loss, images)
    lowest = ops.zeros_like(value)
    if epsilon == 0:  # Rounding could make it a little more than 0.
        return value, lowest

    def deviation(points):
        rise = (points - images) * slope
        axes = tuple(range(1, len(images.shape)))
        return loss(points) - value - ops.sum(rise, axis=axes)

    def step(_, state):
        points, largest = state
        found, gradient = backend.value_and_input_gradient(deviation, points)
        points = points + step_size * ops.sign(gradient)
        points = project(points, images, epsilon, "linf")
        return points, ops.maximum(largest, found)

    unit = randomness.example_uniform(
        randomness.bits(keys, exit), tuple(images.shape[1:])
    )
    low = ops.maximum(images - epsilon, 0.0)
    high = ops.minimum(images + epsilon, 1.0)
    start = low + unit * (high - low)
    points, largest = ops.fori_loop(0, num_steps, step, (start, lowest))
    return value, ops.maximum(largest, deviation(points))
