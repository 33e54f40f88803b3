"""Impossible arguments and data are refused before anything is lost."""

import keras
import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd import evaluation
from keras_neokd import methods
from tests import arrays
from tests.refusals import bad
from tests.training import streams
from tests.training import tiny

IMAGES, LABELS = tiny.data(8)
GOOD = (IMAGES[:4], LABELS[:4])


def changed(value, where=(2, 3, 3, 0)):
    images = IMAGES[4:].copy()
    images[where] = value
    return images


under_torch = pytest.mark.skipif(
    keras.config.backend() != "torch", reason="of PyTorch only"
)

# Compile.


@pytest.fixture(scope="module")
def plain():
    return tiny.dense_model()


@pytest.mark.parametrize("missing", ["optimizer", "method", "attack"])
def test_compile_says_what_is_missing(plain, missing):
    with pytest.raises(ValueError, match=f"`compile` needs `{missing}`, for"):
        tiny.compiled(plain, **{missing: None})
    with pytest.raises(ValueError, match="`compile` needs `optimizer`"):
        plain.compile()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        bad("attack='max_average' does not say how", attack="max_average"),
        bad(r"PGD\(epsilon=8/255", attack="pgd"),
        bad(r"attack=.*PGD.fgsm\(epsilon=8/255\)", attack="fgsm"),
        bad("Unknown attack 'deepfool': .*'max_average'", attack="deepfool"),
        bad("does not say how strong", validation_attack="average"),
        bad(r"Unknown method 'neokd': .*'neo_kd'", method="neokd"),
        bad(r"epsilon > 0, .*epsilon=0\.0", attack=attacks.PGD(0, 0.1, 1)),
        bad(
            "epsilon=0 is for evaluation only",
            attack=attacks.MaxAverage(attacks.PGD(0, 0.1, 1)),
        ),
        bad(
            r"`exit_weights` needs one value per exit: expected 3, received 2",
            method=methods.NEOKD(exit_weights=(1, 1)),
        ),
        bad("expected 3, received 4", method=methods.NKD(1, (1, 1, 1, 1))),
        bad(
            "Exit index 3 does not exist: the model has 3 exits",
            attack=tiny.pgd(objective=attacks.SingleExit(3)),
        ),
        bad(
            "Exit index 5 does not exist",
            attack=attacks.MaxAverage(tiny.pgd(), exits=(0, 5)),
        ),
        bad(
            "Exit index -4 does not exist",
            validation_attack=tiny.pgd(objective=attacks.AverageExits((-4,))),
        ),
        bad("no_such_optimizer", optimizer="no_such_optimizer"),
        pytest.param(
            *bad(
                'jit_compile=True does not work under PyTorch.*"auto"',
                jit_compile=True,
            ),
            marks=under_torch,
        ),
        bad(
            "`learning_rate` needs a finite number >= 0, received -0.1",
            optimizer=keras.optimizers.SGD(-0.1),
        ),
        bad(
            "`attack` needs a keras_neokd.attacks.Attack", TypeError, attack=0.1
        ),
        bad("`method` needs a keras_neokd.methods.Method", TypeError, method=3),
        bad("`seed` needs an integer, received '0'", TypeError, seed="0"),
        bad("no argument `loss`: it is called `method`", TypeError, loss="mse"),
        bad(
            "no argument `atack`: it is called `attack`", TypeError, atack=None
        ),
        bad(
            "received <class .*PGD'> of type type",
            TypeError,
            attack=attacks.PGD,
        ),
        bad(
            "`attack_training_mode` needs True or",
            TypeError,
            attack_training_mode="no",
        ),
        bad("`run_eagerly` needs True or False", TypeError, run_eagerly="no"),
        bad("`jit_compile` needs True or False", TypeError, jit_compile=1),
        bad(
            "`steps_per_execution` needs an integ",
            TypeError,
            steps_per_execution="1",
        ),
    ],
)
def test_compile_refuses_what_does_not_fit(plain, arguments, error, message):
    with pytest.raises(error, match=message):
        tiny.compiled(plain, **arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"attack": attacks.PGD(0, 0.1, 1)},
        {"seed": -1},
        {"metrics": "accuracy"},
        {"optimizer": "no_such_optimizer"},
    ],
    ids=lambda arguments: next(iter(arguments)),
)
def test_a_refused_compile_leaves_the_model_as_it_was(arguments):
    model = tiny.dense_model()
    for compiled in (False, True):
        weights = model.get_weights()
        with pytest.raises((ValueError, TypeError)):
            tiny.compiled(model, **arguments)
        assert model.compiled is compiled
        assert len(model.trainable_variables) == len(weights)
        assert "exit_1" in model.predict(IMAGES[:1], verbose=0)
        tiny.compiled(model)


