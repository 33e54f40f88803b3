"""Attacks on a few images of a batch at a time: the same images."""

import types

import keras
import numpy as np
import pytest
from keras import ops

from keras_neokd import attacks
from keras_neokd import backend
from keras_neokd import methods
from keras_neokd.training import checks
from keras_neokd.training import slices
from tests import arrays
from tests import saving
from tests.marks import slow
from tests.training import tiny

IMAGES, LABELS = tiny.data(10)
KEYS = np.arange(10, dtype="int32") * 7
MAX_AVERAGE = attacks.MaxAverage(tiny.pgd(num_steps=2))


@pytest.fixture(scope="module")
def model():
    return tiny.conv_model()


def craft(model, attack, largest, on_images=lambda images: None):
    """Attack the batch as a step does; `on_images` sees what it works on."""

    def function(images, labels, keys):
        predict = model.exit_logits().frozen()

        def craft_some(images, rows):
            on_images(images)
            if rows is None:
                return attack.generate(predict, images, labels, keys)
            return attack.generate(
                predict, images, ops.take(labels, rows), ops.take(keys, rows)
            )

        logged = attack.logged(model.num_exits)
        adversarial, info = slices.attack_in_slices(
            craft_some, images, largest, logged
        )
        return {"adversarial": adversarial, **info}

    compiled = backend.compile_function(function, model.variables)
    given = map(ops.convert_to_tensor, (IMAGES, LABELS, KEYS))
    results = compiled(*given)
    return {name: tiny.array(each) for name, each in results.items()}


@pytest.fixture(scope="module")
def at_once(model):
    return craft(model, MAX_AVERAGE, None)


@pytest.mark.parametrize("largest", [1, 4, 9, 11])
def test_slices_give_the_images_of_the_whole_batch(model, at_once, largest):
    found = craft(model, MAX_AVERAGE, largest)
    assert set(found) == {"adversarial", "selected_share"}
    for name, expected in at_once.items():
        arrays.close(found[name], expected, rtol=0, atol=1e-6, err_msg=name)
    # Not the clean images.
    assert np.abs(found["adversarial"] - IMAGES).max() > 0.04
    arrays.equal(found["selected_share"].sum(axis=1), 1)


def test_what_an_attack_logs_stays_with_its_image(model):
    attack = tiny.NoiseImages()  # Logs a number that is each image's own.
    expected = craft(model, attack, None)
    found = craft(model, attack, 4)
    assert len(np.unique(expected["noise"])) == len(IMAGES)
    arrays.equal(found["noise"], expected["noise"])


def test_no_slice_is_larger_than_asked_for(model):
    sizes = []
    craft(
        model, MAX_AVERAGE, 4, lambda images: sizes.append(ops.shape(images)[0])
    )
    # TensorFlow's slices have their size when they run.
    if keras.config.backend() != "tensorflow":
        assert set(sizes) == {4}
    # Equal parts: 5 and 5, not 6 and 4.
    sizes = []
    craft(
        model, MAX_AVERAGE, 6, lambda images: sizes.append(ops.shape(images)[0])
    )
    if keras.config.backend() != "tensorflow":
        assert set(sizes) == {5}


def test_many_slices_are_one_loop(model):
    calls = []
    craft(model, MAX_AVERAGE, 1, calls.append)
    # PyTorch runs each; the others trace one, some of them more than once.
    limit = 10 if keras.config.backend() == "torch" else 3
    assert 1 <= len(calls) <= limit


def test_slices_need_less_memory_than_the_batch(model):
    jax = pytest.importorskip("jax")
    if keras.config.backend() != "jax":
        pytest.skip("JAX tells what a compiled function needs")

    def needed(largest):
        def function(images, labels, keys):
            predict = model.exit_logits()

            def craft_some(images, rows):
                rows = ops.arange(64) if rows is None else rows
                return MAX_AVERAGE.generate(
                    predict, images, labels[rows], keys[rows]
                )

            return slices.attack_in_slices(craft_some, images, largest, {})[0]

        given = IMAGES.repeat(7, 0)[:64], LABELS.repeat(7)[:64], np.arange(64)
        compiled = jax.jit(function).lower(*given).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert needed(4) < 0.25 * needed(64)


def trained(crafting_batch_size, **arguments):
    """Return the logs and the state after batches of 4, 4 and 2 images."""
    model = tiny.compiled(
        tiny.dense_model(norm=True, dropout=0.5),
        **{
            "attack": attacks.MaxAverage(tiny.pgd()),
            "validation_attack": tiny.pgd(),
            "crafting_batch_size": crafting_batch_size,
            **arguments,
        },
    )
    labels = LABELS
    if model.method.num_examples is not None:
        labels = {"label": LABELS, "index": np.arange(10)}
    history = tiny.fit(
        model,
        IMAGES,
        labels,
        batch_size=4,
        epochs=2,
        initial_epoch=1,
        validation_data=(IMAGES[:5], LABELS[:5]),
    )
    return history, tiny.snapshot(model)


@pytest.mark.parametrize(
    "method",
    [
        slow(tiny.neo_kd()),
        # An inner objective with tensors of the batch, and a state.
        methods.TEAT(10, num_epochs=2, variant="trades"),
    ],
    ids=["neo_kd", "teat"],
)
def test_training_in_slices_is_the_same_training(method):
    history, state = trained(None, method=method)
    in_slices, state_of_slices = trained(3, method=method)
    tiny.assert_equal_logs(in_slices, history, tolerance=1e-4)
    tiny.assert_equal_states(state, state_of_slices, tolerance=1e-4)


def test_slices_are_part_of_a_saved_compilation(tmp_path):
    model = tiny.compiled(tiny.dense_model(), crafting_batch_size=2)
    tiny.fresh(model)
    loaded = saving.reloaded(model, tmp_path)
    assert loaded.get_compile_config()["crafting_batch_size"] == 2


@pytest.mark.parametrize("size", [0, -3])
def test_a_slice_has_at_least_one_image(size):
    with pytest.raises(ValueError, match="`crafting_batch_size`.*>= 1"):
        tiny.compiled(tiny.dense_model(), crafting_batch_size=size)


@pytest.mark.parametrize("size", [2.5, "all", True])
def test_the_size_of_a_slice_is_an_integer(size):
    with pytest.raises(TypeError, match="`crafting_batch_size`"):
        tiny.compiled(tiny.dense_model(), crafting_batch_size=size)


def test_a_slice_is_not_for_several_devices_of_a_distribution(monkeypatch):
    def put(devices):
        found = types.SimpleNamespace(
            device_mesh=types.SimpleNamespace(devices=np.empty(devices))
        )
        monkeypatch.setattr(keras.distribution, "distribution", lambda: found)

    put(1)
    checks.check_slices(32, False)
    put(4)
    checks.check_slices(None, False)
    with pytest.raises(ValueError, match="size=32 .*4 devices.*data_parallel"):
        checks.check_slices(32, False)


def test_images_that_see_each_other_are_not_crafted_in_slices():
    with pytest.raises(ValueError, match="share statistics.*Leave one"):
        tiny.compiled(
            tiny.dense_model(norm=True),
            crafting_batch_size=2,
            attack_training_mode=True,
        )
