"""Changes of an image at a query of the square attack, for each norm.

Both classes have `first(keys)`, the image an attempt starts from,
`drawn(keys, queries)`, a dict of what some queries draw, with an axis of
queries in front, and `propose(images, drawn)`, the image that one query tries.
`keys` are int32 `(batch,)` and fix all random choices, image by image. Many
queries draw at once because each by itself is much work in small pieces.
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
        clean: images `(batch, height, width, channels)`.
    """

    def __init__(self, epsilon, sides, clean):
        self.epsilon = epsilon
        self.clean = clean
        self.sides = ops.convert_to_tensor(sides, "int32")
        self.lowest = ops.maximum(clean - epsilon, 0.0)
        self.highest = ops.minimum(clean + epsilon, 1.0)

    def first(self, keys):
        """Return vertical stripes of random signs."""
        _, width, channels = self.clean.shape[1:]
        signs = _signs(randomness.example_uniform(keys, (1, width, channels)))
        return ops.clip(self.clean + self.epsilon * signs, 0.0, 1.0)

    def drawn(self, keys, queries):
        """Return rows and columns of squares, and what is added, by channel."""
        height, width, channels = self.clean.shape[1:]
        side = ops.expand_dims(ops.take(self.sides, queries), 1)
        uniform = _uniform(keys, queries, 2 + channels)
        rows = _inside(uniform[..., 0], side, height)
        columns = _inside(uniform[..., 1], side, width)
        return {
            "rows": ops.cast(rows[..., None, None], "float32"),
            "columns": ops.cast(columns[..., None, :, None], "float32"),
            "change": (
                2.0 * self.epsilon * _signs(uniform[..., None, None, 2:])
            ),
        }

    def propose(self, images, drawn):
        """Return images with one square changed, a sign per channel."""
        change = drawn["rows"] * (drawn["columns"] * drawn["change"])
        return ops.clip(images + change, self.lowest, self.highest)


class Windows:
    """Propose L2 changes: move the change of one window into another.

    A window's change is a bump beside its negative, which all add up to
    length epsilon. Arguments are as in `Squares`.
    """

    def __init__(self, epsilon, sides, clean):
        self.epsilon = epsilon
        self.clean = clean
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

    def first(self, keys):
        """Return images with bumps everywhere, five along the shorter side."""
        height, width, channels = self.clean.shape[1:]
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
        return self._move(ops.pad(change, [(0, 0), *margins, (0, 0)]))

    def drawn(self, keys, queries):
        """Return numbers in (0, 1), sides of windows, and sheets of bumps."""
        uniform = _uniform(keys, queries, 5 + self.clean.shape[-1])
        return {
            "uniform": uniform,
            "side": ops.take(self.sides, queries),
            "sheet": ops.take(self.which, queries),
        }

    def propose(self, images, drawn):
        """Return images with the change of two windows joined in one."""
        height, width, channels = self.clean.shape[1:]
        side, uniform = drawn["side"], drawn["uniform"]
        to = _window(uniform[:, 0], uniform[:, 1], side, height, width)
        out_of = _window(uniform[:, 2], uniform[:, 3], side, height, width)
        change = images - self.clean
        unused = ops.maximum(
            self.epsilon**2 - ops.square(example_norm(change)), 0.0
        )
        there = _channel_norm(change * ops.maximum(to, out_of))
        length = ops.sqrt(unused / channels + ops.square(there))
        signs = _signs(uniform[:, None, None, 5:])
        bump = self._bump(drawn) * to * signs
        kept = change * to
        new = bump + kept / (_channel_norm(kept) + _TINY)
        new = new / (_channel_norm(new) + _TINY) * length
        change = ops.where(to > 0, new, change * (1.0 - out_of))
        return self._move(change)

    def _bump(self, drawn):
        """Return bumps that are right within the window, one channel."""
        height, width = self.clean.shape[1:3]
        side, uniform = drawn["side"], drawn["uniform"]
        sheet = ops.take(self.sheets, drawn["sheet"], axis=0)
        row = ops.arange(height) - _corner(uniform[:, :1], side, height)
        column = ops.arange(width) - _corner(uniform[:, 1:2], side, width)
        row = ops.clip(row[:, :, None], 0, self.largest - 1)
        column = ops.clip(column[:, None, :], 0, self.largest - 1)
        turned = uniform[:, 4, None, None] < 0.5
        place = ops.where(
            turned, column * self.largest + row, row * self.largest + column
        )
        return ops.take(sheet, place)[..., None]

    def _move(self, change):
        """Scale the change to length epsilon."""
        change = change * (self.epsilon / (example_norm(change) + _TINY))
        return project(self.clean + change, self.clean, self.epsilon, "l2")


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


def _uniform(keys, queries, count):
    """Return numbers in (0, 1), `(queries, batch, count)`."""
    keys = randomness.bits(keys, ops.expand_dims(queries, 1))
    numbers = np.arange(count, dtype="int32")
    return randomness.uniform(ops.expand_dims(keys, -1), numbers)


def _inside(share, side, size):
    """Return which pixels of a row or column a window covers, the last axis."""
    corner = ops.expand_dims(_corner(share, side, size), -1)
    pixel = ops.arange(size, dtype="int32")
    end = corner + ops.expand_dims(side, -1)
    return ops.logical_and(pixel >= corner, pixel < end)


def _window(row_share, column_share, side, height, width):
    """Return ones in a square and zeros elsewhere, one channel."""
    rows = _inside(row_share, side, height)
    columns = _inside(column_share, side, width)
    window = ops.logical_and(rows[:, :, None], columns[:, None, :])
    return ops.cast(window[..., None], "float32")


def _channel_norm(change):
    return ops.sqrt(ops.sum(ops.square(change), axis=(1, 2), keepdims=True))


def _signs(uniform):
    return ops.where(uniform < 0.5, -1.0, 1.0)
