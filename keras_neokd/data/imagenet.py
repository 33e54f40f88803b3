"""Tiny-ImageNet and ImageNet, from the folders of their official archives."""

import os
import re

from keras_neokd.data import files
from keras_neokd.data.image_folder import images_and_labels
from keras_neokd.data.image_folder import list_images
from keras_neokd.data.splits import Source
from keras_neokd.data.tfds import tensorflow_datasets

_TINY_CLASSES = 200
# In bytes: the official lists have 0.4 MB at most.
_LARGEST_LIST = 2**24


def read_tiny_imagenet(folder, view):
    """Return Tiny-ImageNet as a `Source`; its test is the validation set.

    Classes are numbered in the sorted order of their WordNet ids, as those of
    ImageNet are; the order of `wnids.txt` is another.

    Args:
        folder: `pathlib.Path` of the folder that the archive unpacks to, with
            `wnids.txt`, `train/WNID/images/`, `val/images/` and
            `val/val_annotations.txt`; or that holds it, as
            `tiny-imagenet-200`.
        view: `View` of the images.
    """
    folder = _place("tiny_imagenet", folder, "tiny-imagenet-200", "wnids.txt")
    names = folder / "wnids.txt"
    classes = sorted(set(_lines(names)))
    if len(classes) != _TINY_CLASSES:
        raise ValueError(
            f"{names} needs {_TINY_CLASSES} different classes, received "
            f"{len(classes)}. Unpack the archive again."
        )
    train = list_images(folder / "train", classes, "images")
    missing = sorted(set(classes) - {wnid for _, wnid in train})
    if missing:
        raise ValueError(
            f"{folder / 'train'} lacks folders of {len(missing)} classes that "
            f"{names} names, {missing[0]!r} for one. Unpack the archive again."
        )
    validation = _annotated(folder / "val", classes)
    return _source(train, validation, classes, view)


def read_imagenet(folder, view):
    """Return ImageNet as a `Source`; its test is the validation set.

    Numbers of classes, and the labels of a flat validation folder, are those
    that tensorflow-datasets holds; it has to be installed.

    Args:
        folder: `pathlib.Path` that holds `train/WNID/*.JPEG`, and
            `val/WNID/*.JPEG` or `val/*.JPEG` under their official names; or
            that holds such a folder, as `imagenet2012`. Some of the classes
            will do.
        view: `View` of the images.
    """
    folder = _place("imagenet2012", folder, "imagenet2012", "train")
    core = tensorflow_datasets("imagenet2012").core
    lists = core.tfds_path("datasets/imagenet2012")
    classes = (lists / "labels.txt").read_text().split()
    train = list_images(folder / "train", classes)
    val = folder / "val"
    flat = sorted(val.glob("*.JPEG"))
    inside = sorted(val.glob("n*/"))
    if flat and inside:
        raise ValueError(
            f"{val} holds images ({flat[0].name} for one) and folders of "
            f"classes ({inside[0].name} for one). Sort all images into "
            "folders, or none."
        )
    if flat:
        answers = (lists / "validation_labels.txt").read_text().split()
        validation = [(path, answers[_number(path) - 1]) for path in flat]
    else:
        validation = list_images(val, classes)
    return _source(train, validation, classes, view)


def _source(train, validation, classes, view):
    for path, wnid in (*train, *validation):
        named = re.match(r"(n\d{8})_", os.path.basename(path))
        if named and named[1] != wnid:
            raise ValueError(
                f"{path} lies in the folder of class {wnid} and is named as an "
                f"image of {named[1]}. Move it to the folder of its class."
            )
    return Source(
        train=images_and_labels(train, classes, view),
        test=images_and_labels(validation, classes, view),
        num_classes=len(classes),
    )


def _annotated(folder, classes):
    """Return paths and classes of the images of Tiny-ImageNet's `val`."""
    names = folder / "val_annotations.txt"
    found = []
    for number, line in enumerate(_lines(names), 1):
        file, wnid = (*line.split("\t"), "")[:2]
        path = folder / "images" / file
        if wnid not in classes:
            raise ValueError(
                f"{names}, line {number}, gives {file!r} the class {wnid!r}, "
                "which wnids.txt does not name."
            )
        if not path.is_file():
            raise FileNotFoundError(
                f"{names}, line {number}, names {path}, which is not there. "
                "Unpack the archive again."
            )
        found.append((path, wnid))
    if not found:
        raise ValueError(f"{names} names no images.")
    return found


def _number(path):
    found = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", path.name)
    if not found or not 1 <= int(found[1]) <= 50_000:
        raise ValueError(
            f"{path} is not named as an image of ImageNet's validation set: "
            "expected ILSVRC2012_val_00000001.JPEG to "
            "ILSVRC2012_val_00050000.JPEG, or a folder per class."
        )
    return int(found[1])


def _place(name, folder, inside, wanted):
    """Return the folder that holds a file or folder, or one inside it."""
    places = [folder / inside / wanted, folder / wanted]
    for place in places:
        if place.exists():
            return place.parent
    prepared = folder / name / "VERSION" / "dataset_info.json"
    raise files.not_found(name, [*places, prepared])


def _lines(path):
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}. Unpack the official archive again."
        )
    lines = files.read_bytes(path, _LARGEST_LIST).decode("utf-8").splitlines()
    return [line for line in lines if line]
