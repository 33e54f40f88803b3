"""Square attack (Andriushchenko et al. 2020): random search, no gradients.

Square(epsilon=8 / 255)
Square(epsilon=0.3, num_queries=1_000, objective=SingleExit(-1))
"""

import keras
import numpy as np
from keras import ops

from keras_neokd import checks
from keras_neokd import randomness
from keras_neokd.attacks import search
from keras_neokd.attacks.geometry import project
from keras_neokd.attacks.geometry import select
from keras_neokd.attacks.objective import AverageExits

_QUERIES_PER_STAGE = 100
# After so many queries (of 10,000) the squares shrink to half their area.
_HALVED_AFTER = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)


@keras.saving.register_keras_serializable("keras_neokd")
class Square(search.SearchAttack):
    """Change a random square of the image, and keep what helps.

    Starts from vertical stripes of random signs. Each query sets a square of
    the image to the upper or lower end of the ball, per channel, and is kept
    where the objective rises or the image is fooled. It sees logits only, so
    where it beats attacks that use gradients, these are masked.

    Differences from auto-attack's code: each image has its own squares,
    drawn from (seed, index of the image, query), so that results do not
    depend on the batch; L-infinity only. Its loss is the margin, averaged
    over exits.

    Args:
        epsilon: radius of the L-infinity ball, in pixel units.
        num_queries: queries of a run, >= 1. Defaults to 5,000.
        num_restarts: number of runs, >= 1. Defaults to 1.
        area: share of the image that the first squares cover (`p_init`), in
            (0, 1]. Defaults to 0.8.
        rescale_schedule: stretch the schedule of the squares' sizes to
            `num_queries`, as torchattacks does by default; else it is made
            for 10,000. Defaults to False, as in AutoAttack.
        objective: see `SearchAttack`. Defaults to
            `AverageExits(loss="margin")`.

    Raises:
        TypeError: if an argument has the wrong type.
        ValueError: if an argument is out of range.
    """

    def __init__(
        self,
        epsilon,
        num_queries=5_000,
        num_restarts=1,
        area=0.8,
        rescale_schedule=False,
        objective=None,
    ):
        if objective is None:
            objective = AverageExits(loss="margin")
        super().__init__(epsilon, "linf", objective, num_restarts)
        self.num_queries = checks.integer("num_queries", num_queries, minimum=1)
        self.area = checks.number("area", area, above=0, maximum=1)
        self.rescale_schedule = bool(rescale_schedule)

    def num_stages(self):
        """See `SearchAttack.num_stages`."""
        return -(-self.num_queries // _QUERIES_PER_STAGE)

    def start(self, problem, run):
        """See `SearchAttack.start`."""
        clean = problem.images
        keys = randomness.bits(problem.keys, run)
        _, width, channels = clean.shape[1:]
        signs = _signs(randomness.example_uniform(keys, (1, width, channels)))
        images = ops.clip(clean + self.epsilon * signs, 0.0, 1.0)
        logits = problem.logits(images)
        state = search.fresh_state(clean)
        return {
            **state,
            **search.keep_fooled(state, images, problem.fooled(logits)),
            "images": images,
            "best": problem.score(logits),
            "keys": keys,
        }

    def advance(self, problem, stage, state):
        """See `SearchAttack.advance`."""
        first = stage * _QUERIES_PER_STAGE
        last = ops.minimum(first + _QUERIES_PER_STAGE, self.num_queries)
        sides = ops.convert_to_tensor(
            self.sides(*problem.images.shape[1:3]), "int32"
        )

        def query(number, state):
            return self._query(problem, number, ops.take(sides, number), state)

        return ops.fori_loop(first, last, query, state)

    def sides(self, height, width):
        """Return the side of the square of each query, in pixels.

        Args:
            height: height of the images.
            width: width of the images.

        Returns:
            int32 array `(num_queries,)`.
        """
        query = np.arange(self.num_queries)
        if self.rescale_schedule:
            query = (query / self.num_queries * 10_000).astype("int64")
        halvings = (query[:, None] > np.array(_HALVED_AFTER)).sum(axis=1)
        area = self.area / 2.0**halvings
        sides = np.round(np.sqrt(area * height * width)).astype("int32")
        return np.clip(sides, 1, min(height, width))

    def _query(self, problem, number, side, state):
        clean = problem.images
        keys = randomness.bits(state["keys"], number)
        change = 2.0 * self.epsilon * _square(keys, side, clean.shape[1:])
        images = project(
            state["images"] + change, clean, self.epsilon, self.norm
        )
        logits = problem.logits(images)
        score, fooled = problem.score(logits), problem.fooled(logits)
        # What is fooled stays so: no later query can undo it.
        better = ops.logical_and(
            state["active"], ops.logical_or(score > state["best"], fooled)
        )
        first = ops.logical_and(state["active"], fooled)
        return {
            **state,
            **search.keep_fooled(state, images, first),
            "images": select(better, images, state["images"]),
            "best": ops.where(better, score, state["best"]),
        }


def _square(keys, side, shape):
    """Return one square of ones or minus ones per channel, else zeros."""
    height, width, channels = shape
    drawn = randomness.example_uniform(keys, (2 + channels,))

    def inside(share, size):
        # The last position is never drawn, as in auto-attack.
        corner = ops.cast(share * ops.cast(size - side, "float32"), "int32")
        pixel = ops.arange(size, dtype="int32")
        corner = ops.expand_dims(corner, 1)
        return ops.logical_and(pixel >= corner, pixel < corner + side)

    rows, columns = inside(drawn[:, 0], height), inside(drawn[:, 1], width)
    window = ops.logical_and(rows[:, :, None], columns[:, None, :])
    signs = _signs(drawn[:, None, None, 2:])
    return ops.cast(window[..., None], "float32") * signs


def _signs(uniform):
    return ops.where(uniform < 0.5, -1.0, 1.0)
