"""Training whose attack sees a network in 16 bits."""

import types

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd import losses
from keras_neokd import methods
from keras_neokd.backend import speed
from keras_neokd.training import Checkpoints
from keras_neokd.training import processes
from tests.network.test_lowered import dtypes_of_convolutions
from tests.training import tiny

IMAGES, LABELS = tiny.data(12)
PGD = tiny.pgd(3)
MAX_AVERAGE = attacks.MaxAverage(PGD)


def compiled(crafting_dtype="bfloat16", **arguments):
    return tiny.compiled(
        tiny.conv_model(), crafting_dtype=crafting_dtype, **arguments
    )


def trained(
    crafting_dtype, epochs=1, callbacks=None, initial_epoch=0, **arguments
):
    """Train on three batches an epoch; return the model and the history."""
    model = compiled(crafting_dtype, **arguments)
    labels = LABELS
    if model.method.num_examples is not None:
        labels = {"label": LABELS, "index": np.arange(len(LABELS))}
    history = model.fit(
        IMAGES,
        labels,
        batch_size=4,
        epochs=epochs,
        initial_epoch=initial_epoch,
        shuffle=False,
        verbose=0,
        callbacks=callbacks,
    ).history
    return model, history


# The adversarial images.


@pytest.mark.parametrize("attack", [PGD, MAX_AVERAGE], ids=["pgd", "max"])
def test_images_are_nearly_those_of_float32(attack):
    model = tiny.conv_model()
    images, labels = tiny.data(96)

    def losses_of(logits):
        values = [losses.cross_entropy(each, labels) for each in logits]
        return float(np.mean([*map(tiny.array, values)]))

    def craft(dtype):
        def function(images, labels, keys):
            predict = model.exit_logits().frozen(dtype)
            found = attack.generate(predict, images, labels, keys)[0]
            return found, ops.stack(predict.exact(found), axis=1)

        given = images, labels, np.arange(len(images), dtype="int32")
        run = backend.compile_function(function, model.variables)
        found, logits = run(*map(ops.convert_to_tensor, given))
        return tiny.array(found), losses_of(ops.moveaxis(logits, 1, 0))

    exact, exact_loss = craft("float32")
    found, loss = craft("bfloat16")
    assert found.dtype == exact.dtype == np.float32
    same = np.abs(found - exact) < 1e-6
    assert 0.97 < same.mean() < 1
    # Steps are as long as ever: pixels and their moves are not rounded.
    assert np.abs(found - images).max() == pytest.approx(0.1, abs=1e-6)
    before = losses_of(model.exit_logits()(ops.convert_to_tensor(images)))
    assert exact_loss - before > 0.1
    assert loss == pytest.approx(exact_loss, abs=0.02 * (exact_loss - before))


# The step.


def test_only_the_attack_of_training_is_lowered(monkeypatch):
    model = compiled(attack=PGD, validation_attack=PGD)
    seen = dtypes_of_convolutions(
        lambda: model.train_on_batch(IMAGES, LABELS), monkeypatch
    )
    # The first convolution sees pixels, the second is in between.
    assert seen[:2] == ["float32", "bfloat16"]
    assert set(seen[::2]) == {"float32"} and set(seen[1::2]) == {"bfloat16"}
    seen = dtypes_of_convolutions(
        lambda: model.test_on_batch(IMAGES, LABELS), monkeypatch
    )
    assert set(seen) == {"float32"}


def test_the_same_images_give_the_same_weights_bit_by_bit():
    attack = tiny.GivenImages(tiny.nearby(IMAGES))

    def step(dtype):
        model = compiled(dtype, attack=attack)
        model.train_on_batch(IMAGES, LABELS)
        return tiny.snapshot(model)

    lowered, exact = step("bfloat16"), step("float32")
    assert {each.dtype for each in lowered} <= {
        np.dtype(each) for each in ("float32", "int32", "uint32", "int64")
    }
    tiny.assert_equal_states(lowered, exact)


