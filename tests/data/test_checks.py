"""Checked streams: the same batches, and an error where one is bad."""

import contextlib
import pickle

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd.data.checks import checked
from keras_neokd.data.streams import own_errors

SHAPE, NUM_CLASSES = (4, 4, 1), 3
RNG = np.random.default_rng(0)
BATCHES = [
    (
        RNG.random((2, *SHAPE)).astype("float32"),
        RNG.integers(0, NUM_CLASSES, 2),
        RNG.random(2).astype("float32"),
    )
    for _ in range(3)
]


REQUIREMENTS = {"image_shape": SHAPE, "num_classes": NUM_CLASSES}


def check(x, y=None):
    return checked(x, y, **REQUIREMENTS, labelled=False)[0]


class Batches(keras.utils.PyDataset):
    """Batches in memory; counts what it is asked."""

    def __init__(self, batches=BATCHES, **arguments):
        super().__init__(**arguments)
        self.batches = batches
        self.asked, self.begun, self.ended = [], 0, 0

    def __len__(self):
        return len(self.batches)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.batches[index]

    def on_epoch_begin(self):
        self.begun += 1

    def on_epoch_end(self):
        self.ended += 1


def tf_dataset(batches=BATCHES):
    tf = pytest.importorskip("tensorflow")
    columns = [np.concatenate(each) for each in zip(*batches, strict=True)]
    return tf.data.Dataset.from_tensor_slices(tuple(columns)).batch(2)


def data_loader(batches=BATCHES, **arguments):
    torch = pytest.importorskip("torch")
    columns = [
        torch.as_tensor(np.concatenate(each))
        for each in zip(*batches, strict=True)
    ]
    dataset = torch.utils.data.TensorDataset(*columns)
    return torch.utils.data.DataLoader(dataset, batch_size=2, **arguments)


STREAMS = {
    "tf_dataset": tf_dataset,
    "py_dataset": Batches,
    "data_loader": data_loader,
    "iterator": lambda batches=BATCHES: iter(batches),
}


