"""Files that try to do harm to whoever loads them.

The harm is a marker: an empty file that must not be there afterwards.
"""

import base64
import functools
import json
import pathlib
import pickle
import stat
import tarfile
import zipfile

import h5py
import keras
import numpy as np

SECRET = np.arange(8, dtype="float32")


class Touch:
    """Makes the marker where it is unpickled without care."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return pathlib.Path.touch, (self.marker,)


def array_with_pickle(marker):
    """Return an array whose file holds a pickle."""
    array = np.empty((1,), object)
    array[0] = Touch(marker)
    return array


@functools.cache
def plain_model():
    """Return a small model of Keras' own layers, of which nothing is wrong."""
    return keras.Sequential(
        [
            keras.Input((2,), name="images"),
            keras.layers.Dense(2, name="first"),
            keras.layers.Dense(2, use_bias=False, name="second"),
        ]
    )


def lambda_of(marker):
    """Return a layer that makes the marker when it is called."""
    touch = f"__import__('pathlib').Path({str(marker)!r}).touch()"
    function = eval(f"lambda x: ({touch}, x)[1]")
    return keras.layers.Lambda(function, output_shape=(2,))


def with_config(path, change):
    """Write a `.keras` file whose description `change` has gone over.

    Args:
        path: file to write.
        change: function that gets the list of descriptions of layers (input,
            first, second) and changes it.
    """
    model = plain_model()
    model.save(path)
    members = _members(path)
    config = json.loads(members["config.json"])
    change(config["config"]["layers"])
    members["config.json"] = json.dumps(config).encode()
    _write_zip(path, members.items())


def with_member(path, name, content=b"", is_link=False):
    """Write a `.keras` file with one more member."""
    plain_model().save(path)
    extra = zipfile.ZipInfo(name)
    if is_link:
        extra.external_attr = (stat.S_IFLNK | 0o777) << 16
    # Keras unpacks the archive if it has more than three members.
    _write_zip(path, [*_members(path).items(), (extra, content)])


def with_weights(path, change):
    """Write a `.keras` file whose HDF5 file `change` has gone over.

    Args:
        path: file to write; `.weights.h5` for the HDF5 file alone.
        change: function that gets the group that holds the arrays of the
            layer `second`, from which the array "0" has been taken.
    """
    model = plain_model()
    weights = path.with_name("changed.weights.h5")
    model.save_weights(weights)
    with h5py.File(weights, "r+") as file:
        group = file["layers/dense_1/vars"]
        del group["0"]
        change(group)
    if path.suffix == ".h5":
        weights.rename(path)
        return
    model.save(path)
    members = _members(path)
    members["model.weights.h5"] = weights.read_bytes()
    _write_zip(path, members.items())


def secret_file(path):
    """Write a file of the user's that others want to read."""
    path.write_bytes(SECRET[:4].tobytes())
    with h5py.File(path.with_suffix(".h5"), "w") as file:
        file["secret"] = SECRET[:4].reshape(2, 2)
    return path


def external_link(secret):
    """Return a change for `with_weights`: a link to an array of a file."""

    def change(group):
        group["0"] = h5py.ExternalLink(secret.with_suffix(".h5"), "/secret")

    return change


def external_array(secret):
    """Return a change: an array whose bytes are those of a file."""

    def change(group):
        group.create_dataset("0", (2, 2), "float32", external=str(secret))

    return change


def virtual_array(secret):
    """Return a change: an array put together from those of a file."""

    def change(group):
        layout = h5py.VirtualLayout((2, 2), "float32")
        source = secret.with_suffix(".h5")
        layout[:] = h5py.VirtualSource(source, "secret", (2, 2))
        group.create_virtual_dataset("0", layout)

    return change


def soft_link(secret):
    """Return a change: a link to another place in the same file."""
    del secret

    def change(group):
        group["0"] = h5py.SoftLink("/layers/dense/vars/0")

    return change


def empty_array(group):
    """Change for `with_weights`: an array that claims more than it holds."""
    # Of chunks of which none is written, all values are 0.
    group.create_dataset("0", (2**20, 2**20), "float32", chunks=(1, 2**10))


def compressed_array(group):
    """Change for `with_weights`: an array that is compressed."""
    values = np.zeros((2, 100), "float32")
    group.create_dataset("0", data=values, compression="gzip")


def compress(path):
    """Write a zip archive anew, compressed."""
    members = _members(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def claiming(path, name, size):
    """Write a `.keras` file that claims a size of a member."""
    plain_model().save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.getinfo(name).file_size = size
        archive._didModify = True


def torch_module(marker):
    """Return the description of a layer that holds a pickle."""
    code = base64.b64encode(pickle.dumps(Touch(marker))).decode("ascii")
    return {
        "module": "keras.layers",
        "class_name": "TorchModuleWrapper",
        "config": {"name": "first", "module": code},
        "registered_name": None,
    }


def tar_with(path, contents, links):
    """Write a `.tar.gz` with files and with links.

    Args:
        path: archive to write.
        contents: dictionary from name to bytes.
        links: dictionary from name to (type of member, target).
    """
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            unpacked = path.with_name("content")
            unpacked.write_bytes(content)
            with open(unpacked, "rb") as file:
                archive.addfile(member, file)
            unpacked.unlink()
        for name, (kind, target) in links.items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            archive.addfile(member)


def _members(path):
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _write_zip(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
