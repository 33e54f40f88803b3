"""Folders of tensorflow-datasets are read, or refused.

written_by_0_1_0.zip holds what version 0.1.0 of this project prepared of the
small data sets of `formats.write_mnist(folder, 3, 2)` and
`folders.write_tiny_imagenet(folder, num_validation=4)`, the images of the
second in one colour each.
"""

import functools
import io
import json
import operator
import pathlib
import shutil
import zipfile

import numpy as np
import pytest

from keras_neokd import data
from keras_neokd.base import writing
from keras_neokd.data import arrays
from keras_neokd.data import tfds
from tests.data import folders
from tests.data import formats
from tests.isolation import hidden_packages
from tests.isolation import run_without

pytest.importorskip("tensorflow_datasets")
ARCHIVE = pathlib.Path(__file__).with_name("written_by_0_1_0.zip")


@pytest.fixture
def folder(tmp_path):
    with zipfile.ZipFile(ARCHIVE) as archive:
        archive.extractall(tmp_path / "data")
    return tmp_path / "data"


def load(folder):
    return data.load("tiny_imagenet", folder)


def version(folder):
    return folder / "tiny_imagenet" / "1.0.0"


def mnist(folder):
    return folder / "mnist" / "3.0.1"


REMEDY = "Delete the folder, and let tensorflow-datasets prepare it again"


def test_mnist_comes_back_pixel_by_pixel(folder, tmp_path):
    source = formats.write_mnist(tmp_path / "files", 3, 2)
    dataset = data.load("mnist", folder)
    assert (dataset.image_shape, dataset.num_classes) == ((28, 28, 1), 10)
    for split, part in ((dataset.train, "train"), (dataset.test, "t10k")):
        images, labels = source[part]
        # In tensorflow-datasets' own order.
        rows = [
            (images == each).all(axis=(1, 2, 3)).nonzero()[0].item()
            for each in split.images
        ]
        assert sorted(rows) == list(range(len(images)))
        np.testing.assert_array_equal(split.labels, labels[rows])


def test_tiny_imagenet_has_its_validation_part_as_test(folder):
    dataset = data.load("tiny_imagenet", folder, validation_size=20)
    assert (dataset.num_classes, dataset.image_shape) == (200, (64, 64, 3))
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [len(split) for split in parts] == [180, 20, 4]
    # The colours of the images and their classes, as they were written.
    classes = folders.tiny_classes()
    ranks = {name: rank for rank, name in enumerate(sorted(classes))}
    colours = {
        ranks[classes[7 * number % 200]]: np.random.default_rng(
            number
        ).integers(0, 256, 3)
        for number in range(4)
    }
    for image, label in zip(
        dataset.test.images[:], dataset.test.labels, strict=True
    ):
        assert np.abs(image - colours[label]).max() <= 3
    large = data.load("tiny_imagenet", folder, image_size=96)
    assert large.test.arrays(2)[0].shape == (2, 96, 96, 3)


def overwrite_half(folder):
    shard = next(folder.glob("*train*"))
    content = shard.read_bytes()
    half = len(content) // 2
    shard.write_bytes(bytes(half) + content[half:])
    (folder / "labels_of_keras_neokd.npz").unlink()


SHARD = r"tiny_imagenet-train\.array_record-00000-of-00001"
DAMAGE = {
    "half-prepared.*running: ": lambda folder: folder.rename(
        folder.with_name("incomplete.X_1.0.0")
    ),
    f"1 files are missing, {SHARD}.*": lambda folder: next(
        folder.glob("*train*")
    ).unlink(),
    "can open.*": lambda folder: (folder / "dataset_info.json").write_text("{"),
    "train.*cannot be read.*": overwrite_half,
}


@pytest.mark.parametrize("message", DAMAGE)
def test_a_damaged_or_unfinished_folder_is_refused(folder, message):
    DAMAGE[message](version(folder))
    with pytest.raises(ValueError, match=f"{message}{REMEDY}"):
        load(folder)


def test_the_newest_version_is_taken(folder):
    shutil.copytree(version(folder), version(folder).with_name("0.10.0"))
    assert tfds.find("tiny_imagenet", folder) == version(folder)
    shutil.copytree(version(folder), version(folder).with_name("1.10.0"))
    assert tfds.find("tiny_imagenet", folder).name == "1.10.0"


def claims(path, key, value):
    """Write another value into a description, at a path of keys."""
    content = json.loads(path.read_text())
    functools.reduce(operator.getitem, key[:-1], content)[key[-1]] = value
    path.write_text(json.dumps(content))


