"""A user's own images, in a folder per class."""

import numpy as np
import pytest

from keras_neokd import data
from tests.data import folders


@pytest.fixture
def folder(tmp_path):
    folders.write_image_folder(tmp_path)
    return tmp_path


def test_classes_are_numbered_in_sorted_order(folder):
    dataset = data.load("image_folder", folder, image_size=32)
    assert (dataset.num_classes, dataset.image_shape) == (3, (32, 32, 3))
    for split in (dataset.train, dataset.validation, dataset.test):
        assert sorted(split.labels) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    images, _ = dataset.test.arrays()
    assert (images.dtype, images.shape) == (np.float32, (9, 32, 32, 3))
    bee = folders.decoded((folder / "test/bee/0.jpg").read_bytes())
    mean = bee.mean(axis=(0, 1)) / 255
    (first,) = images[dataset.test.indices == 3]
    np.testing.assert_allclose(first.mean(axis=(0, 1)), mean, atol=0.1)


def test_val_is_the_test_where_there_is_no_other(tmp_path):
    folders.write_image_folder(tmp_path, parts=("train", "val"))
    dataset = data.load(
        "image_folder", tmp_path, image_size=8, validation_size=3
    )
    sizes = [
        len(split)
        for split in (dataset.train, dataset.validation, dataset.test)
    ]
    assert sizes == [6, 3, 9]


def test_without_a_part_the_folders_are_named(tmp_path):
    folders.write_image_folder(tmp_path, parts=("val",))
    with pytest.raises(FileNotFoundError, match=r"needs folders.*train"):
        data.load("image_folder", tmp_path, image_size=8)
    folders.write_image_folder(tmp_path / "b", parts=("train",))
    with pytest.raises(FileNotFoundError, match=r"Not found:.*b/test.*b/val"):
        data.load("image_folder", tmp_path / "b", image_size=8)


def test_the_size_is_needed_and_only_here(folder):
    with pytest.raises(ValueError, match="'image_folder' needs `image_size`"):
        data.load("image_folder", folder)
    with pytest.raises(ValueError, match="images of 'digits' have a size"):
        data.load("digits", image_size=28)
    with pytest.raises(ValueError, match="image_size.*>= 1, received 0"):
        data.load("tiny_imagenet", folder, image_size=0)


def test_a_class_that_was_not_trained_is_refused(folder):
    folders.write_image(folder / "val/dog/0.jpg")
    with pytest.raises(
        ValueError, match=r"val holds folders.*no class.*'dog'.*'ant', 'bee'"
    ):
        data.load("image_folder", folder, image_size=8)


@pytest.mark.parametrize("part", ["train", "test"])
def test_a_class_without_images_is_refused(folder, part):
    for path in (folder / part / "bee").iterdir():
        path.rename(path.with_suffix(".txt"))
    with pytest.raises(ValueError, match=f"{part}/bee holds no images"):
        data.load("image_folder", folder, image_size=8)


def test_images_beside_the_folders_of_classes_are_no_class(tmp_path):
    folders.write_image_folder(tmp_path, parts=("val",))
    folders.write_image(tmp_path / "train/0.jpg")
    with pytest.raises(ValueError, match="train holds no folders of classes"):
        data.load("image_folder", tmp_path, image_size=8)


def test_a_folder_within_that_of_a_class_is_refused(folder):
    folders.write_image(folder / "train/ant/red/0.jpg")
    with pytest.raises(
        ValueError, match="train/ant/red is a folder within that of a class"
    ):
        data.load("image_folder", folder, image_size=8)


def test_hidden_folders_and_other_files_are_left_out(folder):
    folders.write_image(folder / "train/.cache/0.jpg")
    (folder / "train/ant/notes.txt").write_text("an ant")
    dataset = data.load("image_folder", folder, image_size=8)
    assert (len(dataset.train), dataset.num_classes) == (9, 3)


@pytest.mark.parametrize("ending", ["tif", "GIF", "ppm"])
def test_an_image_of_another_format_is_not_left_out(folder, ending):
    path = folder / f"test/bee/7.{ending}"
    folders.write_image(path)
    with pytest.raises(
        ValueError, match=rf"test/bee/7\.{ending} .*not read.*\.jpg, \.png"
    ):
        data.load("image_folder", folder, image_size=8)


def test_a_damaged_image_is_named_when_it_is_needed(folder):
    (folder / "test/cow/1.png").write_bytes(b"no image")
    dataset = data.load("image_folder", folder, image_size=8)
    with pytest.raises(ValueError, match=r"test/cow/1\.png is no image"):
        dataset.test.arrays()
