"""Images that stay encoded (JPEG, PNG) until a batch of them is needed.

    images = EncodedImages(ImageFiles(paths), View(size=224, resize=256))
    images[:128]  # uint8 (128, 224, 224, 3)

ImageNet decoded would take 190 GB. Decoding and resizing run in threads, one
for each processor; Pillow leaves the interpreter free meanwhile. The pixels do
not depend on the threads.
"""

import collections
import concurrent.futures
import functools
import math
import os
from typing import Any

import numpy as np

from keras_neokd.base import checks
from keras_neokd.base import randomness
from keras_neokd.base.typing import Array
from keras_neokd.data.image_files import decode
from keras_neokd.data.image_files import pillow
from keras_neokd.data.image_files import read_image_file

# Ranges of random parts (Szegedy et al., "Going Deeper with Convolutions",
# 2015): the share of the image's area, and the ratio of width to height.
_AREAS = (0.08, 1.0)
_RATIOS = (3 / 4, 4 / 3)
_ATTEMPTS = 10
# The last words of random numbers, after those of `batches`.
_BOX, _MIRROR = 4, 5
# Longer images, relative to their shorter side, are cut before they are
# resized.
_LONGEST = 16
# Pillow's name of the channels, by their number.
_MODES = {1: "L", 3: "RGB"}
_THREADS = os.cpu_count() or 1


class View:
    """The part of an image that a model sees, and its size.

    Args:
        size: height and width of the result, in pixels, at least 1.
        resize: pixels that the shorter side is resized to before the centre
            is cut out, at least `size`; None (default) for `size`.
        channels: 3 (default) for colour, 1 for grey. Grey images become
            colour with three equal channels; colour becomes grey by its luma,
            0.299 red + 0.587 green + 0.114 blue.

    Raises:
        TypeError, ValueError: if an argument is not as described.
    """

    def __init__(self, size, resize=None, channels=3):
        self.size = checks.integer("image_size", size, minimum=1)
        resize = self.size if resize is None else resize
        self.resize = checks.integer("resize", resize, minimum=self.size)
        self.channels = checks.integer("channels", channels, minimum=1)
        self.mode = _MODES[checks.choice("channels", self.channels, _MODES)]

    def centre(self, image):
        """Return the centre of a Pillow image, as uint8 array."""
        scale = self.resize / min(image.size)
        width, height = (round(side * scale) for side in image.size)
        left, top = (width - self.size) // 2, (height - self.size) // 2
        right, bottom = left + self.size, top + self.size
        if max(width, height) > _LONGEST * self.resize:
            across, down = image.size
            box = (
                left * across / width,
                top * down / height,
                right * across / width,
                bottom * down / height,
            )
            return self.part(image, box, is_mirrored=False)
        if (width, height) != image.size:
            image = image.resize((width, height), _bilinear())
        return np.asarray(image.crop((left, top, right, bottom)))

    def part(self, image, box, is_mirrored):
        """Return a part of a Pillow image, as uint8 array."""
        image = image.resize((self.size, self.size), _bilinear(), box=box)
        pixels = np.asarray(image)
        return pixels[:, ::-1] if is_mirrored else pixels


class ImageFiles:
    """The contents of image files, a list of paths, by number."""

    def __init__(self, paths):
        self._paths = paths

    def __len__(self):
        return len(self._paths)

    def __getitem__(self, position):
        return read_image_file(self._paths[position])

    def name(self, position):
        """Return the name of an image in errors."""
        return str(self._paths[position])


