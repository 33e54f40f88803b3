"""Writes tiny data sets in the exact formats of the real ones."""

import gzip
import io
import struct
import tarfile

import numpy as np

CIFAR10_PARTS = [f"data_batch_{n}" for n in range(1, 6)] + ["test_batch"]


def write_idx(path, array):
    """An IDX file of unsigned bytes, gzipped if the name says so."""
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    content = header + array.astype("uint8").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(
        gzip.compress(content) if path.suffix == ".gz" else content
    )


def write_mnist(folder, num_train=30, num_test=10, suffix=""):
    """MNIST's four files; returns the arrays that went in."""
    random = np.random.default_rng(0)
    arrays = {}
    for part, size in (("train", num_train), ("t10k", num_test)):
        images = random.integers(0, 256, (size, 28, 28), "uint8")
        labels = np.arange(size, dtype="uint8") % 10
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images)
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", labels)
        arrays[part] = images[..., None], labels
    return arrays


def random_cifar(size, num_classes, seed):
    """Images (size, 32, 32, 3) and labels."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 256, (size, 32, 32, 3), "uint8")
    return images, random.integers(0, num_classes, size)


def cifar_binary(images, *label_columns):
    """Records of label bytes and the red, green and blue plane of an image."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    columns = [*map(np.uint8, label_columns), planes]
    return np.column_stack(columns).tobytes()


def write_folder(folder, contents):
    """Files of the given names and contents."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)


def write_archive(path, folder, contents):
    """The same as a .tar.gz with one folder in it."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"{folder}/{name}")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
