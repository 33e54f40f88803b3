"""Original files become data sets of tensorflow-datasets."""

import errno
import os

import numpy as np
import pytest

from keras_neokd import data
from keras_neokd.data import cifar
from keras_neokd.data import local_files
from keras_neokd.data import prepared
from keras_neokd.data import preparing
from tests.data import folders
from tests.data import formats
from tests.data.test_cifar import contents_of
from tests.marks import slow_but_on_tensorflow

tfds = pytest.importorskip("tensorflow_datasets")
CLASSES = sorted(folders.tiny_classes())


@pytest.fixture
def small_cifar(monkeypatch):
    """Let the files of CIFAR hold 2 images where the real ones hold 10,000."""
    for name, num_train in (("cifar10", 10), ("cifar100", 2)):
        facts = cifar.dataclasses.replace(
            cifar._FACTS[name], num_train=num_train, num_test=2
        )
        monkeypatch.setitem(cifar._FACTS, name, facts)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """A Tiny-ImageNet folder, its prepared form, and validation classes."""
    source = tmp_path_factory.mktemp("tiny")
    answers = folders.write_tiny_imagenet(source)
    target = tmp_path_factory.mktemp("prepared")
    return source, data.prepare("tiny_imagenet", source, target, False), answers


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """An ImageNet layout of 4 classes, and its prepared form."""
    source = tmp_path_factory.mktemp("imagenet")
    folders.write_imagenet(source)
    target = tmp_path_factory.mktemp("prepared")
    return source, data.prepare("imagenet2012", source, target, False)


def examples(folder, part):
    """All examples of a part, read by tensorflow-datasets alone."""
    name = f"{folder.parent.name}:{folder.name}"
    source = tfds.data_source(
        name,
        split=part,
        data_dir=str(folder.parent.parent),
        download=False,
        decoders={"image": tfds.decode.SkipDecoding()},
    )
    return list(source)


def row_of(image, images):
    return (images == image).all(axis=(1, 2, 3)).nonzero()[0].item()


def test_mnist_comes_back_pixel_by_pixel(tmp_path):
    source = formats.write_mnist(tmp_path / "files", 12, 5)
    folder = data.prepare("mnist", tmp_path / "files", tmp_path, False)
    assert folder == tmp_path / "mnist" / str(tfds.builder_cls("mnist").VERSION)
    dataset = data.load("mnist", tmp_path)
    assert dataset.image_shape == (28, 28, 1)
    for split, part in ((dataset.train, "train"), (dataset.test, "t10k")):
        images, labels = source[part]
        # In tensorflow-datasets' own order.
        rows = [row_of(each, images) for each in split.images]
        assert sorted(rows) == list(range(len(images)))
        np.testing.assert_array_equal(split.labels, labels[rows])


@pytest.mark.parametrize("kind", ["folder", "inside", "archive"])
def test_cifar100_keeps_both_labels_ids_and_names(small_cifar, tmp_path, kind):
    contents, (x, y), _ = contents_of("cifar100")
    names = [f"fine {number}" for number in range(100)]
    contents["fine_label_names.txt"] = "\n".join([*names, ""]).encode()
    inside, archive = "cifar-100-binary", tmp_path / "cifar-100-binary.tar.gz"
    formats.write_folder(tmp_path / "files" / inside, contents)
    formats.write_archive(archive, inside, contents)
    source = {
        "folder": tmp_path / "files",
        "inside": tmp_path / "files" / inside,
        "archive": archive,
    }[kind]
    folder = data.prepare("cifar100", source, tmp_path, False)
    found = {each["id"]: each for each in examples(folder, "train")}
    assert sorted(found) == [b"train_00000", b"train_00001"]
    for number, each in enumerate(found[key] for key in sorted(found)):
        np.testing.assert_array_equal(folders.decoded(each["image"]), x[number])
        assert (each["label"], each["coarse_label"]) == (y[number], 0)
    assert (folder / "label.labels.txt").read_text().splitlines() == names
    assert data.load("cifar100", tmp_path).num_classes == 100


def test_features_and_version_are_those_of_the_official_data_set(
    small_cifar, tmp_path
):
    contents, *_ = contents_of("cifar10")
    formats.write_folder(tmp_path / "files", contents)
    folder = data.prepare("cifar10", tmp_path / "files", tmp_path, False)
    official = tfds.builder("cifar10", data_dir=str(tmp_path))
    assert official.is_prepared()
    written = tfds.builder_from_directory(str(folder))
    assert repr(written.info.features) == repr(official.info.features)
    assert written.info.download_size == 0
    assert not (tmp_path / "downloads").exists()


def test_tiny_imagenet_has_the_files_labels_and_official_answers(tiny):
    source, folder, answers = tiny
    train = examples(folder, "train")
    assert len(train) == 200
    for each in train[:10]:
        name = each["file_name"].decode()
        wnid = name.partition("_")[0]
        assert each["label"] == CLASSES.index(wnid)
        original = source / "train" / wnid / "images" / name
        assert each["image"] == original.read_bytes()
    validation = examples(folder, "validation")
    assert len(validation) == len(answers)
    for each in validation:
        name = each["file_name"].decode()
        number = int(name.removeprefix("val_").removesuffix(".JPEG"))
        assert each["label"] == CLASSES.index(answers[number])
        original = source / "val" / "images" / name
        assert each["image"] == original.read_bytes()


