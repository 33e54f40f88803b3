"""Local files to the folders of tensorflow-datasets, without a network.

    prepare("cifar10", "downloads/cifar-10-batches-bin", data_dir="data")

writes data/cifar10/3.0.2, which `tfds.load("cifar10", data_dir="data",
download=False)` and `keras_neokd.data.load("cifar10", "data")` read.
"""

import contextlib
import importlib.util
import io
import pathlib
import sys
import tempfile

from keras_neokd import checks
from keras_neokd import writing
from keras_neokd.data import prepared
from keras_neokd.data.encoded import in_order
from keras_neokd.data.local_files import LOCAL_NAMES
from keras_neokd.data.local_files import read_local

_TINY_DESCRIPTION = (
    "Tiny-ImageNet: 200 classes of ImageNet, 64 x 64 pixels, from the "
    "official folder. Classes are numbered in the sorted order of their "
    "WordNet ids. The official test images have no labels and are left out."
)


def prepare(name, source, data_dir, tfrecord=None):
    """Write a data set as tensorflow-datasets keeps it, from local files.

    Version, features and order are those of the data set of the same name in
    the installed tensorflow-datasets; `tiny_imagenet` is our own. So are the
    names of classes; CIFAR's come from its own files of names and stay empty
    where those are missing. Every image is decoded, so that a damaged one is
    found here.

    The new folder appears when it is complete. What an interrupted
    preparation leaves is removed: at once, or, after a kill, by the next one.

    Files are written as ArrayRecord, which is read without TensorFlow, and
    also as TFRecord, which `tfds.load` needs.

    Args:
        name: one of `LOCAL_NAMES`.
        source: folder of the original files, see `read_local`; for CIFAR
            also the archive.
        data_dir: folder to write to, as in `tfds.load`.
        tfrecord: whether to write TFRecord files, too. Defaults to whether
            TensorFlow, which writes them, is installed.

    Returns:
        `pathlib.Path` of the new folder, `data_dir/NAME/VERSION`.

    Raises:
        ImportError: if tensorflow-datasets, Pillow or, for TFRecord files,
            TensorFlow is not installed.
        FileExistsError: if the data set has been prepared.
        FileNotFoundError, ValueError: name what is wrong with the files.
        OSError: if the disk is full, or `data_dir` cannot be written.
    """
    checks.choice("name", name, LOCAL_NAMES)
    tfds = prepared.tensorflow_datasets(name)
    has_tensorflow = importlib.util.find_spec("tensorflow") is not None
    if tfrecord is None:
        tfrecord = has_tensorflow
    elif tfrecord and not has_tensorflow:
        raise ImportError(
            "TFRecord files are written by TensorFlow, which is not "
            "installed. Install it, or leave them out with --notfrecord."
        )
    data_dir = pathlib.Path(data_dir).expanduser()
    source = pathlib.Path(source).expanduser()
    if not source.exists():
        raise FileNotFoundError(f"There is no file or folder {source}.")
    parts, class_names = read_local(name, source)
    builder_class = _builder_class(tfds, name, parts, class_names, tfrecord)
    folder = pathlib.Path(builder_class(data_dir=str(data_dir)).data_dir)
    if folder.exists():
        raise FileExistsError(
            f"{folder} exists: {name} has been prepared. Delete it to "
            "prepare the data set anew."
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    with writing.unfinished(folder, is_folder=True) as place:
        builder = builder_class(data_dir=str(place))
        written = pathlib.Path(builder.data_dir)
        _write(tfds, builder, tfrecord)
        prepared.read_labels(prepared.open_folder(written))
        writing.move_folder(written, folder)
    return folder


def _write(tfds, builder, tfrecord):
    if not sys.stderr.isatty():
        tfds.disable_progress_bar()
    if tfrecord:
        builder.info.add_alternative_file_format("array_record")
    # tensorflow-datasets says that it downloads, and keeps a folder for that.
    with (
        contextlib.redirect_stdout(io.StringIO()),
        tempfile.TemporaryDirectory() as no_downloads,
    ):
        builder.download_and_prepare(
            download_dir=no_downloads,
            download_config=tfds.download.DownloadConfig(
                try_download_gcs=False
            ),
            file_format="tfrecord" if tfrecord else "array_record",
        )


def _builder_class(tfds, name, parts, class_names, tfrecord):
    """Return the builder of a data set, with other files to read."""
    if name == "tiny_imagenet":
        base = _tiny_imagenet_class(tfds)
    else:
        base = tfds.builder_cls(name)

    class FromLocalFiles(base, skip_registration=True):
        def _split_generators(self, dl_manager):
            del dl_manager
            for label, names in class_names.items():
                self.info.features[label].names = names
            return {part: _generate(each) for part, each in parts.items()}

        def _example_writer(self):
            return _writer(self.info) if tfrecord else super()._example_writer()

    FromLocalFiles.name = name
    FromLocalFiles.pkg_dir_path = base.pkg_dir_path
    return FromLocalFiles


def _tiny_imagenet_class(tfds):
    class TinyImagenet(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        VERSION = tfds.core.Version("1.0.0")
        pkg_dir_path = None

        def _info(self):
            return tfds.core.DatasetInfo(
                builder=self,
                description=_TINY_DESCRIPTION,
                features=tfds.features.FeaturesDict(
                    {
                        "image": tfds.features.Image(
                            shape=(64, 64, 3), encoding_format="jpeg"
                        ),
                        "label": tfds.features.ClassLabel(num_classes=200),
                        "file_name": tfds.features.Text(),
                    }
                ),
                supervised_keys=("image", "label"),
                homepage="http://cs231n.stanford.edu",
            )

        def _split_generators(self, dl_manager):
            raise NotImplementedError

        def _generate_examples(self):
            raise NotImplementedError

    return TinyImagenet


def _generate(examples):
    def record(example):
        return example.key, {
            "image": io.BytesIO(example.image()),
            **example.features,
        }

    # Encoding and decoding in threads, the order kept.
    return in_order(record, examples)


def _writer(info):
    from tensorflow_datasets.core import writer

    return writer.MultiOutputExampleWriter(
        [
            writer.ExampleWriter(file_format)
            for file_format in info.available_file_formats()
        ]
    )
