"""Read a data set of the user's own from one NumPy `.npz` file."""

import numpy as np

from keras_neokd.base import checks
from keras_neokd.data import files
from keras_neokd.data.arrays import array_names
from keras_neokd.data.arrays import read_arrays
from keras_neokd.data.splits import Source


def read_npz(path):
    """Return the data set in an `.npz` file as a `Source`.

    Its arrays are `x_train`, `x_test` and optionally `x_val`: images `(n,
    height, width[, channels])`, uint8 in [0, 255] or float in [0, 1]; and
    `y_train`, `y_test`, `y_val`: integer classes `(n,)` or `(n, 1)`, counted
    from 0. There are as many classes as the largest label says.

    Args:
        path: `pathlib.Path` of the file, or of a folder with one such file.
    """
    path = _find(path)
    try:
        received = array_names(path)
        has_val = "x_val" in received or "y_val" in received
        parts = ["train", "test", *(["val"] if has_val else [])]
        wanted = [f"{kind}_{part}" for part in parts for kind in "xy"]
        missing = [name for name in wanted if name not in received]
        arrays = {} if missing else read_arrays(path, wanted)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"{path} is not a readable .npz file of plain arrays ({error}); "
            f"received {path.stat().st_size:,} bytes. Write it with "
            "numpy.savez."
        ) from error
    if missing:
        raise ValueError(
            f"{path} needs the arrays x_train, y_train, x_test, y_test, and "
            f"x_val, y_val both or neither. Missing: {', '.join(missing)}; "
            f"received: {', '.join(received) or 'none'}."
        )
    pairs = {part: _check_pair(path, part, arrays) for part in parts}
    shapes = {part: images.shape[1:] for part, (images, _) in pairs.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(
            f"{path} needs images of one shape, received {shapes}."
        )
    return Source(
        train=pairs["train"],
        test=pairs["test"],
        num_classes=1 + max(int(y.max()) for _, y in pairs.values()),
        validation=pairs.get("val"),
    )


def _find(path):
    if path.is_file():
        return path
    if not path.is_dir():
        raise files.not_found("npz", [path])
    found = sorted(path.glob("*.npz"))
    if not found:
        raise files.not_found("npz", [path / "*.npz"])
    if len(found) > 1:
        raise ValueError(
            f"{path} needs to hold one .npz file, received {len(found)}: "
            f"{', '.join(file.name for file in found)}. Point `data_dir` to "
            "one of them."
        )
    return found[0]


def _check_pair(path, part, arrays):
    images, labels = arrays[f"x_{part}"], arrays[f"y_{part}"]
    if images.ndim == 3:
        images = images[..., np.newaxis]
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if images.ndim != 4 or labels.shape != images.shape[:1] or not images.size:
        raise ValueError(
            f"{path}: x_{part} needs the shape (n, height, width[, channels])"
            f" and y_{part} (n,), all >= 1, received "
            f"{arrays[f'x_{part}'].shape} and {arrays[f'y_{part}'].shape}."
        )
    if labels.dtype.kind not in "iu" or labels.min() < 0:
        raise ValueError(
            f"{path}: y_{part} needs integer classes from 0, received "
            f"{_described(labels)}."
        )
    if images.dtype == np.uint8:
        return images, labels
    # The comparison is false for NaN too.
    if images.dtype.kind == "f" and (images >= 0).all() and (images <= 1).all():
        with files.memory_for(f"{path}: x_{part} as float32", 4 * images.size):
            return images.astype("float32"), labels
    remedy = "Replace what is no number, and write one of these types."
    if images.dtype.kind == "f" and np.isfinite(images).all():
        remedy = checks.remedy_of_pixels(images.min(), images.max())
    raise ValueError(
        f"{path}: x_{part} needs uint8 in [0, 255] or float in [0, 1] without"
        f" NaN, received {_described(images)}. {remedy}"
    )


def _described(array):
    if array.dtype.kind not in "biuf":  # Not of a kind that has an order.
        return f"values of type {array.dtype}"
    return f"{array.dtype} from {array.min()} to {array.max()}"