METHODS = {
    "neo_kd": tiny.neo_kd(),
    "trades": methods.TRADES(),
    "teat": methods.TEAT(len(IMAGES), num_epochs=2, variant="trades"),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods_log_nearly_the_losses_of_float32(name):
    def logs(dtype):
        model, history = trained(
            dtype,
            epochs=2,
            initial_epoch=1,  # The ramp of TEAT is 0 in the first.
            method=METHODS[name],
            attack=MAX_AVERAGE,
            crafting_batch_size=3,
            # Keras takes one at a time under PyTorch.
            steps_per_execution=1 + (keras.config.backend() != "torch"),
        )
        return history, model.training_step.state

    found, state = logs("bfloat16")
    expected, expected_state = logs("float32")
    assert set(found) == set(expected)
    # The divergence of TRADES hardly has a gradient where its attack starts,
    # so rounding decides about the first step.
    bound = 0.005 if name == "neo_kd" else 0.02
    assert found["loss"] == pytest.approx(expected["loss"], rel=bound)
    for key, values in expected_state.items():
        # Of clean images, which no attack has changed: not lowered.
        np.testing.assert_allclose(
            tiny.array(state[key]), tiny.array(values), atol=0.01
        )


def test_what_teat_keeps_of_clean_images_is_not_lowered():
    def averages(dtype):
        model = compiled(dtype, method=METHODS["teat"], attack=PGD)
        model.set_epoch(1)
        labels = {"label": LABELS, "index": np.arange(len(IMAGES))}
        model.train_on_batch(IMAGES, labels)
        (variable,) = model.training_step.state.values()
        return tiny.array(variable)

    exact = averages("float32")
    assert exact.any()
    np.testing.assert_allclose(averages("bfloat16"), exact, rtol=0, atol=1e-7)


@pytest.mark.parametrize(
    "attack",
    [
        attacks.PGD(1.0, 0.5, 2, norm="l2", num_restarts=2),
        attacks.APGD(0.1, num_steps=3),
        attacks.WorstCase([PGD, attacks.Square(0.1, num_queries=2)]),
        attacks.MaxAverage(tiny.pgd(2, num_restarts=2)),
    ],
    ids=lambda attack: type(attack).__name__,
)
def test_other_attacks_work_too(attack, monkeypatch):
    model = compiled(method="adversarial_training", attack=attack)
    seen = dtypes_of_convolutions(
        lambda: model.train_on_batch(IMAGES, LABELS), monkeypatch
    )
    assert set(seen) == {"float32", "bfloat16"}
    logs = model.get_metrics_result()
    assert all(np.isfinite(tiny.array(value)) for value in logs.values())


# What cannot be lowered.


def mixing():
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 3)(keras.layers.Conv2D(2, 3)(inputs))
    x = ops.transpose(keras.layers.Flatten()(x))
    x = keras.layers.Dense(tiny.NUM_CLASSES)(ops.transpose(x))
    return MultiExitModel(inputs, [x])


def in_bfloat16():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        inputs = keras.Input((8, 8, 1))
        x = keras.layers.Flatten()(inputs)
        x = keras.layers.Dense(tiny.NUM_CLASSES, dtype="float32")(x)
        return MultiExitModel(inputs, [x])
    finally:
        keras.config.set_dtype_policy("float32")


REFUSED = {
    "training_mode": (
        tiny.conv_model,
        {"attack_training_mode": True},
        "attack_training_mode=True runs the layers as they are",
    ),
    "mixed": (in_bfloat16, {}, r"compute in \['bfloat16', 'float32'\] already"),
    "dense": (
        tiny.dense_model,
        {},
        "no convolution between its first ones and its heads",
    ),
    "mixing": (mixing, {}, "do not keep the images of a batch apart"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bfloat16_is_refused_and_auto_is_float32_where_it_cannot_be(
    name, capsys, monkeypatch
):
    build, arguments, message = REFUSED[name]
    measured(monkeypatch, {"float32": [1.0], "bfloat16": [0.1]})
    arguments = {"method": "adversarial_training", **arguments}
    with pytest.raises(ValueError, match=f"cannot be 'bfloat16': .*{message}"):
        tiny.compiled(build(), crafting_dtype="bfloat16", **arguments)
    model = tiny.compiled(build(), crafting_dtype="auto", **arguments)
    assert model.settings.crafting_dtype == "float32"
    assert "crafting_dtype='auto' is 'float32' here" in capsys.readouterr().out


def test_a_method_without_attack_has_no_precision_to_choose(capsys):
    model = tiny.compiled(
        tiny.dense_model(),
        method="clean_training",
        attack=None,
        crafting_dtype="auto",
    )
    assert model.settings.crafting_dtype == "float32"
    assert not capsys.readouterr().out


@pytest.mark.parametrize("dtype", ["float16", "bf16", None, 16])
def test_unknown_precisions_are_refused(dtype):
    with pytest.raises(ValueError, match="`crafting_dtype`.*'auto'"):
        compiled(dtype)


# "auto".


def measured(monkeypatch, seconds):
    monkeypatch.setattr(backend, "convolves_16_bits", lambda: True)
    monkeypatch.setattr(speed, "seconds_of_passes", lambda: seconds)


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (
            {"float32": [1.3, 1.25, 2.0], "bfloat16": [1.1, 1.0, 1.0]},
            "bfloat16",
        ),
        ({"float32": [1.3, 1.15, 2.0], "bfloat16": [1.1, 1.0, 1.0]}, "float32"),
        # The fastest of bfloat16 does not count, nor the slowest of float32.
        ({"float32": [1.3, 9.0, 9.0], "bfloat16": [0.1, 1.2, 1.2]}, "float32"),
    ],
)
def test_auto_chooses_what_is_clearly_faster(
    seconds, expected, monkeypatch, capsys
):
    measured(monkeypatch, seconds)
    model = compiled("auto")
    assert model.get_compile_config()["crafting_dtype"] == expected
    printed = capsys.readouterr().out
    assert f"crafting_dtype='auto' is '{expected}' here: bfloat16" in printed
    assert "measured 1.2" in printed or expected == "float32"


