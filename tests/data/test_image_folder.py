"""A user's own images, in a folder per class."""

import contextlib
import os
import socket

import numpy as np
import pytest
from PIL import Image

from keras_neokd import data
from tests.data import folders

pytestmark = pytest.mark.any_backend


@pytest.fixture
def folder(tmp_path):
    folders.write_image_folder(tmp_path)
    return tmp_path


def load(folder, image_size=8, **arguments):
    return data.load("image_folder", folder, image_size=image_size, **arguments)


def test_classes_are_numbered_in_sorted_order(folder):
    dataset = load(folder, 32)
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
    dataset = load(tmp_path, validation_size=3)
    parts = (dataset.train, dataset.validation, dataset.test)
    assert [len(split) for split in parts] == [6, 3, 9]


def test_without_a_part_the_folders_are_named(tmp_path):
    folders.write_image_folder(tmp_path, parts=("val",))
    with pytest.raises(FileNotFoundError, match=r"needs folders.*train"):
        load(tmp_path)
    folders.write_image_folder(tmp_path / "b", parts=("train",))
    with pytest.raises(FileNotFoundError, match=r"Not found:.*b/test.*b/val"):
        load(tmp_path / "b")


def test_the_size_is_needed_and_only_here(folder):
    with pytest.raises(ValueError, match="'image_folder' needs `image_size`"):
        data.load("image_folder", folder)
    for argument in ("image_size", "channels"):
        message = "`channels` are for .*image_folder.* of 'digits' have a size"
        with pytest.raises(ValueError, match=message):
            data.load("digits", **{argument: 3})
    with pytest.raises(ValueError, match="image_size.*>= 1, received 0"):
        data.load("tiny_imagenet", folder, image_size=0)


def rename_all(path):
    def rename(folder):
        for each in (folder / path).iterdir():
            each.rename(each.with_suffix(".txt"))

    return rename


def new_image(path):
    return lambda folder: folders.write_image(folder / path)


def link_to_nothing(path):
    return lambda folder: (folder / path).symlink_to("gone")


DAMAGE = {
    r"val holds folders.*no class.*'dog'.*'ant', 'bee'": (
        new_image("val/dog/0.jpg")
    ),
    "train/bee holds no images": rename_all("train/bee"),
    "test/bee holds no images": rename_all("test/bee"),
    "train/ant/red is a folder within that of a class": (
        new_image("train/ant/red/0.jpg")
    ),
    r"ant/9\.png is a folder within": (
        lambda folder: (folder / "test/ant/9.png").mkdir()
    ),
    **{
        f"{path} is a link to a folder that is not there": link_to_nothing(path)
        for path in ("train/dog", "test/dog")
    },
    # What is found when, in docs/data.md.
    **{
        rf"{part}/cow/1\.png is no image.*received 8 bytes": (
            lambda folder, part=part: (folder / part / "cow/1.png").write_bytes(
                b"no image"
            )
        )
        for part in ("train", "val", "test")
    },
    # Pillow would look for the format, and start programs for some.
    **{
        rf"{part}/bee/1\.png is no image .*\(not JPEG, PNG": (
            lambda folder, part=part, kind=kind: Image.new("RGB", (9, 9)).save(
                folder / part / "bee/1.png", kind
            )
        )
        for part, kind in (("train", "GIF"), ("test", "TIFF"))
    },
    r"test/bee/1\.png has grey values": lambda folder: Image.fromarray(
        np.full((9, 9), 1000, "uint16")
    ).save(folder / "test/bee/1.png"),
}


@pytest.mark.parametrize("message", DAMAGE)
def test_an_unfit_folder_is_refused_when_it_is_loaded(folder, message):
    DAMAGE[message](folder)
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_images_beside_the_folders_of_classes_are_no_class(tmp_path):
    folders.write_image_folder(tmp_path, parts=("val",))
    folders.write_image(tmp_path / "train/0.jpg")
    with pytest.raises(ValueError, match="train holds no folders of classes"):
        load(tmp_path)


def test_hidden_folders_and_other_files_are_left_out(folder):
    folders.write_image(folder / "train/.cache/0.jpg")
    (folder / "train/ant/notes.txt").write_text("an ant")
    # What macOS keeps beside a file.
    (folder / "train/ant/._0.jpg").write_bytes(b"attributes")
    dataset = load(folder)
    assert (len(dataset.train), dataset.num_classes) == (9, 3)


