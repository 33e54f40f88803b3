"""Data sets in the folders of tensorflow-datasets are read, or refused."""

import io
import json
import shutil
import zipfile

import numpy as np
import pytest

from keras_neokd import data
from keras_neokd import writing
from keras_neokd.data import arrays
from keras_neokd.data import prepared
from tests.data import folders
from tests.data import formats
from tests.isolation import hidden_packages
from tests.isolation import run_without

pytest.importorskip("tensorflow_datasets")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A prepared Tiny-ImageNet."""
    source = tmp_path_factory.mktemp("tiny")
    folders.write_tiny_imagenet(source, num_validation=4)
    target = tmp_path_factory.mktemp("prepared")
    data.prepare("tiny_imagenet", source, target, tfrecord=False)
    return target


@pytest.fixture
def folder(whole, tmp_path):
    """A copy of it to damage."""
    shutil.copytree(whole, tmp_path / "data")
    return tmp_path / "data"


def load(folder):
    return data.load("tiny_imagenet", folder)


def version(folder):
    return folder / "tiny_imagenet" / "1.0.0"


PREPARE = r"apps\.prepare_data --name=tiny_imagenet --source=FOLDER"


def test_a_data_set_that_is_not_there_says_how_to_prepare_it(tmp_path):
    for name in ("tiny_imagenet", "imagenet2012"):
        with pytest.raises(
            FileNotFoundError,
            match=f"holds no prepared {name}.*apps.prepare_data --name={name}",
        ):
            data.load(name, tmp_path)


def test_without_a_folder_it_is_asked_for(monkeypatch):
    monkeypatch.delenv("KERAS_NEOKD_DATA", raising=False)
    with pytest.raises(ValueError, match="'imagenet2012' needs `data_dir`"):
        data.load("imagenet2012")


def test_an_interrupted_preparation_is_not_taken_for_a_data_set(folder):
    version(folder).rename(folder / "tiny_imagenet" / "incomplete.X_1.0.0")
    with pytest.raises(ValueError, match=f"half-prepared.*delete.*{PREPARE}"):
        load(folder)


def test_a_missing_shard_is_named(folder):
    shard = next(version(folder).glob("*train*"))
    shard.unlink()
    with pytest.raises(
        ValueError, match=f"1 files are missing, {shard.name}.*{PREPARE}"
    ):
        load(folder)


def test_a_damaged_description_is_refused(folder):
    (version(folder) / "dataset_info.json").write_text("{")
    with pytest.raises(ValueError, match=f"can open.*{PREPARE}"):
        load(folder)


def test_a_damaged_shard_is_refused(folder):
    shard = next(version(folder).glob("*train*"))
    content = bytearray(shard.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    shard.write_bytes(content)
    (version(folder) / "labels_of_keras_neokd.npz").unlink()
    with pytest.raises(ValueError, match="train.*cannot be read.*prepare"):
        load(folder)


def test_files_without_random_access_are_refused(folder):
    path = version(folder) / "dataset_info.json"
    info = json.loads(path.read_text())
    path.write_text(json.dumps({**info, "fileFormat": "tfrecord"}))
    with pytest.raises(
        ValueError, match=f"tfrecord.*tfds convert_format.*{PREPARE}"
    ):
        load(folder)


def test_the_newest_version_is_taken(folder):
    shutil.copytree(version(folder), version(folder).with_name("0.10.0"))
    found = prepared.find("tiny_imagenet", folder)
    assert found == version(folder)
    shutil.copytree(version(folder), version(folder).with_name("1.10.0"))
    assert prepared.find("tiny_imagenet", folder).name == "1.10.0"


def claims(path, key, value):
    """Write another value into a description, at a path of keys."""
    content = json.loads(path.read_text())
    inner = content
    for each in key[:-1]:
        inner = inner[each]
    inner[key[-1]] = value
    path.write_text(json.dumps(content))


@pytest.fixture
def small_mnist(tmp_path):
    """The folder of a version, with 3 training and 2 test images."""
    formats.write_mnist(tmp_path / "files", 3, 2)
    return data.prepare("mnist", tmp_path / "files", tmp_path, False)


def test_a_description_of_too_many_examples_is_refused(small_mnist):
    path = small_mnist / "dataset_info.json"
    claims(path, ("splits", 0, "shardLengths"), [str(2**40)])
    with pytest.raises(ValueError, match="Example 3 of .*cannot be read"):
        data.load("mnist", small_mnist.parents[1])


SHAPE = ("featuresDict", "features", "image", "image", "shape", "dimensions")


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        ((2**20, 2**20, 1), MemoryError, "needs 3,298,534,883,328 bytes"),
        ((-1, -1, 1), ValueError, r"one size.*\(None, None, 1\)"),
        ((28, 29, 1), ValueError, "expected 28 x 29 pixels, received 28 x 28"),
    ],
)
def test_a_description_of_other_images_is_refused(
    small_mnist, shape, error, message
):
    claims(small_mnist / "features.json", SHAPE, [str(each) for each in shape])
    with pytest.raises(error, match=message):
        data.load("mnist", small_mnist.parents[1])


def test_a_description_of_too_many_classes_is_refused(small_mnist):
    label = ("featuresDict", "features", "label", "classLabel", "numClasses")
    claims(small_mnist / "features.json", label, str(2**40))
    with pytest.raises(ValueError, match="'mnist' has 1,099,511,627,776 class"):
        data.load("mnist", small_mnist.parents[1])


def test_a_file_of_labels_that_claims_too_much_is_written_anew(small_mnist):
    path = small_mnist / "labels_of_keras_neokd.npz"
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "<i8", "fortran_order": False, "shape": (2**40,)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.npy", head.getvalue())
    assert len(data.load("mnist", small_mnist.parents[1]).train) == 3
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
from keras_neokd import writing

dataset = data.load("tiny_imagenet", sys.argv[2], validation_size=10)
batches = data.TrainingBatches(dataset.train, 8, augment="random_part_flip")
images, labels = batches[0]
print(images.shape, images.dtype, sorted(dataset.train.labels)[:3])
images, labels = data.EvaluationBatches(dataset.test, 4)[0]
print(f"{images.sum():.3f}", labels.tolist())
loaded = {name.partition(".")[0] for name in sys.modules}
print("loaded", sorted(loaded & {"tensorflow", "jax", "torch"}))
"""


