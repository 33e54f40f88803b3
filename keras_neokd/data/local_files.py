"""What the original files of a data set hold, example by example.

    parts, class_names = read_local("tiny_imagenet", folder)
    example = parts["train"][0]
    example.key, example.image(), example.features

`preparing` writes it down for tensorflow-datasets; keys and features are
those of its own data sets of the same names, so the order comes out the same.
"""

import dataclasses
import functools
import io
import re

from keras_neokd.data import files
from keras_neokd.data.cifar import read_all_labels
from keras_neokd.data.image_files import decode
from keras_neokd.data.image_files import pillow
from keras_neokd.data.image_files import read_image_file
from keras_neokd.data.image_folder import list_images
from keras_neokd.data.mnist import read_mnist

_TINY_SIZE, _TINY_CLASSES = 64, 200
# In bytes: the official ones have 0.4 MB at most.
_LARGEST_LIST = 2**24


@dataclasses.dataclass(frozen=True)
class Example:
    """One image and what is known of it.

    Args:
        key: what tensorflow-datasets mixes the examples by, unique.
        image: function without arguments that returns the bytes of an image
            file; it raises `ValueError` if that is damaged.
        features: dict of all other features, such as "label".
    """

    key: int | str
    image: object
    features: dict


def read_local(name, source):
    """Return the examples of a data set from its original files.

    Args:
        name: one of `LOCAL_NAMES`.
        source: `pathlib.Path` of the folder, or of the archive of CIFAR.

    Returns:
        Pair of a dict from the names of parts to lists of `Example`, and a
        dict from the names of labels to lists of the names of classes, for
        those that the files tell.

    Raises:
        FileNotFoundError: names what was looked for.
        ValueError: names the file or folder that is wrong.
    """
    return _READERS[name](source)


def _mnist(source):
    arrays = read_mnist(source)
    return {
        part: [
            Example(number, functools.partial(_png, image), {"label": label})
            for number, (image, label) in enumerate(
                zip(images[..., 0], labels, strict=True)
            )
        ]
        for part, (images, labels) in (
            ("train", arrays.train),
            ("test", arrays.test),
        )
    }, {}


def _cifar(name, source):
    parts, class_names = read_all_labels(name, source)
    examples = {}
    for part, (images, labels) in zip(("train", "test"), parts, strict=True):
        examples[part] = [
            Example(
                number,
                functools.partial(_png, image),
                {
                    "id": f"{part}_{number:05d}",
                    **{key: column[number] for key, column in labels.items()},
                },
            )
            for number, image in enumerate(images)
        ]
    return examples, class_names


def _tiny_imagenet(source):
    """Read the folder that the official archive unpacks to."""
    classes = _lines(source / "wnids.txt")
    if len(set(classes)) != _TINY_CLASSES:
        raise ValueError(
            f"{source / 'wnids.txt'} needs {_TINY_CLASSES} different classes, "
            f"received {len(set(classes))}. Unpack the archive again."
        )
    train = list_images(source / "train", classes, "images")
    missing = sorted(set(classes) - {wnid for _, wnid in train})
    if missing:
        raise ValueError(
            f"{source / 'train'} lacks folders of {len(missing)} classes that"
            f" {source / 'wnids.txt'} names, {missing[0]!r} for one. Unpack "
            "the archive again."
        )
    names = source / "val" / "val_annotations.txt"
    validation = []
    for number, line in enumerate(_lines(names), 1):
        file, _, rest = line.partition("\t")
        wnid = rest.partition("\t")[0]
        path = source / "val" / "images" / file
        if wnid not in classes:
            raise ValueError(
                f"{names}, line {number}, gives {file!r} the class {wnid!r}, "
                f"which {source / 'wnids.txt'} does not name."
            )
        if not path.is_file():
            raise FileNotFoundError(
                f"{names}, line {number}, names {path}, which is not there. "
                "Unpack the archive again."
            )
        validation.append((path, wnid))
    if not validation:
        raise ValueError(f"{names} names no images.")
    return {
        "train": _of_files(train, _TINY_SIZE),
        "validation": _of_files(validation, _TINY_SIZE),
    }, {"label": sorted(classes)}