def test_training_before_compile_is_refused():
    with pytest.raises(ValueError, match="compile"):
        tiny.dense_model().fit(IMAGES, LABELS, verbose=0)


@pytest.mark.parametrize("method", [methods.EOKD, methods.NEOKD])
def test_eokd_needs_more_classes_than_exits(method):
    model = tiny.dense_model(num_exits=3, num_classes=3)
    with pytest.raises(ValueError, match="3 exits it needs at least 4 classes"):
        tiny.compiled(model, method=method())
    tiny.compiled(model, method=methods.NKD())
    tiny.compiled(tiny.dense_model(num_classes=4), method=method())


def test_the_paper_has_no_gamma_for_two_exits():
    model = tiny.dense_model(num_exits=2)
    with pytest.raises(ValueError, match=r"exit_weights=\(1\.0, 1\.0\)"):
        tiny.compiled(model, method="neo_kd")


@under_torch
def test_a_model_compiled_by_another_backend_is_still_loaded():
    model = tiny.compiled(tiny.dense_model())
    config = {**model.get_compile_config(), "jit_compile": True}
    model.compile_from_config(config)
    assert model.get_compile_config()["jit_compile"] == "auto"


# Inference mode of PyTorch.


@under_torch
def test_evaluation_leaves_inference_mode():
    import torch

    attack = tiny.pgd(num_steps=2)
    model = tiny.compiled(tiny.conv_model(), validation_attack=attack)

    def evaluated():
        images, labels = (torch.as_tensor(each) for each in (IMAGES, LABELS))
        logs = tiny.evaluate(model, images, labels)
        result = evaluation.anytime(model, IMAGES, LABELS, attack)
        return logs, result

    expected, expected_result = evaluated()
    with torch.inference_mode():
        logs, result = evaluated()
        step = model.test_on_batch(IMAGES, LABELS, return_dict=True)
    assert logs == step == expected
    assert repr(result) == repr(expected_result)
    model.train_on_batch(IMAGES, LABELS)  # No trace of it is left.


@under_torch
def test_what_needs_gradients_names_inference_mode(model):
    import torch

    weights = model.get_weights()
    with torch.inference_mode():
        for call in (
            lambda: tiny.pgd()(model.exit_logits(), IMAGES, LABELS),
            lambda: model.fit(IMAGES, LABELS, verbose=0),
            lambda: model.train_on_batch(IMAGES, LABELS),
        ):
            with pytest.raises(ValueError, match=r"torch.inference_mode\(\)"):
                call()
    tiny.assert_equal_states(weights, model.get_weights())


# Whole arrays.


@pytest.fixture(scope="module")
def shared():
    model = tiny.compiled(
        tiny.dense_model(),
        method="adversarial_training",
        attack=tiny.NoiseImages(),
    )
    return model, tiny.fresh(model)


