"""Which precision training attacks are given: refusals, "auto", files."""

import types

import keras
import pytest
from keras import ops

from keras_neokd import MultiExitModel
from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd.backend import speed
from keras_neokd.training import processes
from keras_neokd.training import run_identity
from tests.training import tiny


def compiled(crafting_dtype="bfloat16", **arguments):
    return tiny.compiled(
        tiny.conv_model(), crafting_dtype=crafting_dtype, **arguments
    )


def measured(monkeypatch, seconds):
    monkeypatch.setattr(backend, "convolves_16_bits", lambda: True)
    monkeypatch.setattr(speed, "seconds_of_passes", lambda: seconds)


# What cannot be lowered.


def mixing():
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Conv2D(2, 3)(keras.layers.Conv2D(2, 3)(inputs))
    x = ops.transpose(keras.layers.Flatten()(x))
    x = keras.layers.Dense(tiny.NUM_CLASSES)(ops.transpose(x))
    return MultiExitModel(inputs, [x])


REFUSED = {
    "training_mode": (
        tiny.conv_model,
        {"attack_training_mode": True},
        "attack_training_mode=True runs the layers as they are",
    ),
    "mixed": (
        lambda: tiny.dense_model(dtype="mixed_bfloat16"),
        {},
        r"compute in \['bfloat16', 'float32'\] already, and attacks see",
    ),
    "float64": (
        lambda: tiny.dense_model(num_exits=1, dtype="float64"),
        {},
        r"compute in \['float32', 'float64'\], expected float32 alone",
    ),
    "dense": (
        tiny.dense_model,
        {},
        "no undilated convolution before its logits",
    ),
    "mixing": (mixing, {}, "do not keep the images of a batch apart"),
    "search": (
        tiny.conv_model,
        {"attack": attacks.APGD(0.1, num_steps=3)},
        "APGD judges each step, in float32",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bfloat16_is_refused_and_auto_is_float32_where_it_cannot_be(
    name, capsys, monkeypatch
):
    if name == "float64" and keras.config.backend() == "jax":
        pytest.skip("JAX computes in float32 unless it is told otherwise")
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


@pytest.mark.parametrize(
    ("seconds", "expected", "ratio"),
    [(0.8, "bfloat16", "1.25"), (2.0, "float32", "0.50")],
)
def test_auto_chooses_what_is_measured_to_be_faster(
    seconds, expected, ratio, monkeypatch, capsys
):
    measured(monkeypatch, {"float32": [1.0], "bfloat16": [seconds]})
    model = compiled("auto")
    assert model.get_compile_config()["crafting_dtype"] == expected
    assert capsys.readouterr().out == (
        f"crafting_dtype='auto' is '{expected}' here: bfloat16 was measured "
        f"{ratio} times as fast.\n"
    )


@pytest.fixture
def two_processes(monkeypatch):
    monkeypatch.setattr(processes, "num_processes", lambda: 2)


def test_several_processes_do_not_measure_apart(monkeypatch, two_processes):
    measured(monkeypatch, None)
    with pytest.raises(ValueError, match="2 processes.*Choose 'float32' or"):
        compiled("auto")
    assert compiled("bfloat16").settings.crafting_dtype == "bfloat16"
    # Nothing is measured here.
    model = tiny.compiled(tiny.dense_model(), crafting_dtype="auto")
    assert model.settings.crafting_dtype == "float32"


def test_devices_known_to_be_slow_are_not_measured(
    monkeypatch, capsys, two_processes
):
    measured(monkeypatch, None)
    monkeypatch.setattr(backend, "convolves_16_bits", lambda: False)
    assert compiled("auto").settings.crafting_dtype == "float32"
    assert "convolves 16 bits in float32" in capsys.readouterr().out
    # A warning is an error in these tests.
    with pytest.raises(UserWarning, match="='bfloat16' cannot make attacks fa"):
        compiled("bfloat16")


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


def test_a_checkpoint_of_before_is_one_of_float32(tmp_path, monkeypatch):
    measured(monkeypatch, None)
    state = {}
    checkpoint = types.SimpleNamespace(state=state, path=tmp_path)
    run_identity.check_model(checkpoint, compiled("float32"))
    with pytest.raises(ValueError, match="crafting_dtype='float32', and"):
        run_identity.check_model(checkpoint, compiled("bfloat16"))
