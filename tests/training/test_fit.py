"""The loops of Keras around the training step."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import data as library_data
from keras_neokd import methods
from tests.training import streams
from tests.training import tiny

IMAGES, LABELS = tiny.data(8)
BATCHES = [(IMAGES[:4], LABELS[:4]), (IMAGES[4:], LABELS[4:])]
VALIDATION = tiny.data(6, seed=5)


@pytest.fixture(scope="module")
def shared():
    model = tiny.compiled(tiny.dense_model(), validation_attack=tiny.pgd())
    return model, tiny.fresh(model)


def fit(model, *data, epochs=2, **arguments):
    return tiny.fit(model, *data, epochs=epochs, **arguments)


def fit_arrays(model, **arguments):
    return fit(model, IMAGES, LABELS, batch_size=4, **arguments)


@pytest.fixture(scope="module")
def of_arrays(shared):
    """History and final state of training on arrays, in order."""
    model, start = shared
    tiny.restore(model, start)
    history = fit_arrays(model, validation_data=VALIDATION)
    return history, tiny.snapshot(model)


def assert_same_training(model, history, of_arrays, tolerance=1e-6):
    expected, state = of_arrays
    if "val_loss" not in history:
        expected = {
            name: values
            for name, values in expected.items()
            if not name.startswith("val_")
        }
    tiny.assert_equal_logs(history, expected, tolerance=10 * tolerance)
    tiny.assert_equal_states(
        trained_part(model), trained_part(model, state), tolerance
    )


def trained_part(model, state=None):
    """Variables without the counters, which depend on what came last."""
    state = tiny.snapshot(model) if state is None else state
    counters = ("epoch", "examples_seen")
    variables = [*model.variables, *model.optimizer.variables]
    return [
        value
        for variable, value in zip(variables, state, strict=True)
        if variable.path not in counters
    ]


def test_training_and_validation_are_logged_for_every_epoch(of_arrays):
    history, _ = of_arrays
    assert all(len(values) == 2 for values in history.values())
    trained = {name for name in history if not name.startswith("val_")}
    assert {"loss", "nkd_loss", "exit_3_adversarial_accuracy"} <= trained
    assert {
        "val_loss",
        "val_clean_accuracy",
        "val_adversarial_accuracy",
        "val_exit_1_adversarial_loss",
    } <= set(history)
    assert history["loss"][1] < history["loss"][0]
    assert np.isfinite(list(history.values())).all()


# Kinds of data.


def _tf_dataset_of_unknown_sizes(sizes):
    tf = pytest.importorskip("tensorflow")
    return tf.data.Dataset.from_generator(
        lambda: zip(IMAGES, LABELS, strict=True),
        output_signature=(
            tf.TensorSpec(sizes, "float32"),
            tf.TensorSpec((), "int32"),
        ),
    ).batch(4)


def _grain_map_dataset():
    grain = pytest.importorskip("grain")
    return grain.MapDataset.source(_Examples()).batch(4)


def _grain_loader():
    grain = pytest.importorskip("grain")
    return grain.DataLoader(
        data_source=_Examples(),
        sampler=grain.samplers.IndexSampler(8, num_epochs=1, seed=0),
        operations=[grain.transforms.Batch(4)],
    )


class _Examples:
    def __len__(self):
        return 8

    def __getitem__(self, index):
        return IMAGES[index], LABELS[index]


def _forever(batches):
    while True:
        yield from batches


STREAMS = {
    "tf_dataset": (lambda: streams.tf_dataset(IMAGES, LABELS), {}),
    "py_dataset": (lambda: streams.Batches(BATCHES), {}),
    "py_dataset_threads": (lambda: streams.Batches(BATCHES, workers=2), {}),
    "data_loader": (lambda: streams.data_loader(IMAGES, LABELS), {}),
    "generator": (lambda: _forever(BATCHES), {"steps_per_epoch": 2}),
    "iterator": (lambda: iter(2 * BATCHES), {"steps_per_epoch": 2}),
    "tf_unknown_height_and_width": (
        lambda: _tf_dataset_of_unknown_sizes((None, None, 1)),
        {},
    ),
    "tf_unknown_rank": (lambda: _tf_dataset_of_unknown_sizes(None), {}),
    "grain_map_dataset": (_grain_map_dataset, {}),
    "grain_iter_dataset": (lambda: _grain_map_dataset().to_iter_dataset(), {}),
    "grain_loader": (_grain_loader, {}),
}
# Keras says so at the end of every stream whose length it does not know.
may_end = pytest.mark.filterwarnings("ignore:Your input ran out of data")


@may_end
@pytest.mark.parametrize("kind", STREAMS)
def test_streams_are_trained_on_and_tested_as_arrays(model, of_arrays, kind):
    stream, arguments = STREAMS[kind]
    steps = {"steps": 2} if arguments else {}
    expected = tiny.evaluate(model, IMAGES, LABELS, batch_size=4)
    tiny.assert_equal_logs(tiny.evaluate(model, stream(), **steps), expected)
    if kind != "generator":  # It never ends.
        expected = model.predict(IMAGES, batch_size=4, verbose=0)
        results = model.predict(stream(), steps=2, verbose=0)
        tiny.assert_equal_logs(results, expected)
    history = fit(model, stream(), **arguments)
    assert_same_training(model, history, of_arrays)


def test_validation_data_can_be_a_stream(model, of_arrays):
    validation = streams.data_loader(*VALIDATION)
    history = fit_arrays(model, validation_data=validation)
    assert_same_training(model, history, of_arrays)


@may_end
def test_validation_data_can_come_from_grain(model):
    history = fit_arrays(model, validation_data=_grain_map_dataset())
    expected = tiny.evaluate(model, IMAGES, LABELS, batch_size=4)
    for name, value in expected.items():
        assert history[f"val_{name}"][1] == pytest.approx(value, abs=1e-6)


def test_tensors_are_arrays_too(model, of_arrays):
    history = fit(
        model,
        ops.convert_to_tensor(IMAGES),
        ops.convert_to_tensor(LABELS),
        batch_size=4,
        validation_data=VALIDATION,
    )
    assert_same_training(model, history, of_arrays)


@pytest.fixture(scope="module")
def plain():
    """A model that is fast to compile, with an attack from the image on."""
    model = tiny.compiled(
        tiny.dense_model(),
        method=methods.AdversarialTraining(),
        attack=tiny.pgd(random_start=False),
    )
    return model, tiny.fresh(model)


def logs_of_a_step(plain, images):
    model, start = plain
    tiny.restore(model, start)
    stream = iter([(images, LABELS[:4])])
    return fit(model, stream, epochs=1, steps_per_epoch=1)


@pytest.mark.parametrize("dtype", ["float64", "float16", "uint8"])
def test_pixels_of_other_types_are_computed_in_float32(plain, dtype):
    # Seen by the attack as they are, epsilon would be rounded to their steps.
    images = IMAGES[:4].round() if dtype == "uint8" else IMAGES[:4]
    images = images.astype(dtype)
    tiny.assert_equal_logs(
        logs_of_a_step(plain, images),
        logs_of_a_step(plain, images.astype("float32")),
        tolerance=1e-5,
    )


def test_part_of_the_data_can_be_split_off_for_validation(model):
    history = fit_arrays(model, validation_split=0.5, epochs=1)
    assert "val_adversarial_accuracy" in history


# Weights of classes. `test_logs.py` has the values of one step.

BY_CLASS = np.linspace(0.25, 2.0, tiny.NUM_CLASSES)
CLASS_WEIGHT = dict(enumerate(BY_CLASS))
INDEXED = {"label": LABELS, "index": np.arange(8)}


def indexed_batches():
    batches = [
        (images, {"label": labels, "index": np.arange(4)})
        for images, labels in BATCHES
    ]
    return streams.Batches(batches)


INDEXED_DATA = {
    "arrays": lambda: (IMAGES, INDEXED),
    "py_dataset": lambda: (indexed_batches(),),
    "tf_dataset": lambda: (streams.tf_dataset(IMAGES, INDEXED),),
}


@pytest.mark.parametrize("kind", INDEXED_DATA)
def test_classes_weigh_labels_with_their_positions(shared, kind):
    # The form of labels that methods such as TEAT need.
    model, start = shared
    weighted = []
    for data, arguments in (
        ((IMAGES, LABELS), {"sample_weight": BY_CLASS[LABELS]}),
        (INDEXED_DATA[kind](), {"class_weight": CLASS_WEIGHT}),
    ):
        tiny.restore(model, start)
        size = {"batch_size": 4} if len(data) == 2 else {}
        weighted.append(fit(model, *data, epochs=1, **size, **arguments))
    tiny.assert_equal_logs(*weighted)


def test_classes_weigh_in_one_batch_with_positions(shared):
    model, start = shared
    logs = []
    for labels, arguments in (
        (LABELS, {"sample_weight": BY_CLASS[LABELS]}),
        (INDEXED, {"class_weight": CLASS_WEIGHT}),
    ):
        tiny.restore(model, start)
        step = model.train_on_batch(
            IMAGES, labels, return_dict=True, **arguments
        )
        logs.append(step)
    tiny.assert_equal_logs(*logs)


def test_classes_have_no_weights_in_validation(shared):
    model, start = shared
    histories = []
    for data, arguments in (
        ((IMAGES, LABELS), {"validation_split": 0.5}),
        (BATCHES[0], {"validation_data": BATCHES[1]}),
    ):
        tiny.restore(model, start)
        arguments = {"class_weight": CLASS_WEIGHT, **arguments}
        histories.append(fit(model, *data, batch_size=4, epochs=1, **arguments))
    tiny.assert_equal_logs(*histories)


@pytest.mark.parametrize(
    ("class_weight", "error", "message"),
    [
        ([1.0] * 8, TypeError, "`class_weight` needs a dict .* received list"),
        ({"0": 1.0}, ValueError, r"from 0 to 7 as keys.*class_weight\['0'\]"),
        ({8: 1.0}, ValueError, r"from 0 to 7 as keys.*class_weight\[8\]"),
        ({0: -1.0}, ValueError, r"class_weight\[0\]` needs .*>= 0"),
        ({0: "1"}, TypeError, r"class_weight\[0\]` needs a number"),
    ],
)
def test_weights_of_no_class_are_refused(model, class_weight, error, message):
    for call in (
        lambda: fit(model, IMAGES, LABELS, class_weight=class_weight),
        lambda: model.train_on_batch(IMAGES, LABELS, class_weight=class_weight),
    ):
        with pytest.raises(error, match=message):
            call()


# The same steps in other ways.


def test_batches_one_by_one_train_as_fit_does(model, of_arrays):
    for epoch in range(2):
        model.set_epoch(epoch)
        for images, labels in BATCHES:
            logs = model.train_on_batch(images, labels, return_dict=True)
    assert set(logs) == {
        name for name in of_arrays[0] if not name.startswith("val_")
    }
    tiny.assert_equal_states(
        trained_part(model), trained_part(model, of_arrays[1]), 1e-6
    )


def test_batches_in_an_order_of_their_own_keep_it(model):
    split = library_data.Split(IMAGES, LABELS, np.arange(len(IMAGES)))
    batches = library_data.TrainingBatches(split, batch_size=2, seed=3)
    for batch in batches:
        model.train_on_batch(*batch)
    expected = tiny.snapshot(model)
    start = tiny.compiled(tiny.dense_model(), validation_attack=tiny.pgd())
    start.fit(
        library_data.TrainingBatches(split, batch_size=2, seed=3), verbose=0
    )
    tiny.assert_equal_states(expected, tiny.snapshot(start))


def test_several_steps_per_execution_are_the_same_steps(of_arrays):
    model = tiny.compiled(
        tiny.dense_model(), validation_attack=tiny.pgd(), steps_per_execution=2
    )
    if keras.config.backend() == "torch":
        with pytest.raises(ValueError, match="`steps_per_execution` must be 1"):
            fit_arrays(model)
        return
    history = fit_arrays(model, validation_data=VALIDATION)
    assert_same_training(model, history, of_arrays)


@pytest.mark.skipif(
    keras.config.backend() == "jax", reason="eager JAX takes too long"
)
def test_eager_steps_are_the_same_steps(of_arrays):
    model = tiny.compiled(
        tiny.dense_model(), validation_attack=tiny.pgd(), run_eagerly=True
    )
    history = fit_arrays(model)
    assert_same_training(model, history, of_arrays, tolerance=1e-5)


def test_training_goes_on_where_it_stopped(model, of_arrays):
    first = fit_arrays(model, epochs=1)
    second = fit_arrays(model, initial_epoch=1, epochs=2)
    history = {name: first[name] + second[name] for name in first}
    assert_same_training(model, history, of_arrays)


def test_frozen_layers_stay_as_they_are():
    model = tiny.dense_model(num_exits=2)
    frozen = model.exit_model("exit_1").layers[1]
    frozen.trainable = False
    before = [tiny.array(each) for each in frozen.weights]
    tiny.compiled(model, method=methods.AdversarialTraining())
    model.train_on_batch(IMAGES[:4], LABELS[:4])
    tiny.assert_equal_states(before, [tiny.array(w) for w in frozen.weights])


def test_optimizers_of_keras_train_too():
    schedule = keras.optimizers.schedules.ExponentialDecay(0.01, 1, 0.5)
    model = tiny.compiled(
        tiny.dense_model(),
        optimizer=keras.optimizers.AdamW(schedule, clipnorm=1.0),
        method=methods.AdversarialTraining(),
    )
    history = fit_arrays(model, epochs=3)
    assert history["loss"][2] < history["loss"][0]
    assert int(ops.convert_to_numpy(model.optimizer.iterations)) == 6


# Callbacks.


def test_arguments_by_position_are_those_of_keras(model, of_arrays):
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: seen.append(epoch)
    )
    model.fit(IMAGES, LABELS, 6, 1, 0, [callback])
    assert seen == [0]
    by_position = model.evaluate(IMAGES, LABELS, 6, 0)
    by_name = model.evaluate(IMAGES, LABELS, batch_size=6, verbose=0)
    assert by_position == pytest.approx(by_name)


def test_callbacks_see_the_logs_of_batches_and_epochs(model):
    batches, epochs = tiny.LogsOfBatches(), []
    on_epoch = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epochs.append(dict(logs))
    )
    history = fit_arrays(
        model, validation_data=VALIDATION, callbacks=[batches, on_epoch]
    )
    assert [logs["val_loss"] for logs in epochs] == history["val_loss"]
    assert len(batches.logs) == 4
    trained = {name for name in history if not name.startswith("val_")}
    assert all(set(logs) == trained for logs in batches.logs)
    # The logs of the last batch are those of the epoch.
    assert batches.logs[1]["loss"] == pytest.approx(history["loss"][0])


@pytest.mark.parametrize("kind", ["one", "tuple", "list_object"])
def test_callbacks_come_alone_in_tuples_and_in_callback_lists(model, kind):
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(
            int(ops.convert_to_numpy(model.training_step.epoch))
        )
    )
    callbacks = {
        "one": lambda: callback,
        "tuple": lambda: (callback,),
        "list_object": lambda: keras.callbacks.CallbackList(
            [callback], add_history=True, model=model
        ),
    }[kind]()
    fit_arrays(model, callbacks=callbacks)
    # The model knows the epoch before any callback of the user runs.
    assert seen == [0, 1]


def test_data_that_depend_on_the_epoch_are_told_it(model):
    split = library_data.Split(IMAGES, LABELS, np.arange(8))
    batches = library_data.TrainingBatches(split, 4)
    seen = []
    callback = keras.callbacks.LambdaCallback(
        on_epoch_begin=lambda epoch, logs: seen.append(batches.epoch)
    )
    rest = library_data.RemainingBatches(batches, 1)
    fit(model, rest, initial_epoch=3, epochs=4, callbacks=[callback])
    fit(model, batches, initial_epoch=4, epochs=6, callbacks=[callback])
    fit(model, batches, callbacks=[callback])
    assert seen == [3, 4, 5, 0, 1]


def test_the_best_model_under_attack_is_kept(model, tmp_path):
    path = tmp_path / "best.keras"
    history = fit_arrays(
        model,
        epochs=3,
        validation_data=VALIDATION,
        callbacks=[
            keras.callbacks.ModelCheckpoint(
                path,
                monitor="val_adversarial_accuracy",
                mode="max",
                save_best_only=True,
            )
        ],
    )
    best = keras.models.load_model(path)
    results = tiny.evaluate(best, *VALIDATION)
    assert results["adversarial_accuracy"] == pytest.approx(
        max(history["val_adversarial_accuracy"])
    )


def test_training_stops_early_on_accuracy_under_attack(model):
    stop = keras.callbacks.EarlyStopping(
        monitor="val_adversarial_accuracy",
        mode="max",
        min_delta=2.0,  # No accuracy improves by that much.
        patience=1,
        restore_best_weights=True,
    )
    history = fit_arrays(
        model, epochs=5, validation_data=VALIDATION, callbacks=[stop]
    )
    assert len(history["loss"]) == 2


# Precision.


@pytest.fixture
def mixed_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    yield
    keras.config.set_dtype_policy("float32")


def test_mixed_precision_trains_with_float32_losses(mixed_bfloat16, of_arrays):
    model = tiny.compiled(tiny.dense_model(), validation_attack=tiny.pgd())
    assert model.layers[2].compute_dtype == "bfloat16"
    predictions = model.exit_logits()(ops.convert_to_tensor(IMAGES))
    assert all(
        keras.backend.standardize_dtype(each.dtype) == "float32"
        for each in predictions
    )
    history = fit_arrays(model, validation_data=VALIDATION)
    expected, _ = of_arrays
    assert set(history) == set(expected)
    assert history["loss"] == pytest.approx(expected["loss"], rel=0.03)
    assert history["loss"] != expected["loss"]
    assert history["loss"][1] < history["loss"][0]
