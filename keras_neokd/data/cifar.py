"""CIFAR-10 and CIFAR-100 from the distributed files (A. Krizhevsky, 2009).

Both come in two layouts, each as a folder or as the downloaded `.tar.gz`:

- binary: records of one label byte (CIFAR-100: coarse label, fine label) and
  3,072 bytes, the red, green and blue plane of an image, row by row;
- Python: a pickled dictionary with `data` `(n, 3072)` and lists of labels.

A pickle can run any code when it is loaded. The ones here are read with an
unpickler that knows arrays, numbers, strings, lists and dictionaries only.
"""

import dataclasses
import functools
import io
import pickle

import numpy as np

from keras_neokd.data import files
from keras_neokd.data.splits import Source

_PIXELS = 32 * 32 * 3
_CIFAR10_BATCHES = tuple(f"data_batch_{number}" for number in range(1, 6))


@dataclasses.dataclass(frozen=True)
class _Layout:
    """One way in which a data set is distributed."""

    folder: str
    archive: str
    train: tuple
    test: tuple
    class_names: tuple
    pickled: bool

    @property
    def names(self):
        return (*self.train, *self.test)


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What is known of a data set before its files are read."""

    num_classes: int
    num_train: int
    num_test: int
    labels: tuple
    layouts: tuple


@dataclasses.dataclass(frozen=True)
class _Label:
    """One of the labels of an image; the last one is that of the class."""

    name: str
    key: bytes
    num_classes: int
    # Where the names of its classes are: a text file, or in a pickle.
    names_file: str
    names_key: bytes


_FACTS = {
    "cifar10": _Facts(
        num_classes=10,
        num_train=50000,
        num_test=10000,
        labels=(
            _Label("label", b"labels", 10, "batches.meta.txt", b"label_names"),
        ),
        layouts=(
            _Layout(
                "cifar-10-batches-bin",
                "cifar-10-binary.tar.gz",
                tuple(f"{name}.bin" for name in _CIFAR10_BATCHES),
                ("test_batch.bin",),
                ("batches.meta.txt",),
                pickled=False,
            ),
            _Layout(
                "cifar-10-batches-py",
                "cifar-10-python.tar.gz",
                _CIFAR10_BATCHES,
                ("test_batch",),
                ("batches.meta",),
                pickled=True,
            ),
        ),
    ),
    "cifar100": _Facts(
        num_classes=100,
        num_train=50000,
        num_test=10000,
        labels=(
            _Label(
                "coarse_label",
                b"coarse_labels",
                20,
                "coarse_label_names.txt",
                b"coarse_label_names",
            ),
            _Label(
                "label",
                b"fine_labels",
                100,
                "fine_label_names.txt",
                b"fine_label_names",
            ),
        ),
        layouts=(
            _Layout(
                "cifar-100-binary",
                "cifar-100-binary.tar.gz",
                ("train.bin",),
                ("test.bin",),
                ("coarse_label_names.txt", "fine_label_names.txt"),
                pickled=False,
            ),
            _Layout(
                "cifar-100-python",
                "cifar-100-python.tar.gz",
                ("train",),
                ("test",),
                ("meta",),
                pickled=True,
            ),
        ),
    ),
}


def read_cifar(name, folder):
    """Return CIFAR-10 or CIFAR-100 (fine labels) from local files.

    Args:
        name: "cifar10" or "cifar100".
        folder: `pathlib.Path` that holds the unpacked folder or the archive
            of one of the layouts above, or is one of these itself.

    Returns:
        `Source` with uint8 images `(n, 32, 32, 3)`, in the order of the
        files.

    Raises:
        FileNotFoundError: names every path that was looked for.
        ValueError: names the file that is damaged.
    """
    (train, test), _ = read_all_labels(name, folder)
    return Source(
        train=(train[0], train[1]["label"]),
        test=(test[0], test[1]["label"]),
        num_classes=_FACTS[name].num_classes,
    )


def read_all_labels(name, folder):
    """Return what the files of CIFAR hold, coarse labels of CIFAR-100 too.

    Args:
        name: as in `read_cifar`.
        folder: as in `read_cifar`.

    Returns:
        Pair of parts and names. The parts are train and test, each a pair of
        images and a dict of labels `(n,)` by "label" and "coarse_label". The
        names are a dict of lists of the names of classes, empty where the
        files do not tell them.

    Raises:
        FileNotFoundError, ValueError: as `read_cifar`.
    """
    facts = _FACTS[name]
    layout, contents = _find(name, folder, facts)
    further = {
        path: contents.pop(path)
        for path in list(contents)
        if path.name not in layout.names
    }
    names = _class_names(further, layout, facts)
    return _decode(contents, layout, facts), names


def _class_names(contents, layout, facts):
    """Return the names of classes, of those labels that have all of them."""
    found = {}
    for file, content in contents.items():
        for label in facts.labels:
            if layout.pickled:
                read = functools.partial(_pickled_names, key=label.names_key)
                names = _unpickled(file, content, read)
            elif file.name == label.names_file:
                names = content.decode("utf-8").splitlines()
            else:
                continue
            names = [name.strip() for name in names if name.strip()]
            if len(names) == label.num_classes:
                found[label.name] = names
    return found


def _pickled_names(meta, key):
    return [name.decode("utf-8") for name in meta[key]]


def _find(name, folder, facts):
    """Return the layout that is there, and the contents of its files."""
    looked_for = []
    for layout in facts.layouts:
        for base in (folder / layout.folder, folder):
            paths = [base / file for file in layout.names]
            missing = [path for path in paths if not path.is_file()]
            if not missing:
                further = [base / file for file in layout.class_names]
                paths += [path for path in further if path.is_file()]
                return layout, {path: path.read_bytes() for path in paths}
            looked_for.extend(missing)
        is_archive = folder.name == layout.archive
        archive = folder if is_archive else folder / layout.archive
        if archive.is_file():
            members = [f"{layout.folder}/{file}" for file in layout.names]
            further = [f"{layout.folder}/{f}" for f in layout.class_names]
            unpacked = files.read_archive(archive, members, further)
            return layout, {archive / key: unpacked[key] for key in unpacked}
        looked_for.append(archive)
    raise files.not_found(name, looked_for)


def _decode(contents, layout, facts):
    """Return the parts in (path, bytes) pairs, the training files first."""
    num_parts = len(layout.train)
    sizes = [facts.num_train // num_parts] * num_parts + [facts.num_test]
    read = _read_pickle if layout.pickled else _read_binary
    parts = []
    for (file, content), size in zip(contents.items(), sizes, strict=True):
        pixels, labels = read(file, content, size, facts)
        for label, column in zip(facts.labels, labels.T, strict=True):
            if column.min() < 0 or column.max() >= label.num_classes:
                raise ValueError(
                    f"{file} is damaged: expected labels from 0 to "
                    f"{label.num_classes - 1}, received {column.min()} to "
                    f"{column.max()}."
                )
        images = pixels.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)
        parts.append((np.ascontiguousarray(images), labels))
    images, labels = zip(*parts[:num_parts], strict=True)
    names = [label.name for label in facts.labels]
    return [
        (pixels, dict(zip(names, columns.T, strict=True)))
        for pixels, columns in (
            (np.concatenate(images), np.concatenate(labels)),
            parts[-1],
        )
    ]


def _read_binary(file, content, num_images, facts):
    columns = len(facts.labels)
    expected = num_images * (columns + _PIXELS)
    if len(content) != expected:
        raise files.wrong_size(file, expected, len(content))
    records = np.frombuffer(content, "uint8").reshape(num_images, -1)
    return records[:, columns:], records[:, :columns]


def _read_pickle(file, content, num_images, facts):
    keys = [label.key for label in facts.labels]
    pixels, labels = _unpickled(
        file,
        content,
        lambda batch: (
            batch[b"data"],
            np.array([batch[key] for key in keys], "int64").T,
        ),
    )
    expected = (num_images, _PIXELS)
    is_array = isinstance(pixels, np.ndarray) and pixels.dtype == np.uint8
    received = pixels.shape if is_array else type(pixels).__name__
    if received != expected or labels.shape != (num_images, len(keys)):
        raise ValueError(
            f"{file} is damaged: expected uint8 data of shape {expected} and "
            f"{num_images} labels, received {received} and labels of shape "
            f"{labels.shape[:1]}."
        )
    return pixels, labels


def _unpickled(file, content, read):
    """Return `read` of what a pickle holds; it cannot run code."""
    unpickler = _ArrayUnpickler(io.BytesIO(content), encoding="bytes")
    try:
        return read(unpickler.load())
    except _Refused as error:
        raise ValueError(
            f"{file} was not loaded: the pickle asks for {error}, which the "
            "files of CIFAR do not, and a pickle can run any code. Get the "
            "file from its publisher."
        ) from error
    except Exception as error:  # A damaged pickle can raise anything.
        raise ValueError(
            f"{file} is damaged or no file of CIFAR: reading its "
            f"{len(content):,} bytes as a pickle failed with "
            f"{type(error).__name__}: {error}. Download it again."
        ) from error


class _Refused(Exception):
    """A pickle asks for something that is not on the list."""


class _ArrayUnpickler(pickle.Unpickler):
    """Load arrays and plain Python values, refuse everything else."""

    # NumPy's function that arrays name in their pickles; its place differs
    # between versions of NumPy.
    _reconstruct = np.empty(0).__reduce__()[0]
    _allowed = {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): _reconstruct,
        ("numpy._core.multiarray", "_reconstruct"): _reconstruct,
    }

    def find_class(self, module, name):
        """Return an allowed object; called for each global of a pickle."""
        if (module, name) not in self._allowed:
            raise _Refused(f"{module}.{name}")
        return self._allowed[module, name]
