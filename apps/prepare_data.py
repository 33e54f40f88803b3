r"""Turn the original files of a data set into those of tensorflow-datasets.

    python -m apps.prepare_data --name=cifar10 \
        --source=downloads/cifar-10-binary.tar.gz --data_dir=data
    python -m apps.train --config=configs/cifar10.py --config.data.dir=data \
        --workdir=runs/x

No network is used. What is written is also read by tfds.load(NAME,
data_dir="data", download=False) and, without TensorFlow, by
tfds.data_source("NAME:VERSION", data_dir="data", download=False). See
docs/data.md for what each data set needs.
"""

from absl import flags

from apps import command

_NAME = flags.DEFINE_enum(
    "name",
    None,
    ["mnist", "cifar10", "cifar100", "tiny_imagenet", "imagenet2012"],
    "Which data set.",
)
_SOURCE = flags.DEFINE_string(
    "source", None, "Folder of its files; for CIFAR also the .tar.gz."
)
_DATA_DIR = flags.DEFINE_string(
    "data_dir", None, "Folder to write to, the data_dir of tfds.load."
)
_TFRECORD = flags.DEFINE_boolean(
    "tfrecord",
    None,
    "Also write TFRecord files, which tfds.load needs and TensorFlow writes; "
    "the data set then takes twice the space. Default: whether TensorFlow is "
    "installed.",
)
flags.mark_flags_as_required(["name", "source", "data_dir"])


def main():
    """Prepare as the flags say."""
    command.prepare_keras()
    from apps import preparing

    preparing.prepare(
        _NAME.value, _SOURCE.value, _DATA_DIR.value, _TFRECORD.value
    )


if __name__ == "__main__":
    command.run(main)
