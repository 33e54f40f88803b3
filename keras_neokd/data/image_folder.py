"""Image files in one folder per class: a data set of the user's own."""

import os

import numpy as np

from keras_neokd.data.encoded import EncodedImages
from keras_neokd.data.encoded import ImageFiles
from keras_neokd.data.encoded import in_order
from keras_neokd.data.image_files import check_header
from keras_neokd.data.image_files import pillow
from keras_neokd.data.splits import Source

_SUFFIXES = (".jpeg", ".jpg", ".png", ".bmp", ".webp")
_WANTED = "train/CLASS/IMAGE, with JPEG, PNG, BMP or WebP files"


def read_image_folder(folder, view):
    """Return a folder of images as a `Source`.

    Classes are the folders in `train`, numbered in the order of their sorted
    names. The header of every image is read now: what is no image is found
    before training. Images are decoded when they are used, and a damaged one
    is found then; `EncodedImages.check` looks for them. Links are followed,
    also out of the folder; names that begin with a dot are left out. Classes
    of `val` and `test` are in `train`, and each class has images.

    Args:
        folder: `pathlib.Path` that holds `train/CLASS/IMAGE` and, in the same
            form, `test` or `val` or both. Where there is no `test`, `val` is
            tested on.
        view: `View` of the images.
    """
    parts = [
        part for part in ("train", "val", "test") if (folder / part).is_dir()
    ]
    missing = [] if "train" in parts else [folder / "train"]
    if not {"val", "test"} & set(parts):
        missing += [folder / "test", folder / "val"]
    if missing:
        raise FileNotFoundError(
            "The data set 'image_folder' needs folders train and test (or "
            "val), each with a folder of images per class. Not found: "
            f"{', '.join(map(str, missing))}."
        )
    classes = class_names(folder / "train")
    read = {}
    for part in parts:
        found = list_images(folder / part, classes)
        for _ in in_order(check_header, (path for path, _ in found)):
            pass
        read[part] = images_and_labels(found, classes, view)
    return Source(
        train=read["train"],
        test=read.get("test") or read["val"],
        num_classes=len(classes),
        validation=read.get("val") if "test" in read else None,
    )


def images_and_labels(found, classes, view):
    """Return `EncodedImages`, and their labels, of pairs of path and class.

    The numbers of classes are their places in the list of their names.
    """
    numbers = {name: number for number, name in enumerate(classes)}
    labels = np.array([numbers[name] for _, name in found])
    return EncodedImages(ImageFiles([path for path, _ in found]), view), labels


def class_names(folder):
    """Return the sorted names of the folders in a folder, hidden ones apart."""
    if not folder.is_dir():
        raise FileNotFoundError(f"There is no folder {folder}.")
    inside = _visible(folder)
    for entry in inside:
        if entry.is_symlink() and not os.path.exists(entry.path):
            raise ValueError(
                f"{entry.path} is a link to a folder that is not there: its "
                "class would be missing. Bring the folder back, or take the "
                "link away."
            )
    names = [entry.name for entry in inside if entry.is_dir()]
    if not names:
        raise ValueError(
            f"{folder} holds no folders of classes: expected {_WANTED}."
        )
    return names


def list_images(folder, classes, subfolder="."):
    """Return sorted pairs of path and class of the images in class folders.

    Files whose endings Pillow does not know, such as .txt, and names that
    begin with a dot are left out.

    Args:
        folder: `pathlib.Path` that holds a folder per class.
        classes: names that such folders may have.
        subfolder: folder of the images in the folder of a class.
    """
    names = class_names(folder)
    wrong = sorted(set(names) - set(classes))
    if wrong:
        raise ValueError(
            f"{folder} holds folders that are no class of the data set: "
            f"{_some(wrong)}. Expected names among {_some(sorted(classes))}."
        )
    found = []
    for name in names:
        inside = folder / name / subfolder
        entries = _visible(inside) if inside.is_dir() else []
        images = [each.path for each in entries if _is_image(each)]
        if not images:
            raise ValueError(
                f"{inside} holds no images: expected {_WANTED}. Add images, "
                "or take the folder away."
            )
        found.extend((path, name) for path in images)
    return found


def _is_image(entry):
    """Return whether an entry of a class's folder is to be read.

    Raises `ValueError` if images would be missed: those of a folder, and what
    is left out only for its ending.
    """
    if entry.is_dir():
        raise ValueError(
            f"{entry.path} is a folder within that of a class: expected "
            f"{_WANTED}. Move its images up, or take it away."
        )
    ending = os.path.splitext(entry.name)[1].lower()
    known = pillow().registered_extensions()
    if ending not in _SUFFIXES and known.get(ending) in pillow().OPEN:
        raise ValueError(
            f"{entry.path} is a file of the format {known[ending]}, which is "
            f"not read: expected one of {', '.join(_SUFFIXES)}. Convert such "
            "files, or take them out of the folder."
        )
    return ending in _SUFFIXES


def _visible(folder):
    with os.scandir(folder) as entries:
        shown = [each for each in entries if not each.name.startswith(".")]
    return sorted(shown, key=lambda entry: entry.name)


def _some(names):
    shown = ", ".join(map(repr, names[:5]))
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more"
