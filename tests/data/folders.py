"""Writes small data sets in the folders that their authors publish."""

import io

import numpy as np
from PIL import Image

# Four classes of ImageNet and their numbers in its official order.
IMAGENET_CLASSES = {
    "n01440764": 0,
    "n01443537": 1,
    "n02123045": 281,
    "n15075141": 999,
}


def pixels(seed, height, width):
    """Smooth random colours, which JPEG keeps almost unchanged."""
    corners = np.random.default_rng(seed).integers(0, 256, (2, 2, 3), "uint8")
    image = Image.fromarray(corners).resize((width, height), Image.BILINEAR)
    return np.asarray(image)


def write_image(path, seed=0, height=64, width=64, mode="RGB"):
    """One image file; the ending says the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels(seed, height, width)).convert(mode)
    kind = "PNG" if path.suffix == ".png" else "JPEG"
    image.save(path, kind)


def decoded(content):
    """The pixels in an image file, in RGB."""
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


def mode_of(content):
    """Pillow's name of the channels in an image file."""
    return Image.open(io.BytesIO(content)).mode


def tiny_classes():
    """200 names, in an order that is not sorted, as in the official file."""
    names = [f"n{number:08d}" for number in range(200)]
    return [names[77 * number % 200] for number in range(200)]


def write_tiny_imagenet(folder, per_class=1, num_validation=20):
    """The official folder with few images; returns the validation classes."""
    classes = tiny_classes()
    for number, name in enumerate(classes):
        for image in range(per_class):
            path = folder / "train" / name / "images" / f"{name}_{image}.JPEG"
            write_image(path, 10 * number + image)
        (folder / "train" / name / f"{name}_boxes.txt").write_text("0 0 1 1")
    answers = [classes[7 * number % 200] for number in range(num_validation)]
    lines = []
    for number, name in enumerate(answers):
        write_image(folder / "val/images" / f"val_{number}.JPEG", number)
        lines.append(f"val_{number}.JPEG\t{name}\t0\t32\t44\t62\n")
    (folder / "val" / "val_annotations.txt").write_text("".join(lines))
    (folder / "wnids.txt").write_text("\n".join(classes))
    (folder / "words.txt").write_text(f"{classes[0]}\tfirst\n")
    return answers


def write_imagenet(folder, per_class=4, num_validation=2):
    """ImageNet's layout: images of all sizes, one in CMYK and one PNG."""
    sizes = ((250, 300), (400, 230), (224, 224), (180, 260))
    for name, number in IMAGENET_CLASSES.items():
        for image in range(per_class):
            height, width = sizes[image % 4]
            path = folder / "train" / name / f"{name}_{image}.JPEG"
            mode = "CMYK" if (number, image) == (0, 1) else "RGB"
            write_image(path, 10 * number + image, height, width, mode)
        for image in range(num_validation):
            serial = 10 * number + image + 1
            path = folder / "val" / name / f"ILSVRC2012_val_{serial:08d}.JPEG"
            write_image(path, serial, 240, 320)


def write_image_folder(folder, parts=("train", "val", "test"), per_class=3):
    """Three classes with images of different kinds."""
    for part in parts:
        for label, name in enumerate(("ant", "bee", "cow")):
            for image in range(per_class):
                ending = (".jpg", ".png", ".JPEG")[image % 3]
                path = folder / part / name / f"{image}{ending}"
                write_image(path, 10 * label + image, 40 + image, 50)