class EncodedImages:
    """Decode the images that are indexed; otherwise like an array of them.

    An index, a slice or integers `(k,)`, returns the centres of images, uint8
    `(k, size, size, channels)`. An image that cannot be decoded raises a
    `ValueError` with its name.

    Args:
        contents: sequence of bytes with a method `name(position)`, such as
            `ImageFiles`.
        view: `View` of every image.
        positions: integers `(n,)`, the positions of these images in
            `contents`, in order. Defaults to all.
    """

    dtype = np.dtype("uint8")

    def __init__(
        self,
        contents: Any,
        view: View,
        positions: Array | None = None,
    ) -> None:
        self._contents = contents
        self._view = view
        if positions is None:
            positions = np.arange(len(contents))
        self._positions = positions

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """Shape of the decoded array, `(n, size, size, channels)`."""
        view = self._view
        return len(self), view.size, view.size, view.channels

    def subset(self, chosen: slice | Array) -> "EncodedImages":
        """Return some of the images, a slice or integers, not decoded."""
        positions = self._positions[chosen]
        return EncodedImages(self._contents, self._view, positions)

    def check(self) -> None:
        """Decode every image once, and raise `ValueError` for a damaged one."""

        def check_one(position):  # Returns nothing: images are not kept.
            self._decoded(position)

        for _ in in_order(check_one, self._positions):
            pass

    def __getitem__(self, chosen: int | slice | Array) -> Array:
        return self._stacked(
            lambda position: self._view.centre(self._decoded(position)),
            self._positions[chosen],
        )

    def random_parts(
        self, chosen: slice | Array, indices: Array, seed: int, epoch: int
    ) -> Array:
        """Return random parts of images, half of them mirrored.

        A part has 8 % to 100 % of the area and a ratio of 3/4 to 4/3 of
        width to height, drawn evenly on a logarithmic scale; where ten draws
        in a row leave the image, it is the largest central part of a
        possible ratio. It is resized to the size of the view. The change to
        an image is a function of (seed, epoch, index) alone.

        Args:
            chosen: slice or integers `(k,)`.
            indices: integers `(k,)`, the number of each example.
            seed: integer.
            epoch: integer, at least 0.

        Returns:
            uint8 `(k, size, size, channels)`.
        """
        words = np.asarray(indices)[:, np.newaxis, np.newaxis]
        attempts = np.arange(_ATTEMPTS)[:, np.newaxis]
        bits = randomness.host_bits(
            seed, epoch, words, attempts, np.arange(4), _BOX
        )
        draws = (bits + 0.5) / 2**32
        mirrored = randomness.host_bits(seed, epoch, indices, _MIRROR) % 2 == 1

        def part(task):
            position, drawn, is_mirrored = task
            image = self._decoded(position)
            box = random_box(*image.size, drawn)
            return self._view.part(image, box, is_mirrored)

        tasks = zip(self._positions[chosen], draws, mirrored, strict=True)
        return self._stacked(part, tasks)

    def _stacked(self, function, tasks):
        images = [*in_order(function, tasks)]
        # Pillow leaves the axis of a single channel out.
        return np.array(images, self.dtype).reshape(-1, *self.shape[1:])

    def _decoded(self, position):
        content = self._contents[position]
        name = self._contents.name(position)
        return decode(content, name, self._view.mode)


def random_box(width, height, draws):
    """Return left, top, right and bottom of a part of an image, in pixels.

    Args:
        width: of the image, in pixels.
        height: of the image, in pixels.
        draws: numbers in (0, 1), `(attempts, 4)`: area, ratio, place from
            left and from top.
    """
    lowest, highest = (math.log(ratio) for ratio in _RATIOS)
    for area, ratio, left, top in draws:
        pixels = width * height * (_AREAS[0] + area * (_AREAS[1] - _AREAS[0]))
        aspect = math.exp(lowest + ratio * (highest - lowest))
        across = round(math.sqrt(pixels * aspect))
        down = round(math.sqrt(pixels / aspect))
        if 0 < across <= width and 0 < down <= height:
            x = int(left * (width - across + 1))
            y = int(top * (height - down + 1))
            return x, y, x + across, y + down
    aspect = min(max(width / height, _RATIOS[0]), _RATIOS[1])
    across = min(width, round(height * aspect))
    down = min(height, round(width / aspect))
    x, y = (width - across) // 2, (height - down) // 2
    return x, y, x + across, y + down


def in_order(function, items):
    """Yield `function(item)` of every item of an iterable, in threads.

    Items are read no further ahead than the threads need.
    """
    pending = collections.deque()
    for item in items:
        pending.append(_pool().submit(function, item))
        if len(pending) > 4 * _THREADS:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _bilinear():
    return pillow().Resampling.BILINEAR


@functools.cache
def _pool():
    return concurrent.futures.ThreadPoolExecutor(_THREADS)
