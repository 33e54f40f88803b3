"""The official folders of Tiny-ImageNet and ImageNet, read as they are."""

import os
import shutil

import numpy as np
import pytest

from keras_neokd import data
from keras_neokd.data.image_folder import list_images
from tests.data import folders

pytestmark = pytest.mark.any_backend

CLASSES = sorted(folders.tiny_classes())


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A Tiny-ImageNet folder, and the classes of its validation images."""
    folder = tmp_path_factory.mktemp("tiny")
    return folder, folders.write_tiny_imagenet(folder)


@pytest.mark.parametrize("is_inside", [False, True])
def test_tiny_imagenet_has_its_labels_and_the_official_answers(
    tiny, tmp_path, is_inside
):
    folder, answers = tiny
    if is_inside:
        (tmp_path / "tiny-imagenet-200").symlink_to(folder)
    place = tmp_path if is_inside else folder
    dataset = data.load("tiny_imagenet", place, validation_size=20, channels=3)
    assert (dataset.num_classes, dataset.image_shape) == (200, (64, 64, 3))
    assert len(dataset.train) == 180
    both = np.concatenate([dataset.train.labels, dataset.validation.labels])
    assert sorted(both) == list(range(200))
    number = dataset.train.indices[0]
    np.testing.assert_array_equal(
        dataset.train.images[:1][0], pixels_of(folder, "train", number)
    )
    assert dataset.train.labels[0] == number  # One image of each class.
    # In the order of the file of annotations.
    assert dataset.test.labels.tolist() == [*map(CLASSES.index, answers)]
    for number in (0, 19):
        np.testing.assert_array_equal(
            dataset.test.images[:][number], pixels_of(folder, "val", number)
        )


def pixels_of(folder, part, number):
    name = CLASSES[number]
    path = {
        "train": f"train/{name}/images/{name}_0.JPEG",
        "val": f"val/images/val_{number}.JPEG",
    }[part]
    return folders.decoded((folder / path).read_bytes())


def test_tiny_imagenet_is_resized_where_that_is_asked_for(tiny):
    dataset = data.load("tiny_imagenet", tiny[0], image_size=96, channels=1)
    assert dataset.test.images[:2].shape == (2, 96, 96, 1)


@pytest.mark.parametrize(
    ("name", "official"),
    [
        ("tiny_imagenet", "tiny-imagenet-200/wnids.txt"),
        ("imagenet2012", "imagenet2012/train"),
    ],
)
def test_what_is_not_there_is_named(tmp_path, name, official):
    prepared = f"{name}/VERSION/dataset_info.json"
    message = (
        f"{tmp_path / official}\n(.*\n)*.*{tmp_path / prepared}\n(.*\n)*"
        ".*--config.data.dir"
    )
    with pytest.raises(FileNotFoundError, match=message):
        data.load(name, tmp_path)


def remove(path):
    path.unlink()


ONE = "train/n00000005/images/n00000005_0.JPEG"


def text(content):
    return lambda path: path.write_text(content)


def named(name):
    return lambda path: path.rename(path.with_name(name))


ANNOTATIONS, CLASS = "val/val_annotations.txt", "train/n00000005"


@pytest.mark.parametrize(
    ("path", "change", "message"),
    [
        (
            "wnids.txt",
            text("n1\nn2"),
            "needs 200 different classes, received 2",
        ),
        (
            "wnids.txt",
            lambda path: os.truncate(path, 2**24 + 1),
            "wnids.txt is not.*at most 16,777,216 bytes",
        ),
        (CLASS, named("n99"), "no class of the data set: 'n99'"),
        (CLASS, shutil.rmtree, "lacks folders of 1 classes.*'n00000005'"),
        (ONE, remove, "n00000005/images holds no images"),
        (
            ONE,
            named("n00000006_1.JPEG"),
            "of class n00000005 and is named as an image of n00000006",
        ),
        (
            ANNOTATIONS,
            text("val_0.JPEG\tn77\t0\t0\t0\t0\n"),
            "line 1, gives 'val_0.JPEG' the class 'n77'",
        ),
        (ANNOTATIONS, text(""), "names no images"),
        ("wnids.txt", remove, "Looked for.*wnids.txt"),
        (
            "val/images/val_3.JPEG",
            remove,
            "line 4, names.*val_3.JPEG, which is not there",
        ),
        (ANNOTATIONS, remove, "no file .*val_annotations.txt"),
    ],
)
def test_an_unfit_tiny_imagenet_is_refused(
    tiny, tmp_path, path, change, message
):
    shutil.copytree(tiny[0], tmp_path / "files")
    change(tmp_path / "files" / path)
    is_missing = change is remove and path != ONE
    error = FileNotFoundError if is_missing else ValueError
    with pytest.raises(error, match=f"(?s){message}"):
        data.load("tiny_imagenet", tmp_path / "files")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda path: (path.unlink(), os.mkfifo(path)), "is a named pipe"),
        (lambda path: os.truncate(path, 200), "is no image that can be read"),
    ],
)
def test_an_unfit_image_is_named_when_it_is_used(
    tiny, tmp_path, change, message
):
    shutil.copytree(tiny[0], tmp_path / "files")
    change(tmp_path / "files" / ONE)
    train = data.load("tiny_imagenet", tmp_path / "files").train
    for read in (train.images.check, train.arrays):
        with pytest.raises(ValueError, match=f"n00000005_0.JPEG .*{message}"):
            read()


# ImageNet.


def test_imagenet_classes_have_their_official_numbers(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    folders.write_imagenet(tmp_path / "imagenet2012")
    dataset = data.load("imagenet2012", tmp_path, resize=256)
    assert (dataset.num_classes, dataset.image_shape) == (1000, (224, 224, 3))
    numbers = folders.IMAGENET_CLASSES.values()
    for split, count in ((dataset.train, 4), (dataset.test, 2)):
        assert sorted(split.labels) == sorted([*numbers] * count)
    first = (dataset.train.indices == 1).nonzero()[0]
    assert dataset.train.labels[first] == 0
    path = tmp_path / "imagenet2012/train/n01440764/n01440764_1.JPEG"
    assert folders.mode_of(path.read_bytes()) == "CMYK"
    assert dataset.train.images[first].shape == (1, 224, 224, 3)


def test_a_flat_validation_folder_gets_the_official_answers(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    folders.write_imagenet(tmp_path, per_class=1, num_validation=0)
    for number in (1, 50_000):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        folders.write_image(tmp_path / "val" / name)
    test = data.load("imagenet2012", tmp_path).test
    # As published: a sea snake and a llama.
    assert test.labels.tolist() == [65, 355]
    for name in ("cat.JPEG", "ILSVRC2012_val_00050001.JPEG"):
        path = tmp_path / "val" / name
        folders.write_image(path)
        with pytest.raises(ValueError, match=f"{name} is not named as an im"):
            data.load("imagenet2012", tmp_path)
        path.unlink()
    folders.write_image(tmp_path / "val/n01440764/1.JPEG")
    with pytest.raises(ValueError, match="val holds images.*and folders"):
        data.load("imagenet2012", tmp_path)


def test_only_links_need_a_look_at_each_file(tmp_path, monkeypatch):
    """A million files: a call to the system for each takes minutes."""
    folders.write_imagenet(tmp_path, per_class=3)
    looked = []
    stat = os.stat
    monkeypatch.setattr(
        os, "stat", lambda path, **named: looked.append(path) or stat(path)
    )
    names = list(folders.IMAGENET_CLASSES)
    assert len(list_images(tmp_path / "train", names)) == 12
    assert not [path for path in looked if str(path).endswith(".JPEG")]