def test_tiny_imagenet_loads_with_its_validation_part_as_test(tiny):
    _, folder, answers = tiny
    dataset = data.load("tiny_imagenet", folder.parents[1], validation_size=20)
    assert (dataset.num_classes, dataset.image_shape) == (200, (64, 64, 3))
    sizes = [
        len(split)
        for split in (dataset.train, dataset.validation, dataset.test)
    ]
    assert sizes == [180, 20, 20]
    for each, image, label in zip(
        examples(folder, "validation"), *dataset.test.arrays(), strict=True
    ):
        assert each["label"] == label
        np.testing.assert_array_equal(
            np.round(image * 255), folders.decoded(each["image"])
        )
    assert sorted(dataset.test.labels) == sorted(map(CLASSES.index, answers))
    large = data.load("tiny_imagenet", folder.parents[1], image_size=96)
    assert large.test.arrays(2)[0].shape == (2, 96, 96, 3)


def test_imagenet_classes_have_their_official_numbers(imagenet):
    source, folder = imagenet
    for part, size in (("train", 16), ("validation", 8)):
        found = examples(folder, part)
        assert len(found) == size
        for each in found:
            name = each["file_name"].decode()
            wnids = [path.parent.name for path in source.rglob(name)]
            assert each["label"] == folders.IMAGENET_CLASSES[wnids[0]]
    dataset = data.load("imagenet2012", folder.parents[1], resize=256)
    assert (dataset.num_classes, dataset.image_shape) == (1000, (224, 224, 3))
    assert dataset.test.arrays(3)[0].shape == (3, 224, 224, 3)


def test_an_image_in_cmyk_is_written_in_rgb(imagenet):
    source, folder = imagenet
    path = source / "train/n01440764/n01440764_1.JPEG"
    original = path.read_bytes()
    assert folders.mode_of(original) == "CMYK"
    each = next(
        each
        for each in examples(folder, "train")
        if each["file_name"].decode() == path.name
    )
    assert folders.mode_of(each["image"]) == "RGB"
    expected = folders.decoded(original).astype(int)
    assert np.abs(folders.decoded(each["image"]) - expected).mean() < 2


def test_a_flat_validation_folder_gets_the_official_answers(tmp_path):
    folders.write_imagenet(tmp_path, per_class=1, num_validation=0)
    for number in (1, 50_000):
        name = f"ILSVRC2012_val_{number:08d}.JPEG"
        folders.write_image(tmp_path / "val" / name)
    parts, _ = local_files.read_local("imagenet2012", tmp_path)
    labels = [each.features["label"] for each in parts["validation"]]
    # As published: a sea snake and a llama.
    assert labels == ["n01751748", "n02437616"]
    folders.write_image(tmp_path / "val" / "cat.JPEG")
    with pytest.raises(ValueError, match="cat.JPEG is not named as an image"):
        local_files.read_local("imagenet2012", tmp_path)


def test_imagenets_validation_images_lie_in_folders_or_do_not(tmp_path):
    folders.write_imagenet(tmp_path, 1, 1)
    folders.write_image(tmp_path / "val" / "ILSVRC2012_val_00000007.JPEG")
    with pytest.raises(ValueError, match="val holds images.*and folders"):
        local_files.read_local("imagenet2012", tmp_path)


def test_two_images_of_one_name_are_refused(tmp_path):
    folders.write_imagenet(tmp_path, 1, 0)
    first, second = sorted(folders.IMAGENET_CLASSES)[:2]
    for wnid in (first, second):
        folders.write_image(tmp_path / "train" / wnid / "fish.JPEG")
    folders.write_image(tmp_path / "val" / first / "1.JPEG")
    with pytest.raises(
        ValueError, match=rf"{second}.fish.JPEG and .*{first}.fish.JPEG have"
    ):
        local_files.read_local("imagenet2012", tmp_path)


@pytest.mark.parametrize(
    "tfrecord", [pytest.param(True, marks=slow_but_on_tensorflow)]
)
def test_tfds_load_reads_what_was_prepared(tfrecord, tiny, tmp_path):
    source, *_ = tiny
    folder = data.prepare("tiny_imagenet", source, tmp_path, tfrecord)
    loaded = tfds.load("tiny_imagenet", data_dir=str(tmp_path), download=False)
    by_source = examples(folder, "validation")
    by_load = list(tfds.as_numpy(loaded["validation"]))
    assert len(by_load) == len(by_source) == 20
    for ours, theirs in zip(by_source, by_load, strict=True):
        assert ours["file_name"] == theirs["file_name"]
        assert ours["label"] == theirs["label"]
    assert len(data.load("tiny_imagenet", tmp_path).train) == 200


def test_a_second_preparation_is_refused(tiny):
    source, folder, _ = tiny
    with pytest.raises(FileExistsError, match="has been prepared. Delete it"):
        data.prepare("tiny_imagenet", source, folder.parents[1], False)


