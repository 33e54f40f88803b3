"""Changes of an image at a query of the square attack, for each norm.

Both classes have `first(clean, keys)`, the image an attempt starts from, and
`propose(images, clean, keys, query)`, the image that a query tries. `keys`
are int32 `(batch,)` and fix all random choices, image by image.
"""

import numpy as np
from keras import ops

from keras_neokd.attacks.geometry import example_norm
from keras_neokd.attacks.geometry import project
from keras_neokd.base import randomness

_TINY = 1e-12


class Squares:
    """L-infinity: a square moves to the upper or lower end of the ball.

    Args:
        epsilon: radius of the ball.
        sides: side of the square of each query, integers `(queries,)`.
    """

    def __init__(self, epsilon, sides):
        self.epsilon = epsilon
        self.sides = ops.convert_to_tensor(sides, "int32")

    def first(self, clean, keys):
        """Return vertical stripes of random signs."""
        _, width, channels = clean.shape[1:]
        signs = _signs(randomness.example_uniform(keys, (1, width, channels)))
        return ops.clip(clean + self.epsilon * signs, 0.0, 1.0)

    def propose(self, images, clean, keys, query):
        """Return images with one square changed, a sign per channel."""
        height, width, channels = clean.shape[1:]
        side = ops.take(self.sides, query)
        drawn = randomness.example_uniform(keys, (2 + channels,))
        window = _window(drawn[:, 0], drawn[:, 1], side, height, width)
        change = 2.0 * self.epsilon * window * _signs(drawn[:, None, None, 2:])
        return project(images + change, clean, self.epsilon, "linf")


class Windows:
    """Propose L2 changes: move the change of one window into another.

    A window's change is a bump beside its negative, which all add up to
    length epsilon. Arguments are as in `Squares`.
    """

    def __init__(self, epsilon, sides):
        self.epsilon = epsilon
        self.sides = ops.convert_to_tensor(sides, "int32")
        known, which = np.unique(sides, return_inverse=True)
        self.largest = int(known[-1])
        # The bumps of all sides, each in the corner of a sheet.
        sheets = np.zeros((len(known), self.largest, self.largest))
        for sheet, side in zip(sheets, known, strict=True):
            sheet[:side, :side] = bumps(side)
        sheets = sheets.reshape(len(known), -1)
        self.sheets = ops.convert_to_tensor(sheets, "float32")
        self.which = ops.convert_to_tensor(which, "int32")

    def first(self, clean, keys):
        """Return images with bumps everywhere, five along the shorter side."""
        height, width, channels = clean.shape[1:]
        side = max(min(height, width) // 5, 1)
        rows, columns = height // side, width // side
        drawn = randomness.example_uniform(keys, (rows, columns, 1 + channels))
        drawn = ops.repeat(ops.repeat(drawn, side, axis=1), side, axis=2)
        upright = np.tile(bumps(side), (rows, columns))[..., None]
        lying = np.tile(bumps(side).T, (rows, columns))[..., None]
        turned = drawn[..., :1] < 0.5
        change = _signs(drawn[..., 1:]) * ops.where(
            turned, lying.astype("float32"), upright.astype("float32")
        )
        margins = [
            ((size - count * side) // 2, -(-(size - count * side) // 2))
            for size, count in ((height, rows), (width, columns))
        ]
        return self._move(clean, ops.pad(change, [(0, 0), *margins, (0, 0)]))

    def propose(self, images, clean, keys, query):
        """Return images with the change of two windows joined in one."""
        height, width, channels = clean.shape[1:]
        side = ops.take(self.sides, query)
        drawn = randomness.example_uniform(keys, (5 + channels,))
        to = _window(drawn[:, 0], drawn[:, 1], side, height, width)
        out_of = _window(drawn[:, 2], drawn[:, 3], side, height, width)
        change = images - clean
        unused = ops.maximum(
            self.epsilon**2 - ops.square(example_norm(change)), 0.0
        )
        there = _channel_norm(change * ops.maximum(to, out_of))
        length = ops.sqrt(unused / channels + ops.square(there))
        signs = _signs(drawn[:, None, None, 5:])
        bump = self._bump(drawn, query, height, width) * signs
        kept = change * to
        new = bump + kept / (_channel_norm(kept) + _TINY)
        new = new / (_channel_norm(new) + _TINY) * length
        change = ops.where(to > 0, new, change * (1.0 - out_of))
        return self._move(clean, change)

    def _bump(self, drawn, query, height, width):
        """Return the bumps of the window, `(batch, height, width, 1)`."""
        side = ops.take(self.sides, query)
        sheet = ops.take(self.sheets, ops.take(self.which, query), axis=0)
        row = ops.arange(height) - _corner(drawn[:, 0], side, height)[:, None]
        column = ops.arange(width) - _corner(drawn[:, 1], side, width)[:, None]
        row = ops.clip(row[:, :, None], 0, self.largest - 1)
        column = ops.clip(column[:, None, :], 0, self.largest - 1)
        turned = drawn[:, 4, None, None] < 0.5
        place = ops.where(
            turned, column * self.largest + row, row * self.largest + column
        )
        window = _window(drawn[:, 0], drawn[:, 1], side, height, width)
        return ops.take(sheet, place)[..., None] * window

    def _move(self, clean, change):
        """Scale the change to length epsilon."""
        change = change * (self.epsilon / (example_norm(change) + _TINY))
        return project(clean + change, clean, self.epsilon, "l2")


def bumps(side):
    """Return a bump above its negative, of length 1, `(side, side)`."""
    upper = side // 2
    both = np.concatenate([_bump(upper, side), -_bump(side - upper, side)])
    return both / np.linalg.norm(both)


def _bump(height, width):
    """Rectangles around a centre, each with a smaller weight."""
    total = np.zeros((height, width))
    row, column = height // 2, width // 2
    for number in range(max(row, column) + 1):
        top, left = row - number, column - number
        total[
            max(top, 0) : top + 2 * number + 1,
            max(left, 0) : left + 2 * number + 1,
        ] += 1 / (number + 1) ** 2
    return total / max(np.linalg.norm(total), _TINY)


def _corner(share, side, size):
    # The last position is never drawn, as in auto-attack.
    return ops.cast(share * ops.cast(size - side, "float32"), "int32")


def _window(row_share, column_share, side, height, width):
    """Return ones in a square and zeros elsewhere, one channel."""

    def inside(share, size):
        corner = ops.expand_dims(_corner(share, side, size), 1)
        pixel = ops.arange(size, dtype="int32")
        return ops.logical_and(pixel >= corner, pixel < corner + side)

    rows, columns = inside(row_share, height), inside(column_share, width)
    window = ops.logical_and(rows[:, :, None], columns[:, None, :])
    return ops.cast(window[..., None], "float32")


def _channel_norm(change):
    return ops.sqrt(ops.sum(ops.square(change), axis=(1, 2), keepdims=True))


def _signs(uniform):
    return ops.where(uniform < 0.5, -1.0, 1.0)
