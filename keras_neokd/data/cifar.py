"""CIFAR-10 and CIFAR-100 from the distributed files (A. Krizhevsky, 2009).

The binary version is read: records of one label byte (CIFAR-100: coarse
label, fine label) and 3,072 bytes, the red, green and blue plane of an image,
row by row. The Python version is refused: it is pickled, and a pickle can run
code.
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
        num_images: number of images by names of files; the last one is the
            test.
        classes: number of classes of each label byte; the last one counts.
        pickled: folder, archive and first file of the Python version.
    """

    title: str
    folder: str
    archive: str
    num_images: dict[str, int]
    classes: tuple[int, ...]
    pickled: tuple[str, str, str]

    @property
    def sizes(self):
        """Bytes by names of files."""
        record = len(self.classes) + _PIXELS
        return {name: n * record for name, n in self.num_images.items()}


_BATCHES = [f"data_batch_{number}.bin" for number in range(1, 6)]
_VERSIONS = {
    "cifar10": _Version(
        title="CIFAR-10",
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        num_images=dict.fromkeys([*_BATCHES, "test_batch.bin"], 10_000),
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
        num_images={"train.bin": 50_000, "test.bin": 10_000},
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
    """
    version = _VERSIONS[name]
    decoded = [
        _decode(path, content, version.classes)
        for path, content in _read(name, folder, version).items()
    ]
    images, labels = zip(*decoded, strict=True)
    train = np.concatenate(images[:-1]), np.concatenate(labels[:-1])
    return Source(train, decoded[-1], num_classes=version.classes[-1])


def _read(name, folder, version):
    """Return the contents of the files by their paths."""
    sizes = version.sizes
    found, missing = files.search(
        [folder / version.folder, folder], [(file,) for file in sizes]
    )
    if found:
        return {
            path: files.read_whole(path, sizes[path.name]) for path in found
        }
    is_archive = folder.name == version.archive
    archive = folder if is_archive else folder / version.archive
    if archive.is_file():
        members = {f"{version.folder}/{file}": sizes[file] for file in sizes}
        contents = files.read_archive(archive, members)
        return {archive / member: contents[member] for member in members}
    _check_not_pickled(folder, version)
    raise files.not_found(name, [*missing, archive])


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


def _decode(path, content, classes):
    """Return the images and the last label of each record of a file."""
    columns = len(classes)
    rows = np.frombuffer(content, "uint8").reshape(-1, columns + _PIXELS)
    for num_classes, labels in zip(classes, rows.T, strict=False):
        if labels.max() >= num_classes:
            raise ValueError(
                f"{path} is damaged: expected labels from 0 to "
                f"{num_classes - 1}, received {labels.min()} to "
                f"{labels.max()}. Download it again."
            )
    planes = rows[:, columns:].reshape(-1, 3, 32, 32)
    images = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return images, rows[:, columns - 1].copy()
