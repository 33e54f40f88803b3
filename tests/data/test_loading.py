"""`load`: names, folders, and how a data set is divided."""

import dataclasses
import re

import numpy as np
import pytest

from keras_neokd import data
from keras_neokd.data import files
from keras_neokd.data import splits
from keras_neokd.data.splits import stratified_order
from tests.data import formats

pytestmark = pytest.mark.any_backend

NUM_TRAIN, NUM_TEST = 100, 20


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a small MNIST; the environment names none."""
    monkeypatch.delenv("KERAS_NEOKD_DATA", raising=False)
    formats.write_mnist(tmp_path, NUM_TRAIN, NUM_TEST)
    return tmp_path


def test_an_unknown_name_lists_the_known_ones():
    expected = (
        "Unknown `name` 'svhn': expected one of ['digits', 'mnist', 'cifar10', "
        "'cifar100', 'tiny_imagenet', 'imagenet2012', 'npz', 'image_folder']."
    )
    with pytest.raises(ValueError, match=re.escape(expected)):
        data.load("svhn")


def sizes(dataset):
    parts = (dataset.train, dataset.validation, dataset.test)
    return [len(split) for split in parts]


def test_without_further_arguments_everything_is_there(folder):
    dataset = data.load("mnist", folder)
    assert (dataset.name, dataset.num_classes) == ("mnist", 10)
    assert dataset.image_shape == (28, 28, 1)
    assert sizes(dataset) == [NUM_TRAIN, 0, NUM_TEST]


def test_each_example_keeps_its_label_and_number_and_is_in_one_split(folder):
    source = formats.write_mnist(folder, NUM_TRAIN, NUM_TEST)
    dataset = data.load("mnist", folder, validation_size=30)
    assert sizes(dataset) == [NUM_TRAIN - 30, 30, NUM_TEST]
    both = np.concatenate([dataset.train.indices, dataset.validation.indices])
    assert sorted(both) == list(range(NUM_TRAIN))
    for split in (dataset.train, dataset.validation):
        images, labels = source["train"]
        np.testing.assert_array_equal(split.images, images[split.indices])
        np.testing.assert_array_equal(split.labels, labels[split.indices])
    np.testing.assert_array_equal(dataset.test.images, source["t10k"][0])


@pytest.mark.parametrize("count", [None, 7])
def test_images_stay_bytes_and_arrays_are_floats_in_the_unit_range(
    folder, count
):
    split = data.load("mnist", folder).train
    assert split.images.dtype == np.uint8
    images, labels = split.arrays(count)
    assert (images.dtype, labels.dtype) == (np.float32, np.int32)
    expected = split.images[:count].astype("float32") / np.float32(255)
    np.testing.assert_array_equal(images, expected)
    np.testing.assert_array_equal(labels, split.labels[:count])


def test_the_division_is_fixed_by_the_seed_and_fewer_images_are_the_first(
    folder,
):
    def load(**arguments):
        return data.load("mnist", folder, validation_size=30, **arguments)

    whole, other = load(seed=3), load(seed=4)
    assert set(whole.validation.indices) != set(other.validation.indices)
    for num_train, num_test in ((None, None), (10, 7)):
        again = load(seed=3, num_train=num_train, num_test=num_test)
        for part, count in (
            ("train", num_train),
            ("validation", None),
            ("test", num_test),
        ):
            np.testing.assert_array_equal(
                getattr(again, part).indices,
                getattr(whole, part).indices[:count],
            )
        np.testing.assert_array_equal(
            again.test.images, whole.test.images[:num_test]
        )


def write_numbered(path, test_labels):
    """Every test image shows the place of its label."""
    test = np.arange(len(test_labels), dtype="uint8").reshape(-1, 1, 1, 1)
    np.savez(
        path, x_train=test, y_train=test_labels, x_test=test, y_test=test_labels
    )
    return path


def test_a_label_that_no_data_set_has_is_refused(tmp_path):
    """Memory would be taken for each class."""
    for label in (2**40, 10**6):
        file = write_numbered(tmp_path / "a.npz", np.array([0, label]))
        message = f"'npz' has {label + 1:,} classes"
        with pytest.raises(ValueError, match=message):
            data.load("npz", file)
    file = write_numbered(tmp_path / "a.npz", np.array([0, 999_999]))
    assert data.load("npz", file).num_classes == 10**6


def test_what_does_not_fit_into_memory_is_told(tmp_path, monkeypatch):
    file = write_numbered(tmp_path / "a.npz", np.arange(200) % 3)
    dataset = data.load("npz", file)
    monkeypatch.setattr(files, "physical_memory", lambda: 500)
    with pytest.raises(MemoryError, match=r"200 images as float32 needs 800"):
        dataset.test.arrays()
    assert len(dataset.test.arrays(count=100)[0]) == 100
    monkeypatch.setattr(files, "physical_memory", lambda: 199)
    with pytest.raises(MemoryError, match="200 images needs 200 bytes"):
        splits.divide("x", source_of(200), 0, None, None, seed=0)


def source_of(size):
    part = np.zeros((size, 1, 1, 1), "uint8"), np.arange(size) % 3
    return splits.Source(train=part, test=part, num_classes=3)


@pytest.mark.parametrize("label", [-1, 3, 2**40])
@pytest.mark.parametrize("part", ["train", "test", "validation"])
def test_labels_out_of_range_are_refused(part, label):
    images, labels = source_of(4).train
    labels = labels.copy()
    labels[-1] = label
    source = dataclasses.replace(source_of(4), **{part: (images, labels)})
    with pytest.raises(ValueError, match="'x' is damaged.*0 to 2, received"):
        splits.divide("x", source, 0, None, None, seed=0)


@pytest.mark.parametrize("classes", [(0, 1, 2), (2, 0, 1)])
def test_test_images_that_come_class_by_class_are_mixed(tmp_path, classes):
    labels = np.repeat(classes, [60, 30, 10])
    file = write_numbered(tmp_path / "sorted.npz", labels)
    test = data.load("npz", file).test
    np.testing.assert_array_equal(test.images[:, 0, 0, 0], test.indices)
    np.testing.assert_array_equal(test.labels, labels[test.indices])
    assert sorted(test.indices) == list(range(100))
    counts = np.bincount(test.labels[:10], minlength=3)
    assert (np.abs(counts[[*classes]] - [6, 3, 1]) <= 1).all()
    # Others are compared with, so neither the seed nor a part changes that.
    for arguments in ({"seed": 1}, {"num_test": 10}):
        again = data.load("npz", file, **arguments).test
        np.testing.assert_array_equal(again.indices[:10], test.indices[:10])


def test_test_images_in_another_order_stay_in_it(tmp_path):
    file = write_numbered(tmp_path / "data.npz", np.array([0, 1, 0, 1, 2]))
    test = data.load("npz", file).test
    np.testing.assert_array_equal(test.indices, range(5))


@pytest.mark.parametrize(
    ("arguments", "error", "complaint"),
    [
        ({"validation_size": 100}, ValueError, "from 0 to 99.*received 100"),
        ({"validation_size": -1}, ValueError, "validation_size.*received -1"),
        ({"validation_size": 0.1}, TypeError, "validation_size.*float"),
        ({"num_train": 0}, ValueError, "num_train.*received 0"),
        ({"num_train": 101}, ValueError, "from 1 to 100.*received 101"),
        (
            {"num_train": 71, "validation_size": 30},
            ValueError,
            "from 1 to 70.*received 71",
        ),
        ({"num_test": 21}, ValueError, "num_test.*from 1 to 20.*received 21"),
        ({"seed": -1}, ValueError, "seed"),
        ({"seed": "a"}, TypeError, "seed"),
    ],
)
def test_an_impossible_size_is_refused(folder, arguments, error, complaint):
    with pytest.raises(error, match=complaint):
        data.load("mnist", folder, **arguments)


def test_the_environment_variable_names_the_folder(folder, monkeypatch):
    monkeypatch.setenv("KERAS_NEOKD_DATA", str(folder))
    assert len(data.load("mnist").train) == NUM_TRAIN


def test_the_argument_wins_over_the_environment(folder, monkeypatch):
    monkeypatch.setenv("KERAS_NEOKD_DATA", str(folder / "elsewhere"))
    assert len(data.load("mnist", str(folder)).train) == NUM_TRAIN


def test_a_folder_without_the_files_is_an_error_not_a_download(folder):
    with pytest.raises(FileNotFoundError, match="cifar-100-binary.tar.gz"):
        data.load("cifar100", folder)


def test_npz_brings_its_own_validation_images(folder):
    arrays = {}
    for part, first, end in (("train", 0, 4), ("val", 4, 6), ("test", 6, 8)):
        numbers = np.arange(first, end, dtype="uint8")
        arrays[f"x_{part}"] = numbers.reshape(-1, 1, 1, 1)
        arrays[f"y_{part}"] = numbers % 2
    np.savez(folder / "own.npz", **arrays)
    dataset = data.load("npz", folder / "own.npz")
    assert dataset.validation.images.ravel().tolist() == [4, 5]
    assert dataset.test.images.ravel().tolist() == [6, 7]
    with pytest.raises(ValueError, match="validation data of its own"):
        data.load("npz", folder / "own.npz", validation_size=1)


def test_a_data_set_is_called_by_its_title():
    assert data.load("digits").name == "digits"
    assert data.load("digits", title="Fashion-MNIST").name == "Fashion-MNIST"


@pytest.mark.parametrize(
    ("title", "error"),
    [("", ValueError), (" ", ValueError), ("a\nb", ValueError), (5, TypeError)],
)
def test_a_title_is_a_line_of_text(title, error):
    with pytest.raises(error, match="`title`.*config.data.title.* needs a te"):
        data.load("digits", title=title)


@pytest.mark.parametrize("name", ["npz", "image_folder", "tiny_imagenet"])
def test_some_need_a_place(folder, name):
    size = None if name == "npz" else 8
    with pytest.raises(ValueError, match=f"'{name}' needs `data_dir`"):
        data.load(name, image_size=size)


def test_the_order_is_a_permutation_with_the_classes_in_turn():
    labels = np.repeat([0, 1, 2], [60, 30, 10])
    order = stratified_order(labels, seed=0)
    assert sorted(order) == list(range(100))
    for stretch in (order[:10], order[-10:], order[40:60]):
        counts = np.bincount(labels[stretch], minlength=3)
        expected = np.array([0.6, 0.3, 0.1]) * len(stretch)
        assert (np.abs(counts - expected) <= 1).all()


def test_the_order_within_a_class_is_random():
    order = stratified_order(np.zeros(1000, int), seed=0)
    correlation = np.corrcoef(order, np.arange(1000))[0, 1]
    assert abs(correlation) < 0.1
    fixed_points = (order == np.arange(1000)).sum()
    assert fixed_points < 8


def test_real_mnist_divides_as_the_paper_needs(real_data_dir):
    dataset = data.load("mnist", real_data_dir, validation_size=5000)
    assert sizes(dataset) == [55000, 5000, 10000]
    shares = np.bincount(dataset.validation.labels) / 5000
    expected = np.bincount(dataset.train.labels) / 55000
    np.testing.assert_allclose(shares, expected, atol=1e-3)