@pytest.mark.parametrize("ending", ["tif", "GIF", "ppm"])
def test_an_image_of_another_format_is_not_left_out(folder, ending):
    path = folder / f"test/bee/7.{ending}"
    folders.write_image(path)
    message = rf"test/bee/7\.{ending} .*not read.*\.jpg, \.png"
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_damage_behind_the_header_is_named_by_check_and_when_it_is_needed(
    folder,
):
    path = folder / "test/cow/1.png"
    path.write_bytes(path.read_bytes()[:-200])
    dataset = load(folder)
    for read in (dataset.test.images.check, dataset.test.arrays):
        with pytest.raises(ValueError, match=r"test/cow/1\.png is no image"):
            read()
    dataset.validation.images.check()


# What is named as an image and is none.


def make_socket(path):
    # The address of a socket may not be long.
    with contextlib.chdir(path.parent), socket.socket(socket.AF_UNIX) as made:
        made.bind(path.name)


MAKE = {
    "a named pipe": os.mkfifo,
    "a socket": make_socket,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a link to a file that is not there": lambda path: path.symlink_to("gone"),
}


@pytest.mark.parametrize("kind", MAKE)
def test_what_is_no_regular_file_is_not_read(folder, kind):
    MAKE[kind](folder / "test/ant/9.png")
    message = (
        rf"test/ant/9\.png is named as an image and is {kind}: expected a "
        "regular file.*Take it out"
    )
    with pytest.raises(ValueError, match=message):
        load(folder)


def test_a_pipe_that_takes_the_place_of_an_image_is_not_read(folder):
    dataset = load(folder)
    path = folder / "test/ant/1.png"
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(ValueError, match=r"ant/1\.png.*is a named pipe"):
        dataset.test.arrays()


def test_links_are_followed_out_of_the_folder(folder, tmp_path_factory):
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    expected = load(folder).test.arrays()[0]
    for path in ("test/ant/0.jpg", "test/cow"):
        target = (folder / path).rename(elsewhere / path.replace("/", "_"))
        (folder / path).symlink_to(target)
    found = load(folder).test.arrays()[0]
    np.testing.assert_array_equal(found, expected)


# Colour and grey.


def test_images_are_colour_unless_grey_is_asked_for(folder):
    folders.write_image(folder / "test/ant/1.png", 5, 9, 9, mode="L")
    path = folder / "test/bee/1.png"
    for channels in (None, 3, 1):
        dataset = load(folder, 9, channels=channels)
        assert dataset.image_shape == (9, 9, channels or 3)
        grey, colour = (
            dataset.test.images[(dataset.test.indices == index).nonzero()[0]]
            for index in (1, 4)
        )
        # A grey image has equal channels.
        expected = np.asarray(Image.open(folder / "test/ant/1.png"))
        np.testing.assert_array_equal(
            grey[0], np.stack([expected] * (channels or 3), -1)
        )
    # The last ones are grey.
    image = Image.open(path).convert("RGB")
    red, green, blue = np.moveaxis(np.asarray(image, float), 2, 0)
    luma = Image.fromarray(np.uint8(0.299 * red + 0.587 * green + 0.114 * blue))
    side = min(image.size)
    size = [round(each * 9 / side) for each in image.size]
    small = np.asarray(luma.resize(size, Image.BILINEAR), float)
    left, top = (size[0] - 9) // 2, (size[1] - 9) // 2
    np.testing.assert_allclose(
        colour[0, ..., 0], small[top : top + 9, left : left + 9], atol=2
    )


@pytest.mark.parametrize("augment", ["crop_flip", "random_part_flip"])
def test_grey_images_are_augmented(folder, augment):
    split = load(folder, channels=1).train
    images, _ = data.TrainingBatches(split, 4, augment=augment)[0]
    assert images.shape == (4, 8, 8, 1)


@pytest.mark.parametrize(
    ("channels", "error"),
    [(0, ValueError), (2, ValueError), (4, ValueError), (True, TypeError)],
)
def test_other_numbers_of_channels_are_refused(folder, channels, error):
    with pytest.raises(error, match=f"`channels`.*{channels}"):
        load(folder, channels=channels)