BAD_IMAGES = {
    "above_1": (changed(1.001), r"pixels in \[0, 1\].*to 1\.001"),
    "below_0": (changed(-0.001), r"pixels in \[0, 1\].*from -0\.001"),
    "bytes": ((255 * IMAGES[4:]).astype("uint8"), "Divide 8-bit images by 255"),
    "nan": (changed(np.nan), "NaN or infinity in 1 of 4 images"),
    "infinite": (changed(-np.inf), "NaN or infinity in 1 of 4 images"),
    "no_channels": (IMAGES[4:, :, :, 0], r"Images need shape \(batch, 8, 8, 1"),
    "too_wide": (np.zeros((4, 8, 9, 1)), r"received \(4, 8, 9, 1\)"),
    "none": (np.zeros((0, 8, 8, 1)), "At least one image is needed"),
    "channels_first": (np.zeros((4, 1, 8, 8)), r"received \(4, 1, 8, 8\)"),
}
BAD_LABELS = {
    "too_large": (np.array([0, 1, 2, 8]), "from 0 to 7, received .* to 8"),
    "negative": (np.array([0, 1, 2, -1]), "received values from -1"),
    "fraction": (np.array([0, 1, 2, 0.5]), "fractional values such as 0.5"),
    "nan": (np.array([0, 1, 2, np.nan]), "fractional values such as nan"),
    "soft": (np.full((4, 8), 1 / 8), "Soft labels are not supported"),
    "two_hot": (np.eye(8)[:4] + np.eye(8)[4:], "to be one-hot"),
    "few_columns": (np.eye(4), "One-hot labels need 8 columns"),
    "per_exit": (np.zeros((4, 3, 1)), r"received \(4, 3, 1\)"),
    "too_few": (np.zeros(3), "4 images and 3 labels"),
    "list_per_exit": ([np.zeros(4)] * 3, "serves all exits.* a list of 3"),
}


def bad_arrays():
    for name, (images, message) in BAD_IMAGES.items():
        labels = LABELS[4 : 4 + len(images)]
        yield pytest.param(images, labels, message, id=f"images_{name}")
    for name, (labels, message) in BAD_LABELS.items():
        yield pytest.param(IMAGES[4:], labels, message, id=f"labels_{name}")


@pytest.mark.parametrize(("images", "labels", "message"), [*bad_arrays()])
def test_bad_arrays_are_refused_before_anything_runs(
    model, images, labels, message
):
    start = tiny.snapshot(model)
    calls = [
        lambda: model.fit(images, labels, verbose=0),
        lambda: model.fit(*GOOD, validation_data=(images, labels), verbose=0),
        lambda: model.evaluate(images, labels, verbose=0),
        lambda: model.train_on_batch(images, labels),
        lambda: model.test_on_batch(images, labels),
    ]
    if any(images is each for each, _ in BAD_IMAGES.values()):
        calls += [
            lambda: model.predict(images, verbose=0),
            lambda: model.predict_on_batch(images),
        ]
    for call in calls:
        with pytest.raises(ValueError, match=message):
            call()
    tiny.assert_equal_states(start, tiny.snapshot(model))


@pytest.mark.parametrize(
    "labels",
    [None, {"exit_1": LABELS, "exit_2": LABELS, "exit_3": LABELS}, 3],
    ids=["none", "dict_per_exit", "number"],
)
def test_labels_that_are_no_array_are_refused_in_words(model, labels):
    with pytest.raises((ValueError, TypeError), match="[Ll]abels"):
        model.fit(IMAGES, labels, verbose=0)


@pytest.mark.parametrize(
    "weights", [np.ones((8, 3)), np.full(8, np.nan)], ids=["per_exit", "nan"]
)
def test_sample_weights_are_checked_too(model, weights):
    start = tiny.snapshot(model)
    with pytest.raises(ValueError, match="`?sample_weight"):
        model.fit(IMAGES, LABELS, sample_weight=weights, verbose=0)
    tiny.assert_equal_states(start, tiny.snapshot(model))


# Streams.


STREAMS = {
    "tf_dataset": lambda each: streams.tf_dataset(*streams.joined(each)),
    "py_dataset": streams.Batches,
    "py_dataset_threads": lambda each: streams.Batches(each, workers=2),
    "data_loader": lambda each: streams.data_loader(*streams.joined(each)),
    "generator": iter,
}
BAD_BATCHES = {
    "range": ((changed(1.5), LABELS[4:]), r"pixels in \[0, 1\]"),
    "nan": ((changed(np.nan), LABELS[4:]), "finite pixels"),
    "label": ((IMAGES[4:], LABELS[4:] + 8), "class indices from 0 to 7"),
}


