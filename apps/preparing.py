"""What `apps.prepare_data` does: prepare a data set and say what is there."""

from keras_neokd import data
from keras_neokd.data import prepared

# As their authors count them: training and test images.
_OFFICIAL = {
    "mnist": (60_000, 10_000),
    "cifar10": (50_000, 10_000),
    "cifar100": (50_000, 10_000),
    "tiny_imagenet": (100_000, 10_000),
    "imagenet2012": (1_281_167, 50_000),
}


def prepare(name, source, data_dir, tfrecord):
    """Prepare a data set; the arguments are those of `data.prepare`.

    Raises:
        ImportError, OSError, ValueError: as `data.prepare`.
    """
    folder = data.prepare(name, source, data_dir, tfrecord)
    info = prepared.open_folder(folder).info
    sizes = [split.num_examples for split in info.splits.values()]
    for part, size in zip(info.splits, sizes, strict=True):
        print(f"{part}: {size:,} images")
    if sorted(sizes) != sorted(_OFFICIAL[name]):
        train, test = _OFFICIAL[name]
        print(
            f"The whole data set has {train:,} and {test:,} images: this is "
            "not all of it."
        )
    print(f"Prepared {name} in {folder}.")
    if not any(folder.glob("*.tfrecord*")):
        print("tfds.load needs TFRecord files; tfds.data_source reads these.")
