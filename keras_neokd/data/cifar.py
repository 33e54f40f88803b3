"""CIFAR-10 and CIFAR-100 from the distributed files (A. Krizhevsky, 2009).

Read is the binary version, as a folder or as the downloaded `.tar.gz`: records
of one label byte (CIFAR-100: coarse label, fine label) and 3,072 bytes, the
red, green and blue plane of an image, row by row.

The Python version is not read: it is pickled, and a pickle can run code.
"""

import dataclasses

import numpy as np

from keras_neokd.data import files
from keras_neokd.data.splits import Source

_PIXELS = 32 * 32 * 3


@dataclasses.dataclass(frozen=True)
class _Label:
    """One of the labels of an image; the last one is that of the class."""

    name: str
    num_classes: int
    names_file: str


@dataclasses.dataclass(frozen=True)
class _Facts:
    """What is known of a data set before its files are read."""

    title: str
    folder: str
    archive: str
    train: tuple
    test: str
    num_train: int
    num_test: int
    labels: tuple
    # Of the Python version: its folder, archive and first file.
    pickled: tuple

    @property
    def sizes(self):
        """Dictionary from the names of the files to their bytes."""
        record = len(self.labels) + _PIXELS
        size = self.num_train // len(self.train) * record
        return {
            **{name: size for name in self.train},
            self.test: self.num_test * record,
        }


_FACTS = {
    "cifar10": _Facts(
        title="CIFAR-10",
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test="test_batch.bin",
        num_train=50000,
        num_test=10000,
        labels=(_Label("label", 10, "batches.meta.txt"),),
        pickled=(
            "cifar-10-batches-py",
            "cifar-10-python.tar.gz",
            "data_batch_1",
        ),
    ),
    "cifar100": _Facts(
        title="CIFAR-100",
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        train=("train.bin",),
        test="test.bin",
        num_train=50000,
        num_test=10000,
        labels=(
            _Label("coarse_label", 20, "coarse_label_names.txt"),
            _Label("label", 100, "fine_label_names.txt"),
        ),
        pickled=("cifar-100-python", "cifar-100-python.tar.gz", "train"),
    ),
}


def read_cifar(name, folder):
    """Return CIFAR-10 or CIFAR-100 (fine labels) from local files.

    Args:
        name: "cifar10" or "cifar100".
        folder: `pathlib.Path` that holds the unpacked folder or the archive
            of the binary version, or is one of these itself.

    Returns:
        `Source` with uint8 images `(n, 32, 32, 3)`, in the order of the
        files.

    Raises:
        FileNotFoundError: names every path that was looked for.
        ValueError: names the file that is damaged, or the Python version
            where there is no other.
        MemoryError: says how much is needed.
    """
    (train, test), _ = read_all_labels(name, folder)
    return Source(
        train=(train[0], train[1]["label"]),
        test=(test[0], test[1]["label"]),
        num_classes=_FACTS[name].labels[-1].num_classes,
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
        FileNotFoundError, ValueError, MemoryError: as `read_cifar`.
    """
    facts = _FACTS[name]
    place, contents = _read(name, folder, facts)
    parts = [
        _decode({place / file: contents[file] for file in part}, facts)
        for part in (facts.train, [facts.test])
    ]
    return parts, _class_names(contents, facts)


def _read(name, folder, facts):
    """Return where the files are, and their contents by name."""
    sizes = facts.sizes
    looked_for = []
    for base in (folder / facts.folder, folder):
        missing = [base / f for f in sizes if not (base / f).is_file()]
        if not missing:
            return base, _read_folder(base, sizes, facts)
        looked_for.extend(missing)
    is_archive = folder.name == facts.archive
    archive = folder if is_archive else folder / facts.archive
    if archive.is_file():
        inside = f"{facts.folder}/"
        contents = files.read_archive(
            archive,
            {inside + file: size for file, size in sizes.items()},
            [inside + label.names_file for label in facts.labels],
        )
        return archive / facts.folder, {
            key.removeprefix(inside): contents[key] for key in contents
        }
    _check_not_pickled(folder, facts)
    raise files.not_found(name, [*looked_for, archive])


def _read_folder(folder, sizes, facts):
    contents = {}
    for name, size in sizes.items():
        with files.opened(folder / name) as file:
            contents[name] = files.read_exactly(folder / name, file, size)
    for label in facts.labels:
        path = folder / label.names_file
        if path.is_file():
            contents[path.name] = files.read_bytes(path)
    return contents


def _check_not_pickled(folder, facts):
    """Raise if what is there is the Python version."""
    places = [folder / name for name in facts.pickled]
    if folder.name in facts.pickled:
        places.append(folder)
    found = [place for place in places if place.exists()]
    if found:
        raise ValueError(
            f"{found[0]} is of {facts.title}'s Python version, which is not "
            "read: it is pickled, and a pickle can run code of whoever wrote "
            f'it. Download the "{facts.title} binary version" from '
            "https://www.cs.toronto.edu/~kriz/cifar.html and put its "
            f"{facts.archive} in place of this one."
        )


def _class_names(contents, facts):
    """Return the names of classes, of those labels that have all of them."""
    found = {}
    for label in facts.labels:
        text = contents.get(label.names_file, b"").decode("utf-8", "replace")
        names = [line.strip() for line in text.splitlines() if line.strip()]
        if len(names) == label.num_classes:
            found[label.name] = names
    return found


def _decode(contents, facts):
    """Return images and a dict of labels from the contents of files."""
    columns = len(facts.labels)
    records = []
    for file, content in contents.items():
        rows = np.frombuffer(content, "uint8").reshape(-1, columns + _PIXELS)
        for label, column in zip(facts.labels, rows.T, strict=False):
            if column.max() >= label.num_classes:
                raise ValueError(
                    f"{file} is damaged: expected labels from 0 to "
                    f"{label.num_classes - 1}, received {column.min()} to "
                    f"{column.max()}. Download it again."
                )
        records.append(rows)
    records = np.concatenate(records)
    planes = records[:, columns:].reshape(-1, 3, 32, 32)
    names = [label.name for label in facts.labels]
    labels = dict(zip(names, records[:, :columns].T.copy(), strict=True))
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels
