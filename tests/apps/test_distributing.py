"""Settings of `config.distribution`, and what processes have to agree on."""

import types

import keras
import numpy as np
import pytest

from apps import distributing
from apps import training
from configs import digits
from keras_neokd import MultiExitModel
from keras_neokd import backend
from keras_neokd.training import processes
from tests.apps.tiny import tiny_config
from tests.apps.tiny import without_time
from tests.distributed import STRATEGY
from tests.distributed import needs_two_devices

BACKEND = keras.config.backend()


def config_of(**settings):
    config = tiny_config()
    config.distribution.update(settings)
    return config


def refused(config, message):
    with pytest.raises(ValueError, match=message), distributing.scope(config):
        pass


def test_an_unknown_strategy_is_refused():
    refused(config_of(strategy="all"), r"distribution\.strategy.*all.*mirrored")


@pytest.mark.parametrize(
    ("strategy", "needed"),
    [("mirrored", "tensorflow"), ("data_parallel", "jax")],
)
def test_a_strategy_of_another_backend_is_refused(strategy, needed):
    if BACKEND == needed:
        pytest.skip("its own backend")
    advice = {
        "tensorflow": "'mirrored'",
        "jax": "'data_parallel'",
        "torch": "one device under PyTorch: use 'none'",
    }[BACKEND]
    refused(
        config_of(strategy=strategy), f"needs KERAS_BACKEND={needed}.*{advice}"
    )


@pytest.mark.parametrize(
    ("settings", "variable"),
    [({"process_id": 0}, None), ({}, "KERAS_DISTRIBUTION_NUM_PROCESSES")],
)
def test_one_of_several_processes_cannot_train_alone(
    settings, variable, monkeypatch
):
    """Two of them would write to the same folder."""
    if variable:
        monkeypatch.setenv(variable, "2")
    name = variable or "process_id"
    refused(config_of(**settings), f"{name} say.*'none' trains in one.*unset")


def test_batch_norm_of_one_device_needs_no_synchronization():
    refused(config_of(synchronized_batch_norm=True), "needs several devices")


@pytest.mark.skipif(BACKEND != "jax", reason="joins no processes")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_processes": 2}, "missing: job_addresses, process_id.*ADDRESSES"),
        ({"num_processes": 2, "process_id": 2}, "process_id needs 0 to 1"),
        ({"num_processes": 2, "process_id": -1}, "process_id.*>= 0.*-1"),
        ({"num_processes": 0, "process_id": 0}, "num_processes.*>= 1.*0"),
        (
            {
                **{"num_processes": 3, "process_id": 0},
                "job_addresses": "a:1,b:1",
            },
            "of all 3 processes; received 2: a:1,b:1",
        ),
        (
            {"num_processes": 2, "process_id": 0, "job_addresses": "host"},
            "HOST:PORT.*received 'host'",
        ),
    ],
)
def test_wrong_settings_of_processes_are_refused(settings, message):
    if "process_id" in settings:
        settings = {"job_addresses": "a:1", **settings}
    refused(config_of(strategy="data_parallel", **settings), message)


@pytest.mark.skipif(BACKEND != "jax", reason="joins no processes")
def test_settings_of_processes_may_be_variables(monkeypatch):
    joined = []
    monkeypatch.setattr(
        keras.distribution, "initialize", lambda *given: joined.append(given)
    )
    monkeypatch.setenv("KERAS_DISTRIBUTION_JOB_ADDRESSES", "a:1,b:2")
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "2")
    monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", "0")
    # What the config says counts.
    config = config_of(strategy="data_parallel", process_id=1)
    with distributing.scope(config):
        assert joined == [("a:1", 2, 1)]
    monkeypatch.setenv("KERAS_DISTRIBUTION_NUM_PROCESSES", "two")
    refused(config, "NUM_PROCESSES needs an integer, received 'two'")