def test_a_preparation_goes_the_way_of_unfinished_folders(
    tmp_path, monkeypatch
):
    """After a kill the next one removes what is left; a full disk is told."""
    left = tmp_path / "data" / "mnist" / ".unfinished.0123456789abcdef"
    formats.write_mnist(tmp_path / "files", 2, 2)
    write = preparing._write

    def write_until_full(tfds, builder, tfrecord):
        write(tfds, builder, tfrecord)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(preparing, "_write", write_until_full)
        with pytest.raises(OSError, match="no room for .*data/mnist/.*No sp"):
            data.prepare("mnist", tmp_path / "files", tmp_path / "data", False)
    assert list((tmp_path / "data" / "mnist").iterdir()) == []
    left.mkdir(parents=True)
    folder = data.prepare("mnist", tmp_path / "files", tmp_path / "data", False)
    assert list((tmp_path / "data" / "mnist").iterdir()) == [folder]


def test_a_missing_source_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file or folder.*nowhere"):
        data.prepare("mnist", tmp_path / "nowhere", tmp_path)
    with pytest.raises(ValueError, match="name.*svhn.*mnist"):
        data.prepare("svhn", tmp_path, tmp_path)


def remove(path):
    path.unlink()


@pytest.mark.parametrize(
    ("path", "change", "error", "message"),
    [
        ("wnids.txt", remove, FileNotFoundError, "no file.*wnids.txt"),
        (
            "wnids.txt",
            lambda path: path.write_text("n1\nn2"),
            ValueError,
            "needs 200 different classes, received 2",
        ),
        (
            "train/n00000005",
            lambda path: path.rename(path.with_name("n99")),
            ValueError,
            "no class of the data set: 'n99'",
        ),
        (
            "train/n00000005",
            lambda path: path.rename(path.parents[2] / "elsewhere"),
            ValueError,
            "lacks folders of 1 classes.*'n00000005'",
        ),
        (
            "train/n00000005/images/n00000005_0.JPEG",
            remove,
            ValueError,
            "n00000005/images holds no images",
        ),
        (
            "train/n00000005/images/n00000005_0.JPEG",
            lambda path: (path.unlink(), os.mkfifo(path)),
            ValueError,
            "n00000005_0.JPEG is named as an image and is a named pipe",
        ),
        (
            "train/n00000005/images/n00000005_0.JPEG",
            lambda path: path.write_bytes(path.read_bytes()[:200]),
            ValueError,
            "n00000005_0.JPEG is no image that can be read",
        ),
        (
            "train/n00000005/images/n00000005_0.JPEG",
            lambda path: folders.write_image(path, 0, 60, 64),
            ValueError,
            "has 64 x 60 pixels, expected 64 x 64",
        ),
        (
            "train/n00000005/images/n00000005_0.JPEG",
            lambda path: path.rename(path.with_name("n00000006_1.JPEG")),
            ValueError,
            "of class n00000005 and is named as an image of n00000006",
        ),
        (
            "val/images/val_3.JPEG",
            remove,
            FileNotFoundError,
            "line 4, names.*val_3.JPEG, which is not there",
        ),
        (
            "val/val_annotations.txt",
            lambda path: path.write_text("val_0.JPEG\tn77\t0\t0\t0\t0\n"),
            ValueError,
            "line 1, gives 'val_0.JPEG' the class 'n77'",
        ),
        (
            "val/val_annotations.txt",
            lambda path: path.write_text(""),
            ValueError,
            "names no images",
        ),
    ],
)
def test_an_unfit_tiny_imagenet_is_refused_and_nothing_is_left(
    tmp_path, path, change, error, message
):
    source = tmp_path / "files"
    folders.write_tiny_imagenet(source, num_validation=5)
    change(source / path)
    with pytest.raises(error, match=message):
        data.prepare("tiny_imagenet", source, tmp_path / "data", False)
    assert prepared.find("tiny_imagenet", tmp_path / "data") is None


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cifar10"])
def test_real_files_come_back_equal_to_our_own_reader(
    real_data_dir, tmp_path, name
):
    """Every image, by way of the files of tensorflow-datasets."""
    images, labels = cifar.read_cifar(name, real_data_dir).test
    folder = data.prepare(name, real_data_dir, tmp_path, False)
    found = sorted(examples(folder, "test"), key=lambda each: each["id"])
    np.testing.assert_array_equal(
        np.array([folders.decoded(each["image"]) for each in found]), images
    )
    np.testing.assert_array_equal([each["label"] for each in found], labels)
    dataset = data.load(name, tmp_path)
    assert (len(dataset.train), len(dataset.test)) == (50_000, 10_000)
    order = np.argsort([each["id"] for each in examples(folder, "train")])
    train = cifar.read_cifar(name, real_data_dir).train
    position = np.argsort(dataset.train.indices)
    np.testing.assert_array_equal(
        dataset.train.images[position][order], train[0]
    )
    np.testing.assert_array_equal(
        dataset.train.labels[position][order], train[1]
    )