def assert_same(found, batches):
    for batch, expected in zip(found, batches, strict=True):
        for a, b in zip(batch, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def read(stream):
    """Return all batches of a stream as tuples of arrays."""
    if isinstance(stream, keras.utils.PyDataset):
        stream = [stream[i] for i in range(stream.num_batches)]
    return [
        tuple(np.asarray(ops.convert_to_numpy(each)) for each in batch)
        for batch in stream
    ]


# What passes.


@pytest.mark.parametrize("convert", [np.asarray, ops.convert_to_tensor])
def test_arrays_and_tensors_are_returned_as_they_are(convert):
    images, labels = (convert(each) for each in BATCHES[0][:2])
    assert check(images, labels) is images
    assert check(images) is images


@pytest.mark.parametrize(
    ("kind", "num_parts"),
    [
        *((kind, number) for kind in STREAMS for number in (2, 3)),
        *((kind, 1) for kind in ("py_dataset", "data_loader", "iterator")),
    ],
)
def test_streams_return_the_same_batches(kind, num_parts):
    batches = [batch[:num_parts] for batch in BATCHES]
    found = read(check(STREAMS[kind](batches)))
    assert_same(found, batches)


def test_a_tf_dataset_of_images_alone():
    tf = pytest.importorskip("tensorflow")
    images = np.concatenate([batch[0] for batch in BATCHES])
    dataset = tf.data.Dataset.from_tensor_slices(images).batch(2)
    batches = [each.numpy() for each in check(dataset)]
    np.testing.assert_array_equal(np.concatenate(batches), images)


def test_a_tf_dataset_keeps_its_length_and_shapes():
    dataset = tf_dataset()
    result = check(dataset)
    assert int(result.cardinality()) == 3
    assert result.element_spec == dataset.element_spec


def test_a_py_dataset_keeps_its_settings_and_hooks():
    dataset = Batches(workers=3, max_queue_size=7, use_multiprocessing=True)
    result = check(dataset)
    assert (result.workers, result.max_queue_size) == (3, 7)
    assert result.use_multiprocessing is True
    assert result.num_batches == 3
    result.on_epoch_begin()
    result.on_epoch_end()
    assert (dataset.begun, dataset.ended) == (1, 1)


def test_a_py_dataset_of_unknown_length_stays_one():
    class Endless(keras.utils.PyDataset):
        @property
        def num_batches(self):
            return None

        def __getitem__(self, index):
            return BATCHES[index % 3]

    result = check(Endless())
    assert result.num_batches is None
    np.testing.assert_array_equal(result[4][0], BATCHES[1][0])


def test_a_data_loader_is_copied_and_not_changed():
    loader = data_loader(shuffle=False, drop_last=True)
    collate = loader.collate_fn
    result = check(loader)
    assert loader.collate_fn is collate
    assert type(result) is type(loader)
    assert len(result) == 3
    assert result.dataset is loader.dataset


def test_streams_are_read_when_they_are_asked():
    asked = []
    stream = check(asked.append(i) or batch for i, batch in enumerate(BATCHES))
    assert asked == []
    next(stream)
    assert asked == [0]
    dataset = Batches()
    result = check(dataset)
    assert dataset.asked == []
    result[2]
    assert dataset.asked == [2]


# What is refused.


def spoiled(column, value):
    """The third batch gets one wrong value."""
    batch = [each.copy() for each in BATCHES[2]]
    batch[column].flat[-1] = value
    return [*BATCHES[:2], tuple(batch)]


BAD = {
    "above": (spoiled(0, 1.01), r"Images need pixels in \[0, 1\]"),
    "below": (spoiled(0, -0.01), r"Images need pixels in \[0, 1\]"),
    "nan": (spoiled(0, np.nan), "Images need finite pixels"),
    "infinite": (spoiled(0, np.inf), "Images need finite pixels"),
    "large_label": (spoiled(1, 3), "class indices from 0 to 2"),
    "negative_label": (spoiled(1, -1), "class indices from 0 to 2"),
    "shape": (
        [(np.zeros((2, 4, 5, 1), "float32"), *each[1:]) for each in BATCHES],
        r"Images need shape \(batch, 4, 4, 1\), received \(\w+, 4, 5, 1\)",
    ),
    "rank": (
        [(each[0][..., 0], *each[1:]) for each in BATCHES],
        r"Images need shape",
    ),
    "soft_labels": (
        [(each[0], np.full((2, 3), 1 / 3), each[2]) for each in BATCHES],
        "Soft labels are not supported",
    ),
    "columns": (
        [(each[0], np.eye(2), each[2]) for each in BATCHES],
        "One-hot labels need 3 columns",
    ),
    "label_rank": (
        [(each[0], np.zeros((2, 1, 1), int), each[2]) for each in BATCHES],
        r"received \(2, 1, 1\)",
    ),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("kind", ["array", *STREAMS])
def test_a_bad_batch_is_refused_when_it_is_read(kind, bad):
    batches, message = BAD[bad]
    error = Exception if kind == "tf_dataset" else ValueError
    with pytest.raises(error, match=message):
        if kind == "array":
            check(*batches[2][:2])
        else:
            read(check(STREAMS[kind](batches)))


def test_an_error_of_anyone_else_is_not_replaced_by_one_read_ahead():
    batches, _ = BAD["nan"]
    stream = check(STREAMS["py_dataset"](batches))
    with pytest.raises(KeyError), own_errors(stream):
        with contextlib.suppress(ValueError):
            read(stream)
        raise KeyError


def test_an_error_of_tensorflow_is_replaced_by_one_of_the_same_call():
    class FromTensorFlow(Exception):
        __module__ = "tensorflow.python.framework.errors_impl"

    batches, message = BAD["nan"]
    stream = check(STREAMS["py_dataset"](batches))
    with pytest.raises(ValueError, match=message), own_errors(stream):
        with contextlib.suppress(ValueError):
            read(stream)
        raise FromTensorFlow
    with pytest.raises(FromTensorFlow), own_errors(stream):
        raise FromTensorFlow


def test_good_batches_before_a_bad_one_are_delivered():
    batches, message = BAD["above"]
    for kind in ("iterator", "tf_dataset", "data_loader"):
        stream = iter(check(STREAMS[kind](batches)))
        for expected in BATCHES[:2]:
            np.testing.assert_array_equal(
                ops.convert_to_numpy(next(stream)[0]), expected[0]
            )
        with pytest.raises(Exception, match=message):
            next(stream)


def test_more_labels_than_images_are_refused():
    images, labels, _ = BATCHES[0]
    with pytest.raises(ValueError, match="2 images and 4 labels"):
        check(images, np.tile(labels, 2))


def test_pixels_exactly_0_and_1_are_fine():
    images = np.stack([np.zeros(SHAPE), np.ones(SHAPE)])
    check(images, np.array([0, 2]))


class Iterable:
    """Batches of neither an array nor a kind of stream that Keras reads."""

    def __iter__(self):
        return iter(BATCHES)


NO_DATA = {
    "str": lambda: "images",
    "int": lambda: 3,
    "NoneType": lambda: None,
    "dict": lambda: {"input": BATCHES[0][0]},
    "list": lambda: BATCHES,
    "tuple": lambda: (BATCHES[0][0],),
    "Iterable": Iterable,
    "TensorDataset": lambda: data_loader().dataset,
}


@pytest.mark.parametrize("kind", NO_DATA)
def test_what_is_no_data_is_refused_by_its_type(kind):
    message = (
        f"Images come as one array .*; received {kind}. `numpy.stack` .*"
        r"torch.utils.data.DataLoader\("
    )
    with pytest.raises(TypeError, match=message):
        check(NO_DATA[kind](), BATCHES[0][1])


def test_a_distributed_dataset_is_told_of_the_one_before():
    tf = pytest.importorskip("tensorflow")
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    distributed = strategy.experimental_distribute_dataset(tf_dataset())
    message = "give the tf.data.Dataset itself.*Received DistributedDataset"
    with pytest.raises(TypeError, match=message):
        check(distributed)


def test_single_examples_of_a_tf_dataset_are_told_of_batches():
    message = r"\(batch, 4, 4, 1\), received \(4, 4, 1\) .*Its `batch` makes"
    with pytest.raises(ValueError, match=message):
        check(tf_dataset().unbatch())


# The structure of a batch.


def with_names(batch):
    return {"image": batch[0], "label": batch[1]}


NAMED = {
    "tf_dataset": lambda: tf_dataset().map(lambda *batch: with_names(batch)),
    "py_dataset": lambda: Batches([with_names(batch) for batch in BATCHES]),
    "data_loader": lambda: data_loader(collate_fn=collated_by_name),
    "iterator": lambda: (with_names(batch) for batch in BATCHES),
}


def collated_by_name(examples):
    return with_names(list(zip(*examples, strict=True)))


@pytest.mark.parametrize("kind", NAMED)
def test_batches_that_are_dicts_are_refused_with_their_keys(kind):
    message = (
        r"form \(images, labels\).* dict with the keys \['image', 'label'\]"
    )
    with pytest.raises(ValueError, match=message):
        read(check(NAMED[kind]()))


@pytest.mark.parametrize("num_parts", [0, 4])
def test_batches_of_other_lengths_are_refused(num_parts):
    batch = (*BATCHES[0], None)[:num_parts]
    with pytest.raises(ValueError, match=f"form .*received {num_parts} parts"):
        read(check(iter([batch])))


PER_EXIT = {
    "list": (lambda y: [y, y], "received a list of 2"),
    "tuple": (lambda y: (y, y), "received a tuple of 2"),
    "dict": (
        lambda y: {"exit_1": y, "exit_2": y},
        r"received .*\['exit_1', 'exit_2'\]",
    ),
}


@pytest.mark.parametrize("form", PER_EXIT)
def test_labels_and_weights_per_exit_are_refused(form):
    per_exit, received = PER_EXIT[form]
    images, labels, weights = BATCHES[0]
    for message, batch in (
        ("One array of labels serves all exits", (images, per_exit(labels))),
        (
            r"`sample_weight` needs one array \(batch,\), for all exits",
            (images, labels, per_exit(weights)),
        ),
    ):
        with pytest.raises(ValueError, match=f"{message}.* {received}"):
            checked(*batch, **REQUIREMENTS)
        with pytest.raises(ValueError, match=f"{message}.* {received}"):
            read(check(iter([batch])))


# Weights of classes.

BY_CLASS = np.array([0.5, 2.0, 3.0], "float32")


@pytest.mark.parametrize("kind", STREAMS)
def test_weights_of_classes_become_those_of_examples(kind):
    batches = [batch[:2] for batch in BATCHES]
    stream = STREAMS[kind](batches)
    weighted = checked(stream, **REQUIREMENTS, class_weights=BY_CLASS)[0]
    for (_, labels), (_, _, weights) in zip(
        batches, read(weighted), strict=True
    ):
        np.testing.assert_array_equal(weights, BY_CLASS[labels])


def test_weights_of_classes_and_of_examples_are_refused():
    images, labels, weights = BATCHES[0]
    with pytest.raises(ValueError, match="`class_weight` or weights of the"):
        checked(images, labels, weights, **REQUIREMENTS, class_weights=BY_CLASS)


# What workers are sent.


def test_what_checks_can_be_sent_to_spawned_workers():
    torch = pytest.importorskip("torch")
    loader = check(data_loader())
    collate = pickle.loads(pickle.dumps(loader.collate_fn))
    images, labels, _ = (torch.as_tensor(each) for each in BATCHES[0])
    examples = list(zip(images, labels, strict=True))
    np.testing.assert_array_equal(collate(examples)[0], BATCHES[0][0])
    examples[1] = (examples[1][0] + 2, examples[1][1])
    with pytest.raises(ValueError, match="pixels"):
        collate(examples)
    dataset = pickle.loads(pickle.dumps(check(Batches(workers=2))))
    np.testing.assert_array_equal(dataset[1][0], BATCHES[1][0])


def test_workers_that_run_already_are_not_used():
    loader = data_loader(num_workers=1, persistent_workers=True)
    loader._iterator = "reads without a check"
    assert check(loader)._iterator is None
    assert loader._iterator == "reads without a check"


@pytest.mark.slow
def test_persistent_workers_check_though_they_ran_before():
    batches = [(x + 2, *others) for x, *others in BATCHES]
    loader = data_loader(
        batches,
        num_workers=1,
        persistent_workers=True,
        multiprocessing_context="spawn",
    )
    next(iter(loader))
    with pytest.raises(ValueError, match="pixels"):
        read(check(loader))


@pytest.mark.slow
def test_spawned_workers_read_what_forked_ones_do():
    loader = check(data_loader(num_workers=1, multiprocessing_context="spawn"))
    assert_same(read(loader), BATCHES)