@pytest.mark.skipif(BACKEND != "jax", reason="joins no processes")
def test_processes_with_other_numbers_of_devices_are_refused(monkeypatch):
    import jax

    def devices(*counts):
        found = [
            types.SimpleNamespace(process_index=process)
            for process, count in enumerate(counts)
            for _ in range(count)
        ]
        monkeypatch.setattr(jax, "devices", lambda: found)

    joined = []
    monkeypatch.setattr(
        keras.distribution, "initialize", lambda *given: joined.append(given)
    )
    section = config_of(
        strategy="data_parallel",
        **{"job_addresses": "a:1", "num_processes": 3, "process_id": 0},
    ).distribution
    devices(4, 4, 4)
    distributing._join(section, None)
    devices(4, 2, 4)
    with pytest.raises(
        ValueError, match="4 on process 0, 2 on process 1, 4 on process 2.*CUDA"
    ):
        distributing._join(section, None)
    assert len(joined) == 2


@pytest.mark.skipif(BACKEND != "jax", reason="joins no processes")
def test_an_app_of_one_process_refuses_several():
    config = config_of(
        strategy="data_parallel",
        **{"job_addresses": "a:1", "num_processes": 2, "process_id": 0},
    )
    with (
        pytest.raises(ValueError, match="one process.*num_processes=2"),
        distributing.scope(config, max_processes=1),
    ):
        pass


@needs_two_devices
def test_a_scope_ends():
    with distributing.scope(config_of(strategy=STRATEGY)):
        if BACKEND == "jax":
            found = keras.distribution.distribution()
            assert found.device_mesh.devices.size == 2
        else:
            import tensorflow as tf

            assert tf.distribute.get_strategy().num_replicas_in_sync == 2
    if BACKEND == "jax":
        assert keras.distribution.distribution() is None
    else:
        assert not tf.distribute.has_strategy()


@pytest.fixture
def two_processes(monkeypatch):
    """As if another process had given some rows."""
    found = types.SimpleNamespace(num_processes=2, data_shard_id=1)
    monkeypatch.setattr(keras.distribution, "distribution", lambda: found)

    def answer(other):
        monkeypatch.setattr(
            backend,
            "gather_processes",
            lambda values: np.stack([other(values), values]),
        )

    return answer


def test_a_disagreement_names_what_differs(two_processes):
    facts = {"train.seed": 5, "data.name": "digits"}
    two_processes(lambda values: values)
    processes.agree(facts, "Do better.")

    def other(values):  # The first value is data.name's.
        return values + np.arange(len(values)).astype("int32")

    two_processes(other)
    with pytest.raises(
        ValueError,
        match=r"disagreement: the 2 .*\n  train.seed, here 5\nDo better",
    ) as raised:
        processes.agree(facts, "Do better.")
    assert "digits" not in str(raised.value)


def test_other_keys_are_a_disagreement(two_processes):
    two_processes(lambda values: values + 1)
    with pytest.raises(ValueError, match="settings that there are, here .'a'"):
        processes.agree({"a": 1}, "")


def test_flags_of_other_processes_are_heard_one_call_later(two_processes):
    two_processes(lambda values: np.array([0, 1], "int32"))
    asked = processes.AnyProcess()
    assert asked.any(False, False).tolist() == [False, False]
    assert asked.any(True, False).tolist() == [False, True]
    assert asked.any(False, False).tolist() == [True, True]
    assert asked.any_now(True, False).tolist() == [True, True]


def test_flags_of_one_process_are_heard_at_once():
    assert processes.AnyProcess().any(True, None).tolist() == [True, False]
    assert processes.AnyProcess.any_now(None).tolist() == [False]


needs_mirrored = pytest.mark.skipif(
    BACKEND != "tensorflow", reason="a TensorFlow strategy"
)