def test_auto_measures_nothing_where_16_bits_are_known_to_be_slow(
    monkeypatch, capsys
):
    def refuse():
        raise AssertionError

    monkeypatch.setattr(backend, "convolves_16_bits", lambda: False)
    monkeypatch.setattr(speed, "seconds_of_passes", refuse)
    assert compiled("auto").settings.crafting_dtype == "float32"
    assert "convolves 16 bits in float32" in capsys.readouterr().out


def test_several_processes_do_not_measure_apart(monkeypatch):
    monkeypatch.setattr(processes, "num_processes", lambda: 2)
    with pytest.raises(ValueError, match="2 processes.*Choose 'float32' or"):
        compiled("auto")
    assert compiled("bfloat16").settings.crafting_dtype == "bfloat16"


# Files.


def test_a_saved_model_goes_on_in_the_precision_that_auto_chose(
    tmp_path, monkeypatch
):
    measured(monkeypatch, {"float32": [1.0], "bfloat16": [0.1]})
    model = compiled("auto")
    tiny.fresh(model)
    model.save(tmp_path / "model.keras")
    measured(monkeypatch, {"float32": [1.0], "bfloat16": [10.0]})
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    assert loaded.settings.crafting_dtype == "bfloat16"
    # Files of before say nothing of it.
    config = model.get_compile_config()
    del config["crafting_dtype"]
    model.compile_from_config(config)
    assert model.settings.crafting_dtype == "float32"


class Stop(keras.callbacks.Callback):
    """End training after an epoch."""

    def on_epoch_end(self, epoch, logs=None):
        self.model.stop_training = True


def test_a_resumed_training_ends_as_if_it_had_not_stopped(tmp_path):
    whole, _ = trained("bfloat16", epochs=2, attack=MAX_AVERAGE)
    first = [Checkpoints(tmp_path), Stop()]
    trained("bfloat16", epochs=2, attack=MAX_AVERAGE, callbacks=first)
    resumed, history = trained(
        "bfloat16",
        epochs=2,
        attack=MAX_AVERAGE,
        callbacks=[Checkpoints(tmp_path)],
    )
    assert len(history["loss"]) == 1
    tiny.assert_equal_states(
        *([tiny.array(each) for each in x.weights] for x in (resumed, whole))
    )


def test_a_training_does_not_go_on_in_another_precision(tmp_path):
    trained("bfloat16", callbacks=[Checkpoints(tmp_path)])
    with pytest.raises(ValueError, match="'bfloat16', and .* with 'float32'"):
        trained("float32", epochs=2, callbacks=[Checkpoints(tmp_path)])


def test_a_checkpoint_of_before_is_one_of_float32(tmp_path, monkeypatch):
    state = {}
    checkpoint = types.SimpleNamespace(state=state, path=tmp_path)
    from keras_neokd.training import run_identity

    run_identity.check_model(checkpoint, compiled("float32"))
    with pytest.raises(ValueError, match="crafting_dtype='float32', and"):
        run_identity.check_model(checkpoint, compiled("bfloat16"))
