"""Download the files of MNIST and CIFAR that their authors published."""

import contextlib
import pathlib
import socket

import keras

_MNIST = "https://storage.googleapis.com/cvdf-datasets/mnist/"
_CIFAR = "https://www.cs.toronto.edu/~kriz/"
# Files by their addresses, with the SHA-256 of each.
_FILES = {
    "mnist": {
        f"{_MNIST}train-images-idx3-ubyte.gz": (
            "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609"
        ),
        f"{_MNIST}train-labels-idx1-ubyte.gz": (
            "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c"
        ),
        f"{_MNIST}t10k-images-idx3-ubyte.gz": (
            "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6"
        ),
        f"{_MNIST}t10k-labels-idx1-ubyte.gz": (
            "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6"
        ),
    },
    "cifar10": {
        f"{_CIFAR}cifar-10-binary.tar.gz": (
            "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
        )
    },
    "cifar100": {
        f"{_CIFAR}cifar-100-binary.tar.gz": (
            "58a81ae192c23a4be8b1804d68e518ed807d710a4eb253b1f2a199162a40d8ec"
        )
    },
}
_SECONDS_TO_ANSWER = 10

#: Data sets that can be downloaded.
NAMES = tuple(_FILES)


def download(name):
    """Return the folder with the files of a data set, one of `NAMES`.

    They are downloaded on the first call, to `datasets/keras_neokd` in Keras'
    folder (`~/.keras`, or what KERAS_HOME names), and compared with their
    SHA-256 on every call. Raises `RuntimeError` if that fails, for example
    without a network.
    """
    for address, digest in _FILES[name].items():
        try:
            with _time_limit():
                path = keras.utils.get_file(
                    origin=address,
                    file_hash=digest,
                    hash_algorithm="sha256",
                    cache_subdir="datasets/keras_neokd",
                )
        # Keras raises `Exception` itself.
        except Exception as error:
            names = ", ".join(each.rpartition("/")[2] for each in _FILES[name])
            raise RuntimeError(
                f"No folder was given for the data set {name!r}, and {address} "
                f"could not be downloaded ({type(error).__name__}: {error}). "
                "Either try again with a network connection; or use local "
                f"files: put {names} into a folder, and point `data_dir` "
                "(--config.data.dir) or the environment variable "
                "KERAS_NEOKD_DATA to it."
            ) from error
    return pathlib.Path(path).parent


@contextlib.contextmanager
def _time_limit():
    """Give up on a server that does not answer, which sockets never do."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS_TO_ANSWER)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
