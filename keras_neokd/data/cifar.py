"""CIFAR-10 and CIFAR-100 from the distributed files (A. Krizhevsky, 2009).

The binary version is read, as a folder or as the downloaded `.tar.gz`: records
of one label byte (CIFAR-100: coarse label, fine label) and 3,072 bytes, the
red, green and blue plane of an image, row by row.

The Python version is refused: it is pickled, and a pickle can run code.
"""

import dataclasses

import numpy as np

from keras_neokd.data import files
from keras_neokd.data.splits import Source

_PIXELS = 32 * 32 * 3


@dataclasses.dataclass(frozen=True)
class _Version:
    """Files of a data set, and what they must hold.

    Attributes:
        title: its name in messages.
        folder: name of the folder in the archive.
        archive: name of the archive.
        train: names of the files of training images, equally large.
        test: name of the file of test images.
        num_train: number of training images.
        num_test: number of test images.
        classes: number of classes of each label byte; the last one counts.
        pickled: folder, archive and first file of the Python version.
    """

    title: str
    folder: str
    archive: str
    train: tuple
    test: str
    num_train: int
    num_test: int
    classes: tuple
    pickled: tuple

    @property
    def sizes(self):
        """Dictionary from the names of the files to their bytes."""
        record = len(self.classes) + _PIXELS
        size = self.num_train // len(self.train) * record
        return {
            **dict.fromkeys(self.train, size),
            self.test: self.num_test * record,
        }


_VERSIONS = {
    "cifar10": _Version(
        title="CIFAR-10",
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        train=tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
        test="test_batch.bin",
        num_train=50000,
        num_test=10000,
        classes=(10,),
        pickled=(
            "cifar-10-batches-py",
            "cifar-10-python.tar.gz",
            "data_batch_1",
        ),
    ),
    "cifar100": _Version(
        title="CIFAR-100",
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        train=("train.bin",),
        test="test.bin",
        num_train=50000,
        num_test=10000,
        classes=(20, 100),
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
    version = _VERSIONS[name]
    place, contents = _read(name, folder, version)
    train, test = (
        _decode({place / file: contents[file] for file in part}, version)
        for part in (version.train, [version.test])
    )
    return Source(train, test, num_classes=version.classes[-1])


def _read(name, folder, version):
    """Return the folder of the files, and their contents by name."""
    sizes = version.sizes
    found, missing = files.search(
        [folder / version.folder, folder], [(file,) for file in sizes]
    )
    if found:
        return found[0].parent, {
            path.name: _read_file(path, sizes[path.name]) for path in found
        }
    is_archive = folder.name == version.archive
    archive = folder if is_archive else folder / version.archive
    if archive.is_file():
        place = archive / version.folder
        members = {f"{version.folder}/{file}": file for file in sizes}
        contents = files.read_archive(
            archive, {member: sizes[file] for member, file in members.items()}
        )
        return place, {members[key]: each for key, each in contents.items()}
    _check_not_pickled(folder, version)
    raise files.not_found(name, [*missing, archive])


def _read_file(path, size):
    with files.opened(path) as file:
        return files.read_exactly(path, file, size)


def _check_not_pickled(folder, version):
    """Raise if what is there is the Python version."""
    places = [folder / name for name in version.pickled]
    if folder.name in version.pickled:
        places.append(folder)
    found = [place for place in places if place.exists()]
    if found:
        raise ValueError(
            f"{found[0]} is of {version.title}'s Python version, which is not "
            "read: it is pickled, and a pickle can run code of whoever wrote "
            f'it. Download the "{version.title} binary version" from '
            "https://www.cs.toronto.edu/~kriz/cifar.html and put its "
            f"{version.archive} in place of this one."
        )


def _decode(contents, version):
    """Return images and labels from the contents of files by their paths."""
    columns = len(version.classes)
    parts = []
    for path, content in contents.items():
        rows = np.frombuffer(content, "uint8").reshape(-1, columns + _PIXELS)
        for num_classes, labels in zip(version.classes, rows.T, strict=False):
            if labels.max() >= num_classes:
                raise ValueError(
                    f"{path} is damaged: expected labels from 0 to "
                    f"{num_classes - 1}, received {labels.min()} to "
                    f"{labels.max()}. Download it again."
                )
        parts.append(rows)
    rows = np.concatenate(parts)
    planes = rows[:, columns:].reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return images, rows[:, columns - 1].copy()