def run_alone(program, *arguments):
    """Run with this backend only; tensorflow-datasets is there all the same."""
    hidden = set(hidden_packages()) - {"tensorflow_datasets"}
    result = run_without(sorted(hidden), program, *map(str, arguments))
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_backend_reads_the_same_without_the_others(whole):
    import keras

    said = run_alone(READ, whole).splitlines()
    assert said[0].startswith("(8, 64, 64, 3) float32")
    images, labels = load(whole).test.arrays()
    assert said[1] == f"{images.sum():.3f} {labels.tolist()}"
    assert said[2] == f"loaded {[keras.config.backend()]}"


PREPARE_ALONE = """
from keras_neokd import data
from keras_neokd import writing

print(data.prepare("tiny_imagenet", sys.argv[2], sys.argv[3]))
try:
    data.prepare("tiny_imagenet", sys.argv[2], sys.argv[3], tfrecord=True)
except ImportError as error:
    print(error)
"""


def test_preparing_needs_no_tensorflow(tmp_path):
    import keras

    if keras.config.backend() == "tensorflow":
        pytest.skip("TensorFlow is there under its own backend")
    source = tmp_path / "files"
    folders.write_tiny_imagenet(source, num_validation=4)
    said = run_alone(PREPARE_ALONE, source, tmp_path)
    assert "--notfrecord" in said
    assert not list(version(tmp_path).glob("*.tfrecord*"))
    assert len(load(tmp_path).train) == 200
