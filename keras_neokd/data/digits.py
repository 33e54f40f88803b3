"""Read the handwritten digits that come with scikit-learn.

1,797 real scans of 8 x 8 pixels with 17 grey levels (the test part of the UCI
set "Optical Recognition of Handwritten Digits", Alpaydin and Kaynak, 1998),
for the demonstration and many tests: they need no download. Images are
enlarged to 28 x 28, the input of `SmallCNN`.
"""

import numpy as np

from keras_neokd.data.splits import Source
from keras_neokd.data.splits import stratified_order

#: The L-infinity radius for attacks on `digits`, pixels in [0, 1]. Two
#: enlarged digits of different classes are at least 0.394 apart in their most
#: different pixel, so balls of radius 0.15 around them do not touch: a model
#: that is right everywhere in them is possible. (The same share of the
#: distance, three quarters, that the usual 0.3 is for MNIST.)
DIGITS_EPSILON = 0.15

_IMAGE_SIZE = 28
_NUM_TEST = 360
_TEST_SEED = 0


def read_digits():
    """Return the digits as a `Source` of 1,437 training and 360 test images.

    There is no official test part: here it is a fixed fifth with equal class
    shares, the same for every seed. Raises `ImportError` without scikit-learn.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError(
            "The data set 'digits' comes with scikit-learn, which is not "
            'installed. Run: pip install "keras-neokd[data]"'
        ) from error
    bunch = load_digits()
    images = resize_bilinear(bunch.images / 16.0, _IMAGE_SIZE)
    images = images.astype("float32")[..., np.newaxis]
    order = stratified_order(bunch.target, _TEST_SEED)
    train, test = order[:-_NUM_TEST], order[-_NUM_TEST:]
    return Source(
        train=(images[train], bunch.target[train]),
        test=(images[test], bunch.target[test]),
        num_classes=10,
    )


def resize_bilinear(images, size):
    """Enlarge square images `(n, side, side)` to `(n, size, size)` pixels.

    As `keras.ops.image.resize(..., interpolation="bilinear")`, in NumPy: every
    backend gets the same pixels.
    """
    side = images.shape[-1]
    centres = (np.arange(size) + 0.5) * side / size - 0.5
    centres = np.clip(centres, 0, side - 1)
    # The weight of an old pixel falls linearly to 0 at a distance of 1.
    distances = np.abs(centres[:, np.newaxis] - np.arange(side))
    weights = np.maximum(1 - distances, 0)
    return weights @ images @ weights.T