@pytest.mark.parametrize("name", BAD_BATCHES)
@pytest.mark.parametrize("kind", STREAMS)
def test_a_bad_batch_of_a_stream_stops_training_with_its_message(
    model, kind, name
):
    batch, message = BAD_BATCHES[name]
    stream = STREAMS[kind]([GOOD, batch])
    # TensorFlow reports what its own pipelines meet in its own way.
    error = ValueError if "py_dataset" in kind else Exception
    with pytest.raises(error, match=message):
        tiny.fit(model, stream)
    _assert_alive(model)


@pytest.mark.parametrize("call", ["fit", "evaluate", "predict"])
@pytest.mark.parametrize("position", ["first", "second"])
@pytest.mark.parametrize("kind", ["tf_dataset", "py_dataset", "data_loader"])
def test_a_bad_batch_leaves_the_model_alive(model, kind, position, call):
    weights = model.get_weights()
    batch, message = BAD_BATCHES["range"]
    batches = [batch, GOOD] if position == "first" else [GOOD, batch]
    arguments = {"shuffle": False} if call == "fit" else {}
    with pytest.raises(Exception, match=message):
        getattr(model, call)(STREAMS[kind](batches), verbose=0, **arguments)
    if call != "fit" or position == "first":
        tiny.assert_equal_states(weights, model.get_weights())
    _assert_alive(model)


def test_a_bad_batch_in_a_later_epoch_keeps_what_was_trained(model):
    stream = streams.Batches([GOOD])

    def spoil(epoch, logs):
        stream.batches = [BAD_BATCHES["range"][0]]

    with pytest.raises(Exception, match=r"pixels in \[0, 1\]"):
        tiny.fit(
            model,
            stream,
            epochs=2,
            validation_data=GOOD,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=spoil)],
        )
    # TensorFlow may have read a batch ahead.
    assert int(tiny.array(model.optimizer.iterations)) in (1, 2)
    _assert_alive(model)


@pytest.mark.skipif(
    keras.config.backend() == "torch", reason="one step per execution only"
)
def test_a_bad_batch_among_several_of_one_execution_leaves_the_model_alive():
    model = tiny.compiled(
        tiny.dense_model(num_exits=2),
        method="adversarial_training",
        attack=tiny.NoiseImages(),
        steps_per_execution=2,
    )
    batches = [GOOD, BAD_BATCHES["range"][0]]
    with pytest.raises(Exception, match=r"pixels in \[0, 1\]"):
        tiny.fit(model, streams.Batches(batches))
    assert all(np.isfinite(each).all() for each in model.get_weights())
    assert np.isfinite(model.predict(IMAGES, verbose=0)["exit_1"]).all()


def _assert_alive(model):
    """Weights are there, finite, and the model goes on training."""
    assert all(np.isfinite(each).all() for each in model.get_weights())
    assert np.isfinite(model.predict(IMAGES, verbose=0)["exit_1"]).all()
    logs = model.train_on_batch(*GOOD, return_dict=True)
    assert np.isfinite(logs["loss"])


def test_streams_need_labels_for_training(model):
    with pytest.raises(Exception, match="[Ll]abels"):
        tiny.fit(model, streams.Batches([(IMAGES[:4],)]))


def test_only_the_images_of_a_stream_are_predicted(model):
    expected = model.predict(IMAGES, verbose=0)
    for stream in (
        streams.Batches([GOOD, (IMAGES[4:], LABELS[4:])]),
        iter([(IMAGES[:4],), (IMAGES[4:],)]),
    ):
        predictions = model.predict(stream, steps=2, verbose=0)
        for name, values in expected.items():
            arrays.close(predictions[name], values, atol=1e-6)