@needs_mirrored
@pytest.mark.parametrize(
    ("batch_size", "counts", "message"),
    [
        (
            1,
            {"training": 4},
            "A batch of 1 of the 4 training.*one of 2 devices",
        ),
        (8, {"training": 16, "validation": 9}, "of 1 of the 9 validation"),
        (8, {"training": 1}, "A batch of 1 of the 1"),
        (8, {"training": 18, "validation": 0}, None),
    ],
)
def test_batches_that_leave_a_device_idle_are_refused(
    batch_size, counts, message
):
    config = config_of(strategy="mirrored")
    config.data.batch_size = batch_size
    if message is None:
        distributing.check_batches(config, **counts)
        return
    with pytest.raises(ValueError, match=message):
        distributing.check_batches(config, **counts)


@needs_mirrored
@pytest.mark.parametrize("replicas", [3, 4])
def test_which_device_stays_idle_is_what_tensorflow_does(replicas, monkeypatch):
    """Each gets as many as the first: 5 for 4 devices are 2, 2, 1 and 0."""
    monkeypatch.setattr(
        distributing,
        "mirrored_strategy",
        lambda: types.SimpleNamespace(num_replicas_in_sync=replicas),
    )
    config = config_of(strategy="mirrored")
    config.data.batch_size = 100
    refused_sizes = []
    for size in range(1, 10):
        try:
            distributing.check_batches(config, training=size)
        except ValueError:
            refused_sizes.append(size)
    assert refused_sizes == {3: [1, 2, 4], 4: [1, 2, 3, 5, 6, 9]}[replicas]


@pytest.mark.parametrize(("validation", "count"), [("none", 0), ("clean", 9)])
def test_images_that_only_set_thresholds_need_not_fill_batches(
    validation, count, monkeypatch, tmp_path
):
    class Seen(Exception):
        pass

    def check(config, **counts):
        raise Seen(counts)

    monkeypatch.setattr(distributing, "check_batches", check)
    config = tiny_config()
    config.data.update({"num_train": 16, "validation_size": 9})
    config.train.validation = validation
    with pytest.raises(Seen) as raised:
        training.train(config, tmp_path)
    assert raised.value.args == ({"training": 16, "validation": count},)


def norm_model():
    """Return a model with batch norm, also in a model within it."""
    inputs = keras.Input((2, 2, 1))
    part = keras.Sequential(
        [keras.Input((2, 2, 1)), keras.layers.BatchNormalization()]
    )
    x = keras.layers.BatchNormalization()(part(inputs))
    x = keras.layers.Dense(2)(keras.layers.Flatten()(x))
    return MultiExitModel(inputs, {"exit_1": x})


@needs_mirrored
def test_attacks_cannot_wait_for_other_replicas():
    config = config_of(strategy="mirrored", synchronized_batch_norm=True)
    config.attack.training_mode = True
    refused(config, "does not go with attack.training_mode=True.*JAX")


@needs_mirrored
def test_batch_norm_is_synchronized_in_training_only():
    model = norm_model()
    norms = [model.layers[1].layers[0], model.layers[2]]
    config = config_of(strategy="mirrored", synchronized_batch_norm=True)
    with distributing.synchronized(model, config):
        assert [norm.synchronized for norm in norms] == [True, True]
    assert [norm.synchronized for norm in norms] == [False, False]
    with distributing.synchronized(model, config_of(strategy="mirrored")):
        assert not norms[0].synchronized


def test_configs_distribute_nothing_by_default():
    assert digits.get_config().distribution.strategy == "none"


@needs_two_devices
def test_a_run_on_two_devices_is_that_of_one(tmp_path):
    histories = []
    for name, settings in {"one": {}, "two": {"strategy": STRATEGY}}.items():
        config = config_of(**settings)
        config.data.update({"num_train": 51, "validation_size": 19})
        config.train.update({"epochs": 2, "validation": "attack"})
        # Dropout draws other masks on each of TensorFlow's devices.
        config.model.small_cnn_mnist.dropout = 0.0
        run = training.train(config, tmp_path / name)
        assert run.is_finished
        histories.append(run.read_history())
    for one, two in zip(*histories, strict=True):
        for key in without_time(one):
            assert one[key] == pytest.approx(two[key], abs=1e-4), key