FEATURES = ("featuresDict", "features")
SHAPE = (*FEATURES, "image", "image", "shape", "dimensions")
LENGTHS, NAME = ("splits", 0, "shardLengths"), ("splits", 1, "name")
NUM_CLASSES = (*FEATURES, "label", "classLabel", "numClasses")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (("fileFormat",), "tfrecord", "tfrecord.*tfds convert_format"),
        (LENGTHS, [str(2**40)], "Example 3 of .*cannot be read"),
        (NAME, "other", "needs the parts train and test or validation"),
        (SHAPE, [str(2**20)] * 2 + ["1"], "needs 3,298,534,883,328 bytes"),
        (SHAPE, ["-1", "-1", "1"], r"one size.*\(None, None, 1\)"),
        (SHAPE, ["28", "29", "1"], "expected 28 x 29 pixels, received 28 x 28"),
        (NUM_CLASSES, str(2**40), "'mnist' has 1,099,511,627,776 class"),
    ],
)
def test_a_description_of_other_data_is_refused(folder, key, value, message):
    file = "features" if key[0] == FEATURES[0] else "dataset_info"
    claims(mnist(folder) / f"{file}.json", key, value)
    if key == NAME:
        test = next(mnist(folder).glob("*test*"))
        test.rename(test.with_name(test.name.replace("test", "other")))
    error = MemoryError if "bytes" in message else ValueError
    with pytest.raises(error, match=message):
        data.load("mnist", folder)


def test_a_file_of_labels_that_claims_too_much_is_written_anew(folder):
    path = mnist(folder) / "labels_of_keras_neokd.npz"
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<i8", "fortran_order": False, "shape": (2**40,)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.npy", head.getvalue())
    assert len(data.load("mnist", folder).train) == 3
    assert arrays.read_arrays(path)["train"].shape == (3,)


@pytest.mark.parametrize("damage", ["missing", "broken", "of fewer examples"])
def test_the_file_of_labels_is_only_a_shortcut(folder, damage):
    expected = load(folder)
    path = version(folder) / "labels_of_keras_neokd.npz"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "broken":
        path.write_bytes(content[:50])
    else:
        np.savez(path, train=np.zeros(3, int), validation=np.zeros(4, int))
    again = load(folder)
    np.testing.assert_array_equal(again.train.labels, expected.train.labels)
    np.testing.assert_array_equal(again.test.labels, expected.test.labels)
    with np.load(path) as file:
        assert len(file["train"]) == 200


def test_a_folder_that_cannot_be_written_is_read(folder, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError("read-only")

    expected = load(folder).train.labels
    (version(folder) / "labels_of_keras_neokd.npz").unlink()
    monkeypatch.setattr(writing.os, "replace", refuse)
    np.testing.assert_array_equal(load(folder).train.labels, expected)
    names = [path.name for path in version(folder).iterdir()]
    assert "labels_of_keras_neokd.npz" not in names


READ = """
from keras_neokd import data

dataset = data.load("tiny_imagenet", sys.argv[2], validation_size=10)
batches = data.TrainingBatches(dataset.train, 8, augment="random_part_flip")
images, labels = batches[0]
print(images.shape, images.dtype, sorted(dataset.train.labels)[:3])
images, labels = data.EvaluationBatches(dataset.test, 4)[0]
print(f"{images.sum():.3f}", labels.tolist())
loaded = {name.partition(".")[0] for name in sys.modules}
print("loaded", sorted(loaded & {"tensorflow", "jax", "torch"}))
"""


def test_every_backend_reads_the_same_without_the_others(folder):
    import keras

    hidden = set(hidden_packages()) - {"tensorflow_datasets"}
    result = run_without(sorted(hidden), READ, str(folder))
    assert result.returncode == 0, result.stderr
    said = result.stdout.splitlines()
    assert said[0].startswith("(8, 64, 64, 3) float32")
    images, labels = load(folder).test.arrays()
    assert said[1] == f"{images.sum():.3f} {labels.tolist()}"
    assert said[2] == f"loaded {[keras.config.backend()]}"


def test_what_tensorflow_datasets_itself_prepared_is_read(tmp_path):
    """A data set that it registers under its own name, with its own writer."""
    library = pytest.importorskip("tensorflow_datasets")
    written = formats.write_mnist(tmp_path / "files", 12, 5)
    parts = {"train": written["train"], "test": written["t10k"]}

    class Mnist(library.builder_cls("mnist"), skip_registration=True):
        def _split_generators(self, manager):
            return {part: self._examples(part) for part in parts}

        def _examples(self, part):
            for number, (image, label) in enumerate(
                zip(*parts[part], strict=True)
            ):
                yield number, {"image": image, "label": label}

    Mnist.name, Mnist.pkg_dir_path = "mnist", None
    Mnist(data_dir=tmp_path).download_and_prepare(file_format="array_record")
    dataset = data.load("mnist", tmp_path)
    assert sorted(dataset.train.labels) == sorted(written["train"][1])
    images = written["t10k"][0]
    assert sorted(map(bytes, dataset.test.images)) == sorted(map(bytes, images))
    # Read for the labels, which are kept.
    assert len(list(tmp_path.glob("mnist/*/labels_of_keras_neokd.npz"))) == 1
