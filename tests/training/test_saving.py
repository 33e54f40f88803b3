"""Saving and loading: the whole training, or the plain model."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest

from keras_neokd import attacks
from keras_neokd import methods
from keras_neokd import optimizers
from tests import arrays
from tests import saving
from tests.training import fresh_process
from tests.training import tiny

ROOT = Path(__file__).resolve().parents[2]
IMAGES, LABELS = tiny.data(8)


def build():
    """Compile with something other than the default everywhere."""
    return tiny.compiled(
        tiny.dense_model(norm=True),
        method=tiny.neo_kd(
            teacher="all", allocation="sample", divergence="kl", temperature=2.0
        ),
        attack=tiny.pgd(objective=attacks.AverageExits(exits=(0, 2))),
        metrics=[keras.metrics.SparseTopKCategoricalAccuracy(2, name="top_2")],
        validation_attack=tiny.pgd(
            norm="l2", objective=attacks.SingleExit(-1, loss="margin")
        ),
        attack_training_mode=True,
        seed=5,
    )


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A model after one epoch, its file, and what a fresh process did."""
    folder = tmp_path_factory.mktemp("saved")
    model = build()
    tiny.fit(model, IMAGES, LABELS, batch_size=4)
    model.save(folder / "model.keras")
    np.savez(folder / "data.npz", images=IMAGES, labels=LABELS)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.training.fresh_process",
            *(folder / name for name in ("model.keras", "data.npz")),
            folder / "results.npz",
        ],
        cwd=ROOT,
        env={**os.environ, "KERAS_BACKEND": keras.config.backend()},
        check=True,
    )
    return model, folder / "model.keras", dict(np.load(folder / "results.npz"))


def test_a_fresh_process_predicts_the_same(saved):
    model, _, results = saved
    predictions = model.predict(IMAGES, verbose=0)
    assert list(predictions) == list(tiny.NAMES)
    for name in tiny.NAMES:
        arrays.close(
            results[f"prediction:{name}"], predictions[name], atol=1e-6
        )


def test_a_fresh_process_has_the_optimizer_and_the_arguments(saved):
    model, _, results = saved
    state = fresh_process.optimizer_state(model)
    assert results["optimizer"].shape == state.shape
    arrays.equal(results["optimizer"], state)
    assert state[0] == 2  # Iterations.
    assert np.abs(state[2:]).max() > 0.1  # Velocities.
    assert str(results["setup"]) == fresh_process.setup(model)


def test_a_fresh_process_evaluates_the_same(saved):
    # Attack, metrics and seed of the validation are those of the saved model.
    model, _, results = saved
    arrays.close(
        results["evaluation"],
        fresh_process.evaluation(model, IMAGES, LABELS),
        atol=1e-5,
    )


def test_a_fresh_process_goes_on_as_if_nothing_had_been_saved(saved):
    model, _, results = saved
    start = tiny.snapshot(model)
    fresh_process.train(model, IMAGES, LABELS)
    after = {each.path: tiny.array(each) for each in model.weights}
    tiny.restore(model, start)
    for path, value in after.items():
        arrays.close(
            results[f"weight:{path}"], value, rtol=0, atol=1e-6, err_msg=path
        )


def test_without_compile_the_plain_model_is_loaded(saved):
    _, _, results = saved
    assert not results["plain_is_compiled"]
    assert str(results["plain_type"]) == "MultiExitModel"
    arrays.equal(results["plain_prediction"], results["prediction:exit_2"])


def test_all_arguments_of_compile_come_back(saved):
    _, path, _ = saved
    model = keras.models.load_model(path)
    setup = model.settings
    assert isinstance(model.optimizer, optimizers.TorchSGD)
    assert model.optimizer.momentum == 0.9
    assert model.optimizer.coupled_weight_decay == 5e-4
    assert isinstance(setup.method, methods.NEOKD)
    assert repr(setup.method) == repr(build().settings.method)
    assert setup.method.exit_weights == tiny.GAMMA
    assert setup.method.allocation == "sample"
    assert setup.attack.objective.exits == (0, 2)
    assert repr(setup.attack) == repr(build().settings.attack)
    assert setup.validation_attack.norm == "l2"
    assert setup.validation_attack.objective.loss == "margin"
    assert setup.attack_training_mode is True
    assert setup.seed == 5
    logs = model.test_on_batch(IMAGES, LABELS, return_dict=True)
    assert "exit_3_adversarial_top_2" in logs


def test_names_and_nested_attacks_come_back(tmp_path):
    attack = attacks.MaxAverage(tiny.pgd(), exits=(0, 2))
    model = tiny.compiled(
        tiny.dense_model(), method="neo_kd", attack=attack, metrics=["accuracy"]
    )
    tiny.fresh(model)
    loaded = saving.reloaded(model, tmp_path)
    assert repr(loaded.settings.method) == repr(methods.NEOKD())
    assert isinstance(loaded.settings.attack, attacks.MaxAverage)
    assert repr(loaded.settings.attack) == repr(attack)


# Keras says so where a file holds no velocities.
@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_a_compiled_model_can_be_saved_before_training(tmp_path):
    model = tiny.compiled(tiny.dense_model(), seed=np.int64(3))
    loaded = saving.reloaded(model, tmp_path)
    assert loaded.compiled
    assert loaded.settings.seed == 3


def test_a_model_that_was_never_compiled_comes_back_plain(tmp_path):
    model = tiny.dense_model()
    loaded = saving.reloaded(model, tmp_path)
    assert not loaded.compiled
    assert loaded.exit_names == tiny.NAMES
    assert loaded.get_compile_config() == {}
    tiny.assert_equal_states(loaded.get_weights(), model.get_weights())


@pytest.mark.filterwarnings("ignore:Skipping variable loading for optimizer")
def test_weights_files_hold_weights_only(tmp_path):
    model = tiny.compiled(tiny.dense_model(norm=True, dropout=0.5))
    tiny.fresh(model)
    model.set_weights([each + 1 for each in model.get_weights()])
    model.save_weights(tmp_path / "compiled.weights.h5")
    plain = tiny.dense_model(norm=True, dropout=0.5)
    plain.save_weights(tmp_path / "plain.weights.h5")
    assert _datasets(tmp_path / "compiled.weights.h5") == (
        _datasets(tmp_path / "plain.weights.h5")
    )
    assert len(model.get_weights()) == len(plain.get_weights())
    plain.load_weights(tmp_path / "compiled.weights.h5")
    tiny.assert_equal_states(plain.get_weights(), model.get_weights())
    # And back.
    other = tiny.compiled(tiny.dense_model(norm=True, dropout=0.5))
    plain.save_weights(tmp_path / "plain.weights.h5")
    other.load_weights(tmp_path / "plain.weights.h5")
    tiny.assert_equal_states(other.get_weights(), model.get_weights())


def _datasets(path):
    """Names and shapes of all arrays of a file but the optimizer's."""
    found = {}

    def visit(name, item):
        if isinstance(item, h5py.Dataset) and "optimizer" not in name:
            found[name] = item.shape

    with h5py.File(path) as file:
        file.visititems(visit)
    return found