def _imagenet(source):
    """Read train/WNID/IMAGE and val/WNID/IMAGE, or val/IMAGE."""
    import tensorflow_datasets as tfds

    folder = tfds.core.tfds_path("datasets/imagenet2012")
    classes = (folder / "labels.txt").read_text().split()
    train = list_images(source / "train", classes)
    val = source / "val"
    flat = sorted(val.glob("*.JPEG"))
    inside = sorted(val.glob("n*/"))
    if flat and inside:
        raise ValueError(
            f"{val} holds images ({flat[0].name} for one) and folders of "
            f"classes ({inside[0].name} for one). Sort all images into "
            "folders, or none."
        )
    if flat:
        answers = (folder / "validation_labels.txt").read_text().split()
        validation = [(path, answers[_number(path) - 1]) for path in flat]
    else:
        validation = list_images(val, classes)
    return {"train": _of_files(train), "validation": _of_files(validation)}, {}


def _number(path):
    found = re.fullmatch(r"ILSVRC2012_val_(\d{8})\.JPEG", path.name)
    if not found or not 1 <= int(found[1]) <= 50_000:
        raise ValueError(
            f"{path} is not named as an image of ImageNet's validation set: "
            "expected ILSVRC2012_val_00000001.JPEG to "
            "ILSVRC2012_val_00050000.JPEG, or a folder per class."
        )
    return int(found[1])


def _of_files(paths_and_classes, size=None):
    _check_names(paths_and_classes)
    return [
        Example(
            path.name,
            functools.partial(_jpeg, path, size),
            {"label": wnid, "file_name": path.name},
        )
        for path, wnid in paths_and_classes
    ]


def _check_names(paths_and_classes):
    """Raise where the name of a file says that it is in the wrong place."""
    seen = {}
    for path, wnid in paths_and_classes:
        named = re.match(r"(n\d{8})_", path.name)
        if named and named[1] != wnid:
            raise ValueError(
                f"{path} lies in the folder of class {wnid} and is named as an "
                f"image of {named[1]}. Move it to the folder of its class."
            )
        if path.name in seen:
            raise ValueError(
                f"{path} and {seen[path.name]} have the same name, which "
                "images of one part may not. Take one of them away."
            )
        seen[path.name] = path


def _lines(path):
    if not path.is_file():
        raise FileNotFoundError(
            f"There is no file {path}. Point --source to the folder that the "
            "official archive unpacks to."
        )
    lines = files.read_bytes(path, _LARGEST_LIST).decode("utf-8").splitlines()
    return [line for line in lines if line]


def _png(pixels):
    file = io.BytesIO()
    pillow().fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def _jpeg(path, size):
    """Return the content of an image file, as JPEG in RGB or grey.

    ImageNet has 22 images in CMYK and one PNG, which not every decoder takes.
    """
    content = read_image_file(path)
    image = decode(content, path)
    if size is not None and image.size != (size, size):
        raise ValueError(
            f"{path} has {image.width} x {image.height} pixels, expected "
            f"{size} x {size}."
        )
    with pillow().open(io.BytesIO(content)) as opened:
        if opened.format == "JPEG" and opened.mode in ("RGB", "L"):
            return content
    file = io.BytesIO()
    image.save(file, "JPEG", quality=100, subsampling=0)
    return file.getvalue()


_READERS = {
    "mnist": _mnist,
    "cifar10": functools.partial(_cifar, "cifar10"),
    "cifar100": functools.partial(_cifar, "cifar100"),
    "tiny_imagenet": _tiny_imagenet,
    "imagenet2012": _imagenet,
}

#: The data sets that can be prepared from local files.
LOCAL_NAMES = tuple(_READERS)
